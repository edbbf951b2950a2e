#!/bin/sh
# build.sh [FILE]: JavaScript in QuickJS. --stub-wasi: Weir offers no WASI; --sync: calls are not asynchronous.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

unless_fresh
tool=$(from_npm componentize-qjs 0.4.5)/node_modules/.bin/componentize-qjs
"$tool" --wit "$CONTRACT" --world balancer-only --js by-zone.js --stub-wasi --sync --opt-size --minify \
    --output "$OUT" >&2
