#!/bin/sh
# build.sh [FILE]: JavaScript in SpiderMonkey. Everything of WASI is disabled: Weir offers none.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

unless_fresh
tool=$(from_npm @bytecodealliance/componentize-js 0.23.0)/node_modules/.bin/componentize-js
"$tool" by-zone.js --wit "$CONTRACT" --world-name balancer-only --disable stdio random clocks http fetch-event \
    --out "$OUT" >&2
