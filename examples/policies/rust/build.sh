#!/bin/sh
# build.sh [FILE]: Rust with wit-bindgen. Needs the target: rustup target add wasm32-unknown-unknown.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

has cargo || skip "no cargo"
target=wasm32-unknown-unknown
sysroot=$(rustc --print sysroot)
set --
if ! ls "$sysroot/lib/rustlib/$target/lib"/libstd-*.rlib >/dev/null 2>&1; then
    # Debian's compiler can build the standard library from Debian's package of its source.
    debian=$(/usr/bin/rustc --print sysroot 2>/dev/null) && [ -f "$debian/lib/rustlib/src/rust/library/std/Cargo.toml" ] ||
        skip "no Rust target $target; rustup target add $target"
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$(ls "$sysroot"/lib/rustlib/*/bin/rust-lld | head -n 1)
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER
    set -- -Zbuild-std=std,panic_abort
fi
if offline; then export CARGO_NET_OFFLINE=true; fi
timeout "$FETCH_SECONDS" cargo fetch --quiet --locked --target "$target" >&2 || skip "cargo cannot fetch the crates"
cargo build --quiet --release --locked --target "$target" --target-dir "$BUILD" "$@"
component "$BUILD/$target/release/by_zone.wasm"
