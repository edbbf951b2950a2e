#!/bin/sh
# build.sh [FILE]: Zig with bindings by hand. No generator wrote what world they are for, so --world tells.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

zig=$(from_pypi ziglang 0.17.0)/ziglang/zig
export ZIG_GLOBAL_CACHE_DIR="$WORK/zig-cache"
"$zig" build-exe by_zone.zig -target wasm32-freestanding -O ReleaseSmall -fno-entry -rdynamic \
    --cache-dir "$WORK/zig-cache" -femit-bin="$BUILD/by_zone.wasm"
component "$BUILD/by_zone.wasm" --world balancer-only
