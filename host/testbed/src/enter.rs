//! The way into the sandbox: namespaces of our own, with root or without.

use std::fmt;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid};

/// Set to `1`, a suite that cannot enter the sandbox fails instead of being skipped. CI sets it.
const REQUIRE: &str = "REQUIRE_NETNS";

/// Why the process cannot have network namespaces of its own, with what to do about it.
#[derive(Debug)]
pub struct EnterError {
    step: &'static str,
    source: io::Error,
    hint: Option<String>,
}

impl fmt::Display for EnterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.step, self.source)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for EnterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Moves the process into a network namespace of its own, and without root first into a user namespace in which it is
/// root.
///
/// Call it before any thread exists: the kernel gives a user namespace only to a process with one thread.
///
/// # Errors
/// [`EnterError`] when the kernel or the machine's policy refuses; its text says what to change.
pub fn enter() -> Result<(), EnterError> {
    // A root without CAP_SYS_ADMIN, as in most containers, goes the way of every other user.
    if Uid::effective().is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(|errno| {
        failed("create a user namespace with a network of its own", io::Error::from(errno), Some(errno))
    })?;
    // "deny" is what user_namespaces(7) asks for before an unprivileged process may write its gid_map.
    for (file, content) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        std::fs::write(Path::new("/proc/self").join(file), content).map_err(|error| {
            let errno = error.raw_os_error().map(Errno::from_raw);
            failed("become root inside the new user namespace", error, errno)
        })?;
    }
    Ok(())
}

/// [`enter`] for a test suite: `true` when the suite can run. Otherwise it says loudly on stderr that `suite` is
/// skipped and why; with `REQUIRE_NETNS=1` in the environment it ends the process with an error instead.
#[must_use]
pub fn enter_for_tests(suite: &str) -> bool {
    let Err(error) = enter() else { return true };
    if std::env::var(REQUIRE).is_ok_and(|value| value == "1") {
        eprintln!("{suite}: FAILED, {REQUIRE}=1 is set: {error}");
        std::process::exit(1);
    }
    eprintln!("\n*** {suite}: ALL TESTS SKIPPED: {error}\n*** {REQUIRE}=1 turns this into a failure.\n");
    false
}

fn failed(step: &'static str, source: io::Error, errno: Option<Errno>) -> EnterError {
    EnterError { step, source, hint: errno.and_then(hint) }
}

/// What stands in the way, by the knobs the distributions have.
fn hint(errno: Errno) -> Option<String> {
    let knob = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    match errno {
        Errno::EPERM | Errno::EACCES => {
            Some(if knob("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
                "Ubuntu restricts user namespaces: run as root, or `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`".to_owned()
            } else if knob("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
                "user namespaces are for root only here: run as root, or `sudo sysctl kernel.unprivileged_userns_clone=1`".to_owned()
            } else {
                "run as root; in a container, allow it unshare(2) (`docker run --privileged`)".to_owned()
            })
        }
        Errno::ENOSPC if knob("/proc/sys/user/max_user_namespaces") == "0" => Some(
            "user namespaces are switched off: run as root, or `sudo sysctl user.max_user_namespaces=10000`".to_owned(),
        ),
        Errno::ENOSPC => Some("too many namespaces: see the limits in /proc/sys/user".to_owned()),
        Errno::EINVAL => Some("enter() was called after the process had started a thread".to_owned()),
        _ => None,
    }
}
