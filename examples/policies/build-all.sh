#!/bin/sh
# Builds the policy in every language, or in those named, into target/policies/. Prints a line for each; ends with 1 if
# one of them fails. What cannot be built here for want of a tool is no failure, and says so.
set -u
cd "$(dirname "$0")"
out=${CARGO_TARGET_DIR:-../../target}/policies
mkdir -p "$out"
out=$(cd "$out" && pwd)

failed=0
for language in ${*:-rust javascript python c zig go}; do
    status=0
    "$language/build.sh" "$out/$language.wasm" 2>"$out/$language.log" || status=$?
    case $status in
    0) echo "$language: built, $(wc -c <"$out/$language.wasm") bytes, $(gzip -c "$out/$language.wasm" | wc -c) packed" ;;
    77) echo "$language: $(tail -n 1 "$out/$language.log")" ;;
    *)
        echo "$language: FAILED"
        cat "$out/$language.log"
        failed=1
        ;;
    esac
done
exit $failed
