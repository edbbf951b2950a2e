//! One host: a network namespace and the addresses it has.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

use crate::Addresses;

/// A network namespace of its own, with a name for people. Clones share it; it ends with the last clone and the last
/// socket in it.
#[derive(Clone, Debug)]
pub struct Host {
    name: Arc<str>,
    addresses: Addresses,
    netns: Arc<File>,
}

impl Host {
    /// Creates an empty namespace. `addresses` are remembered; giving them to a link is the caller's part.
    ///
    /// # Errors
    /// When the kernel refuses the namespace; most often because [`enter`](crate::enter) was not called.
    pub fn create(name: &str, addresses: Addresses) -> Result<Self> {
        let netns = thread::scope(|scope| {
            scope
                .spawn(|| -> Result<File> {
                    unshare(CloneFlags::CLONE_NEWNET).context("unshare: was weir_testbed::enter() called?")?;
                    // The descriptor keeps the namespace alive after this thread has ended.
                    Ok(File::open("/proc/thread-self/ns/net")?)
                })
                .join()
                .expect("the closure has no panic")
        })
        .with_context(|| format!("create the network namespace of {name}"))?;
        Ok(Self { name: name.into(), addresses, netns: Arc::new(netns) })
    }

    /// The name given at creation.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        self.addresses.v4
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        self.addresses.v6
    }

    /// Its address of the family of `peer`.
    #[must_use]
    pub fn address_towards(&self, peer: IpAddr) -> IpAddr {
        if peer.is_ipv4() { self.addresses.v4.into() } else { self.addresses.v6.into() }
    }

    /// A path to the namespace that `ip`, `nsenter` and other processes of the same user take, while `self` lives.
    #[must_use]
    pub fn netns_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd())
    }

    /// Runs `work` inside the namespace, on a thread of its own, and returns what it returned. Sockets and
    /// processes it makes stay in the namespace wherever they are used later. A panic of `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.join_namespace();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `work` inside the namespace on a thread that goes on by itself.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        let host = self.clone();
        thread::spawn(move || {
            host.join_namespace();
            work()
        })
    }

    /// Runs a program inside the namespace and returns what it printed.
    ///
    /// # Errors
    /// When the program is missing, or fails; the text holds what it said on stderr.
    pub fn command<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S]) -> Result<String> {
        self.command_with_input(program, arguments, "")
    }

    /// [`Host::command`] with `input` on the program's standard input.
    ///
    /// # Errors
    /// As [`Host::command`].
    pub fn command_with_input<S: AsRef<OsStr>>(&self, program: &str, arguments: &[S], input: &str) -> Result<String> {
        let mut command = Command::new(program);
        // `nft` lives where an ordinary user's PATH does not look.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        command.args(arguments).env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self
            .run(|| {
                let mut child = command.spawn()?;
                let mut stdin = child.stdin.take().expect("stdin is piped");
                match stdin.write_all(input.as_bytes()) {
                    // A program that fails early says why on stderr, which is what the caller wants to read.
                    Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
                    _ => drop(stdin),
                }
                child.wait_with_output()
            })
            .with_context(|| format!("run {program} (is it installed?)"))?;
        ensure!(
            output.status.success(),
            "{program} failed in {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Gives lines of `ip` commands (without the word `ip`) to one `ip -batch` inside the namespace.
    ///
    /// # Errors
    /// As [`Host::command`], with the lines.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        let script = lines.join("\n") + "\n";
        self.command_with_input("ip", &["-batch", "-"], &script)
            .map(drop)
            .with_context(|| format!("set up links with:\n{script}"))
    }

    /// Writes kernel settings below `net.` of this namespace, `/` between the parts of a name.
    ///
    /// # Errors
    /// When the kernel has no such setting or refuses the value.
    pub fn set_sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (name, value) in settings {
                let path = format!("/proc/sys/net/{name}");
                std::fs::write(&path, value).with_context(|| format!("write {value} to {path} in {}", self.name))?;
            }
            Ok(())
        })
    }

    fn join_namespace(&self) {
        setns(&*self.netns, CloneFlags::CLONE_NEWNET).expect("the process made this namespace and holds it open");
    }
}
