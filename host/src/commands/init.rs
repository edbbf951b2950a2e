//! `weir run --init-only`: the kernel's switches and limits that Services need. It takes rights that running does not,
//! so a DaemonSet does it in an init container.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing::{info, warn};

use crate::config::{ConntrackSettings, Span};

/// A file below `/proc/sys` or `/sys`, and what should be in it.
#[derive(Debug, PartialEq, Eq)]
struct Switch {
    path: &'static str,
    value: u64,
    /// Leave it if there is more than that.
    at_least: bool,
    /// Without it no Service works. The others are limits, which may be the business of a host around this one (as in
    /// kind) or of a module that is not loaded yet; kube-proxy ends for them.
    needed: bool,
}

/// Most flows. The kernel takes a number larger than its own default only if somebody says so.
const CONNTRACK_MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";

/// Buckets of the table of flows.
const CONNTRACK_BUCKETS: &str = "sys/module/nf_conntrack/parameters/hashsize";

/// Flows for each bucket (kube-proxy: `conntrack.go`, `SetMax`).
const FLOWS_A_BUCKET: u64 = 4;

/// Sets what `settings` ask for and is not so yet. A limit that is missing or cannot be written is warned of and stays
/// as it is.
///
/// # Errors
/// When forwarding is off and cannot be switched on, or a file holds no number.
pub(crate) fn run(settings: &ConntrackSettings) -> anyhow::Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    apply(Path::new("/"), &switches(settings, processors as u64))
}

/// What kube-proxy sets: `cmd/kube-proxy/app/server_linux.go`, `setupConntrack`; and forwarding, without which no
/// packet gets from a node port to a pod.
fn switches(settings: &ConntrackSettings, processors: u64) -> Vec<Switch> {
    let mut wanted = vec![Switch { path: "proc/sys/net/ipv4/ip_forward", value: 1, at_least: false, needed: true }];
    if settings.max_per_core > 0 {
        let most = (u64::from(settings.max_per_core) * processors).max(settings.min.into());
        wanted.push(Switch { path: CONNTRACK_MAX, value: most, at_least: false, needed: false });
        wanted.push(Switch { path: CONNTRACK_BUCKETS, value: most / FLOWS_A_BUCKET, at_least: true, needed: false });
    }
    if settings.tcp_be_liberal {
        wanted.push(Switch {
            path: "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
            value: 1,
            at_least: false,
            needed: false,
        });
    }
    for (path, Span(span)) in [
        ("proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", settings.tcp_established_timeout),
        ("proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait", settings.tcp_close_wait_timeout),
        ("proc/sys/net/netfilter/nf_conntrack_udp_timeout", settings.udp_timeout),
        ("proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream", settings.udp_stream_timeout),
    ] {
        if span.as_secs() > 0 {
            wanted.push(Switch { path, value: span.as_secs(), at_least: false, needed: false });
        }
    }
    wanted
}

fn apply(root: &Path, switches: &[Switch]) -> anyhow::Result<()> {
    for Switch { path, value, at_least, needed } in switches {
        let path: PathBuf = root.join(path);
        let shown = path.display();
        let present = match std::fs::read_to_string(&path) {
            Ok(present) => present,
            Err(error) if !needed => {
                warn!(file = %shown, %error, wanted = value, "not there; it stays as it is");
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        let present: u64 = present.trim().parse().with_context(|| format!("{shown} holds no number"))?;
        if present == *value || (*at_least && present > *value) {
            continue;
        }
        match std::fs::write(&path, value.to_string()) {
            Ok(()) => info!(file = %shown, was = present, is = value, "set"),
            Err(error) if !needed => {
                warn!(file = %shown, %error, is = present, wanted = value, "cannot be written here; it stays as it is");
            }
            Err(error) => return Err(error).with_context(|| format!("cannot set {shown} to {value}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(settings: &ConntrackSettings, processors: u64, name: &str) -> Option<u64> {
        switches(settings, processors).iter().find(|switch| switch.path.ends_with(name)).map(|switch| switch.value)
    }

    #[test]
    fn limits_follow_the_processors_but_not_below_the_floor() {
        let usual = ConntrackSettings::default();
        assert_eq!(value_of(&usual, 2, "nf_conntrack_max"), Some(131_072));
        assert_eq!(value_of(&usual, 8, "nf_conntrack_max"), Some(262_144));
        assert_eq!(value_of(&usual, 8, "hashsize"), Some(65_536));
        assert_eq!(value_of(&usual, 8, "tcp_timeout_established"), Some(86_400));
        assert_eq!(value_of(&usual, 8, "udp_timeout"), None);
        let off = ConntrackSettings { max_per_core: 0, tcp_be_liberal: true, ..usual };
        assert_eq!(value_of(&off, 8, "nf_conntrack_max"), None);
        assert_eq!(value_of(&off, 8, "tcp_be_liberal"), Some(1));
    }

    #[test]
    fn only_what_is_not_so_yet_is_written() {
        let root = std::env::temp_dir().join(format!("weir-init-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a directory");
        let put = |name: &str, value: &str| std::fs::write(root.join(name), value).expect("a file");
        let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a file");
        put("least", "900\n");
        put("exact", "900\n");
        let switch = |path, at_least| Switch { path, value: 500, at_least, needed: path == "needed" };
        apply(&root, &[switch("least", true), switch("exact", false)]).expect("both can be written");
        assert_eq!((read("least").as_str(), read("exact").as_str()), ("900\n", "500"));
        apply(&root, &[switch("missing", false), switch("exact", false)]).expect("one limit less is no reason to end");
        let missing = apply(&root, &[switch("needed", false)]).expect_err("no such file").to_string();
        assert!(missing.contains("needed"), "{missing}");
        put("exact", "many\n");
        assert!(apply(&root, &[switch("exact", false)]).is_err());
        std::fs::remove_dir_all(&root).expect("removes");
    }
}
