#!/bin/sh
# build.sh [FILE]: C with the bindings that wit-bindgen wrote. The compiler is Zig's clang, because it brings a libc for
# Wasm; any clang with wasi-libc does. Nothing of that libc that is used here calls WASI.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

zig=$(from_pypi ziglang 0.17.0)/ziglang/zig
export ZIG_GLOBAL_CACHE_DIR="$WORK/zig-cache"
"$zig" cc -target wasm32-wasi -mexec-model=reactor -Os -s -Wall -Wextra \
    -Wl,-z,stack-size=131072 by_zone.c json.c bindings/policy.c bindings/policy_component_type.o -o "$BUILD/by_zone.wasm"
component "$BUILD/by_zone.wasm"
