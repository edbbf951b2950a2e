#!/bin/sh
# Builds the policy and makes it a component: policy-name.wasm.
# Needs Rust with the target: rustup target add wasm32-unknown-unknown
set -eu
cd "$(dirname "$0")"
cargo build --release --target wasm32-unknown-unknown --target-dir target
"${WEIR:-weir}" policy component target/wasm32-unknown-unknown/release/policy_name.wasm -o policy-name.wasm
