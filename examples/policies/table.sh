#!/bin/sh
# Measures the policy in every language that was built (build-all.sh), or in those named, and prints the table of
# docs/languages.md. WEIR names the program to measure with; a release build is what counts:
#
#   cargo build --release --package weir && WEIR=../../target/release/weir ./table.sh
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-../../target}
weir=${WEIR:-$target/debug/weir}

# figure NAME: that figure of a report.
figure() { sed -n "s/^ *\"$1\": \([0-9.]*\),*$/\1/p"; }
# unit DIVISOR: a number in a larger unit, with a digit behind the point where there are few before it.
unit() { awk -v by="$1" '{ n = $1 / by; printf (n < 10 ? "%.1f" : "%.0f"), n }' | sed 's/\([0-9]\)\([0-9]\{3\}\)$/\1 \2/'; }

echo "| language | size | gzip | compiled in | a call, 10 endpoints | a call, 1 000 endpoints | fuel for 10, thousands | for 1 000 | memory |"
echo "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
for language in ${*:-c rust zig go javascript python}; do
    file=$target/policies/$language.wasm
    if [ ! -e "$file" ]; then
        echo "$language: not built" >&2
        continue
    fi
    small=$("$weir" policy bench "$file" --services 1 --endpoints 10 --rounds 50 -o json)
    large=$("$weir" policy bench "$file" --services 1 --endpoints 1000 --rounds 20 -o json)
    # The faster of two: whatever else runs only adds to it.
    compiled=$(printf '%s\n' "$small" "$large" | figure compileMillis | sort -n | head -n 1)
    of_small() { echo "$small" | figure "$1"; }
    of_large() { echo "$large" | figure "$1"; }
    echo "| $language | $(wc -c <"$file" | unit 1024) KiB | $(gzip -9 -c "$file" | wc -c | unit 1024) KiB" \
        "| $(echo "$compiled" | unit 1) ms | $(of_small callMicros | unit 1) µs | $(of_large callMicros | unit 1) µs" \
        "| $(of_small fuelPerCall | unit 1000) | $(of_large fuelPerCall | unit 1000) | $(of_large memory | unit 1048576) MiB |"
done
