#!/bin/sh
# build.sh [FILE]: Python in CPython, with bindings that componentize-py makes. --stub-wasi: Weir offers no WASI.
set -eu
cd "$(dirname "$0")"
. ../tools.sh

unless_fresh
tool=$(from_pypi componentize-py 0.25.1)
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$tool" "$tool/bin/componentize-py" --wit-path "$CONTRACT" --world balancer-only \
    componentize --stub-wasi by_zone --output "$OUT" >&2
