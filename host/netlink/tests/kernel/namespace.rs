//! Network namespaces for tests.

use std::fs;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, getsockopt, setsockopt, socket};
use nix::unistd::{getegid, geteuid};

/// Makes namespaces possible for the whole program. Must run before any thread exists: the kernel gives a new
/// user namespace to single-threaded processes only.
pub(crate) fn enter() -> Result<(), String> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("unshare(CLONE_NEWNET): {error}"));
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("unshare(CLONE_NEWUSER|CLONE_NEWNET): {error}"))?;
    // Root inside, so that the nft tool keeps its capabilities when it is started.
    for (file, line) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        fs::write(file, line).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(())
}

/// Runs `test` on a thread in a fresh network namespace; a panic there is the error.
pub(crate) fn isolated(test: fn()) -> Result<(), String> {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("the program has made sure that this is allowed");
        test();
    };
    std::thread::spawn(run).join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("the test panicked").to_owned()
    })
}

/// What a test needs besides a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    Kernel,
    /// The nft tool, as a witness or as somebody else who writes rules.
    Nft,
    /// Owned tables that persist: Linux 6.9.
    Owners,
    /// Both.
    NftAndOwners,
    /// A send buffer of that many bytes. It takes privileges beyond a user namespace, or a system that allows it to all.
    SendBuffer(usize),
}

impl Needs {
    /// What is missing on this machine.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Nft | Self::NftAndOwners if !has_nft() => Some("the nft tool (package nftables)".to_owned()),
            Self::Owners | Self::NftAndOwners if !kernel_has_persistent_owners() => {
                Some("a kernel with owned tables that persist (6.9)".to_owned())
            }
            Self::SendBuffer(bytes) if send_buffer(bytes).is_none_or(|got| got < bytes) => {
                Some(format!("a send buffer of {bytes} bytes (root, or net.core.wmem_max)"))
            }
            _ => None,
        }
    }
}

/// Whether the nft tool is there.
pub(crate) fn has_nft() -> bool {
    Command::new("nft").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The send buffer a netlink socket gets when it asks for `bytes`.
fn send_buffer(bytes: usize) -> Option<usize> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkNetFilter).ok()?;
    setsockopt(&socket, SndBufForce, &bytes).or_else(|_| setsockopt(&socket, SndBuf, &bytes)).ok()?;
    getsockopt(&socket, SndBuf).ok()
}

/// Judged by the version `uname` prints.
pub(crate) fn kernel_has_persistent_owners() -> bool {
    let release = nix::sys::utsname::uname().expect("uname").release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(9))
}

/// What `nft` prints for these arguments in this thread's namespace; it must succeed.
pub(crate) fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).output().expect("nft starts");
    assert!(
        output.status.success(),
        "nft {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Loads `ruleset`, in nft syntax, with `nft -f`.
pub(crate) fn nft_load(ruleset: &str) {
    use std::io::Write;
    let mut child =
        Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nft starts");
    child.stdin.take().unwrap().write_all(ruleset.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft -f: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}
