#!/bin/sh
# Brings a Debian or Ubuntu machine that has rustup to where Weir builds and its tests run.
#
#   setup.sh         what building, the demo and most tests need
#   setup.sh tests   also the servers, clients and tools of other tests
#
# Looks first and installs only what is missing, so a second run does nothing and takes a moment. Ends with one
# message and status 1 when something is missing that it cannot install.
set -eu
cd "$(dirname "$0")/.."

TARGET=wasm32-unknown-unknown
# rustup's download is some 20 MB; a machine without a way to it must not keep us waiting longer than this.
RUSTUP_SECONDS=120
# nft and ip live where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin:/sbin

say() { echo "setup: $*" >&2; }

die() {
    say "$*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Runs apt-get as root; fails when we cannot become root without somebody to type a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        return 1
    fi
}

apt_install() {
    has apt-get || return 1
    say "installing $*"
    # Lists may be absent or old. One mirror that does not answer is no reason to stop: the install decides.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 || true
    # Never by removing something else: rustc-web, for one, conflicts with Debian's plain rustc.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "$@" >&2
}

# --- Libraries and tools -------------------------------------------------------------------------------------------

missing=
needs() { missing="$missing $1"; }
has cc || needs gcc
has cc && [ -e /usr/include/stdio.h ] || needs libc6-dev
has make || needs make
if has pkg-config; then
    # Linked by weir-netlink.
    pkg-config --exists libnftnl || needs libnftnl-dev
    pkg-config --exists libmnl || needs libmnl-dev
else
    needs pkg-config
    needs libnftnl-dev
    needs libmnl-dev
fi
# The tests' independent witness; Weir itself never runs it.
has nft || needs nftables
# Makes the links between the namespaces of the demo and the tests.
has ip || needs iproute2
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # one word per package
    apt_install $missing || die "missing:$missing. Install these packages (Debian's names) as root, then try again."
fi

# --- Servers and clients of the tests --------------------------------------------------------------------------------

# Installs packages whose services must not run here: the tests start the programs themselves, in namespaces.
# `policy-rc.d` is how Debian lets an administrator say so; one that is there already is left to decide.
POLICY=/usr/sbin/policy-rc.d
apt_install_at_rest() {
    if [ -e "$POLICY" ]; then
        apt_install "$@"
        return
    fi
    trap 'as_root rm -f "$POLICY"' EXIT
    trap 'exit 1' HUP INT TERM
    as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$POLICY && chmod 755 $POLICY" || return 1
    status=0
    apt_install "$@" || status=$?
    as_root rm -f "$POLICY"
    trap - EXIT HUP INT TERM
    return "$status"
}

if [ "${1-}" = tests ]; then
    missing=
    has nginx || needs nginx-light
    has dnsmasq || needs dnsmasq-base
    has docker-registry || needs docker-registry
    has openssl || needs openssl
    has curl || needs curl
    # kube-proxy's other layout, loaded once in a namespace to see that it is one.
    has iptables-restore || needs iptables
    if [ -n "$missing" ]; then
        # No reason to run no test at all: those that need them say so, and fail with REQUIRE_NETNS=1.
        # shellcheck disable=SC2086 # one word per package
        apt_install_at_rest $missing || say "missing:$missing. Some tests need these packages (Debian's names)."
    fi
fi

# --- Rust, with the Wasm target ------------------------------------------------------------------------------------

has rustup && has cargo || die "missing: rustup. See https://rustup.rs, then try again."
rustc --version >/dev/null 2>&1 || rustup toolchain install >&2 ||
    die "missing: the Rust toolchain that rust-toolchain.toml names, and rustup cannot install it (its reason stands above)."

# The two ways to compile for Wasm; host/guest-build/src/toolchain.rs looks for them in the same order.
wasm_by_rustup() { ls "$(rustc --print sysroot)/lib/rustlib/$TARGET/lib"/libstd-*.rlib; } >/dev/null 2>&1
wasm_by_debian() { [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]; } 2>/dev/null

if ! wasm_by_rustup && ! wasm_by_debian; then
    say "installing the Rust target $TARGET"
    timeout "$RUSTUP_SECONDS" rustup target add "$TARGET" >&2 || {
        say "rustup cannot install it; trying Debian's packages instead"
        apt_install rustc-web rust-web-src || true
    }
    wasm_by_rustup || wasm_by_debian ||
        die "missing: the Rust target $TARGET. \`rustup target add $TARGET\` fails here (its reason stands above), and so does" \
            "\`apt-get install rustc-web rust-web-src\`, Debian's way to it."
fi
