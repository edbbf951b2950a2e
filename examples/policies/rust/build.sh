#!/bin/sh
# build.sh [FILE]: Rust with wit-bindgen. Needs the target: rustup target add wasm32-unknown-unknown.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

has cargo || skip "no cargo"
[ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib" ] ||
    skip "no Rust target wasm32-unknown-unknown; rustup target add wasm32-unknown-unknown"
cargo build --quiet --release --locked --target wasm32-unknown-unknown --target-dir "$BUILD"
weir policy component "$BUILD/wasm32-unknown-unknown/release/by_zone.wasm" -o "$OUT"
