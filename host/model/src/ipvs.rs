//! The names IPVS' schedulers have, for those who come from there: each stands for a policy that comes with Weir.

/// A scheduler of IPVS: its name, the policy that stands in for it, and that one's settings (JSON; empty for none).
pub type Scheduler = (&'static str, &'static str, &'static str);

/// The schedulers Weir has something for. `ip_vs_wrr` gives out weights in turn, hence the setting.
pub const SCHEDULERS: [Scheduler; 8] = [
    ("lc", "least-connections", ""),
    ("mh", "maglev", ""),
    ("nq", "nq", ""),
    ("rr", "round-robin", ""),
    ("sed", "sed", ""),
    ("sh", "source-hash", ""),
    ("wlc", "weighted-least-connections", ""),
    ("wrr", "weighted", r#"{"index": "round-robin"}"#),
];

/// Flags of `sh` and `mh` (`sh-port`, `mh-port`) that ask for the client's port to count.
const WITH_PORT: &str = r#"{"include-port": true}"#;

/// Schedulers Weir has nothing for, and why.
const REFUSED: [(&str, &str); 5] = [
    (
        "lblc",
        "it was made for caches and moves destinations as their load changes, which needs a decision for each connection; maglev keeps clients where they are",
    ),
    (
        "lblcr",
        "it was made for caches and keeps a set of servers for each destination, which needs a decision for each connection; maglev keeps clients where they are",
    ),
    (
        "dh",
        "it hashes the destination, which is one and the same address for all connections of a Service; take sh (source-hash) or mh (maglev)",
    ),
    (
        "ovf",
        "it fills one endpoint after the other, connection by connection; weighted-least-connections is the nearest",
    ),
    ("fo", "it sends everything to the one endpoint of the highest weight; say so with weighted, and 0 for the others"),
];

/// The policy and the settings that stand in for an IPVS scheduler; `None` for any other name.
#[must_use]
pub fn policy(name: &str) -> Option<(&'static str, &'static str)> {
    SCHEDULERS.iter().find(|(scheduler, ..)| *scheduler == name).map(|(_, policy, settings)| (*policy, *settings))
}

/// Why there is no policy for an IPVS scheduler; `None` for any other name.
#[must_use]
pub fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(scheduler, _)| *scheduler == name).map(|(_, why)| *why)
}

/// What an IPVS scheduler with such flags (as in kube-router's `service.schedflags`) comes to: the name of a policy and
/// its settings, empty for none. Flags that say what Weir does anyway (`sh-fallback`, `mh-fallback`) change nothing.
///
/// # Errors
/// A sentence for a scheduler or a flag that nothing stands in for.
pub fn stand_in(scheduler: &str, flags: &[&str]) -> Result<(&'static str, &'static str), String> {
    if let Some(why) = refusal(scheduler) {
        return Err(format!("no policy stands in for the IPVS scheduler {scheduler:?}: {why}"));
    }
    let (policy, mut settings) =
        policy(scheduler).ok_or_else(|| format!("{scheduler:?} is no scheduler of IPVS that Weir knows"))?;
    for flag in flags {
        match (scheduler, *flag) {
            ("sh", "sh-port" | "flag-2") | ("mh", "mh-port" | "flag-2") => settings = WITH_PORT,
            ("sh", "sh-fallback" | "flag-1") | ("mh", "mh-fallback" | "flag-1") => {}
            _ => return Err(format!("{flag:?} is no flag of the IPVS scheduler {scheduler:?}")),
        }
    }
    Ok((policy, settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_policy_is_not_refused() {
        assert!(SCHEDULERS.iter().all(|(name, ..)| refusal(name).is_none()));
        assert_eq!(stand_in("wlc", &[]), Ok(("weighted-least-connections", "")));
    }

    #[test]
    fn flags_belong_to_their_scheduler() {
        assert_eq!(stand_in("sh", &["sh-fallback", "sh-port"]), Ok(("source-hash", WITH_PORT)));
        assert_eq!(stand_in("mh", &["mh-fallback"]), Ok(("maglev", "")));
        assert!(stand_in("rr", &["sh-port"]).is_err_and(|why| why.contains("sh-port") && why.contains("rr")));
    }

    #[test]
    fn what_nothing_stands_in_for_is_told_with_the_reason() {
        assert!(stand_in("lblc", &[]).is_err_and(|why| why.contains("caches")));
        assert!(stand_in("dh", &[]).is_err_and(|why| why.contains("source-hash")));
        assert!(stand_in("fastest", &[]).is_err_and(|why| why.contains("fastest")));
    }
}
