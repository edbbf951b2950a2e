#!/bin/sh
# Writes bindings/ anew, after a change of the contract. Needs: cargo install wit-bindgen-cli@0.63.0
set -eu
cd "$(dirname "$0")"
wit-bindgen c ../../../wit/policy.wit --world balancer-only --rename-world policy --out-dir bindings
