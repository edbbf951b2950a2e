# shellcheck shell=sh
# For the build scripts beside this: where things go, and the tools they need, in versions that are known to work. What
# is missing is fetched from the language's own registry into a folder under target/; nothing is installed. With
# WEIR_OFFLINE=1 nothing is fetched.
#
# A build script takes the file to write, and ends with status 77 and a reason where a tool cannot be had.

LANGUAGE=$(basename "$PWD")
if [ -d wit ]; then
    # A project that `weir policy new` made has all it needs in its own folder.
    SHARED=. ROOT=$PWD WORK=$PWD/target OUT=${1:-$PWD/$LANGUAGE.wasm}
else
    SHARED=.. ROOT=$(cd ../../.. && pwd)
    WORK=${CARGO_TARGET_DIR:-$ROOT/target}/policies
    OUT=${1:-$WORK/$LANGUAGE.wasm}
fi
TOOLS=$WORK/tools
CONTRACT=$ROOT/wit/policy.wit
BUILD=$WORK/$LANGUAGE
# A registry that does not answer must not keep anybody waiting longer than this for one package.
FETCH_SECONDS=600
mkdir -p "$BUILD" "$TOOLS" "$(dirname "$OUT")"
# One build of a language at a time.
exec 9>"$BUILD/lock"
! command -v flock >/dev/null || flock 9

# Ends the script: this machine cannot build for this language.
skip() {
    echo "skipped: $*" >&2
    exit 77
}

has() { command -v "$1" >/dev/null 2>&1; }

offline() { [ "${WEIR_OFFLINE-}" = 1 ]; }

# component MODULE [FLAG]...: makes the component, by `weir policy component`.
component() {
    built=${CARGO_TARGET_DIR:-$ROOT/target}/debug/weir
    if [ -z "${WEIR-}" ]; then
        if [ -x "$built" ]; then WEIR=$built; else WEIR=weir; fi
    fi
    # Under `make test` that is no loss: the suite of the languages calls this script again, and is a weir itself.
    has "$WEIR" || skip "compiled, but weir, which makes a component of it, is not built yet; \`make test\` does this last" \
        "step later by itself; without it: cargo build --package weir, and again"
    "$WEIR" policy component "$@" -o "$BUILD/component.wasm"
    mv "$BUILD/component.wasm" "$OUT"
}

# Ends the script if what it would write is newer than all it is made of.
unless_fresh() {
    [ ! -e "$OUT" ] || [ -n "$(find . "$SHARED/tools.sh" "$CONTRACT" -path ./target -prune -o -newer "$OUT" -print)" ] || exit 0
}

# fetch NAME VERSION COMMAND...: the folder of that package, which COMMAND with the folder at its end brings once.
fetch() {
    folder=$TOOLS/$1-$2
    package="$1 $2"
    shift 2
    if [ ! -e "$folder" ]; then
        offline && skip "$package is not here, and nothing is fetched now"
        has "$1" || skip "$package needs $1 to be fetched"
        # Renamed when it is complete: whoever else looks sees all of it or nothing.
        mkdir -p "$(dirname "$folder")"
        part=$(mktemp -d "$TOOLS/fetch.XXXXXX")
        status=0
        timeout "$FETCH_SECONDS" "$@" "$part/it" >&2 || status=$?
        [ $status -ne 0 ] || mv -T "$part/it" "$folder" 2>/dev/null || [ -e "$folder" ] || status=$?
        rm -rf "$part"
        [ $status -eq 0 ] || skip "$1 cannot fetch $package"
    fi
    echo "$folder"
}

# from_pypi NAME VERSION: the folder with that package of PyPI.
from_pypi() {
    fetch "$1" "$2" python3 -m pip install --quiet --no-deps --only-binary :all: --no-input --disable-pip-version-check \
        --root-user-action ignore "$1==$2" --target
}

# from_npm NAME VERSION: the folder with that package of npm in its node_modules.
from_npm() {
    fetch "$1" "$2" npm install --silent --no-audit --no-fund "$1@$2" --prefix
}
