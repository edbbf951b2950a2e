//! What the cluster is told: Events on the objects they are about. Without a cluster nobody listens, and the log has
//! all of it either way.

use tokio::sync::mpsc;
use weir_model::ObjectKey;
use weir_plan::Rejection;
use weir_policy::{Attempt, Failure, Resting};
use weir_source::kubernetes::{Notice, Subject};

/// Notices that may wait for the API server; what comes on top is dropped.
const BACKLOG: usize = 64;

/// Where notices go. Telling never waits and never fails.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    sender: Option<mpsc::Sender<Notice>>,
    /// Where the ConfigMaps of policies are.
    namespace: String,
}

impl Notices {
    /// Nobody listens.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// To the returned receiver. `namespace` is where the ConfigMaps of policies are.
    #[must_use]
    pub fn to_cluster(namespace: &str) -> (Self, mpsc::Receiver<Notice>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self { sender: Some(sender), namespace: namespace.to_owned() }, receiver)
    }

    /// The proxy of `node` has started.
    pub fn started(&self, node: &str) {
        self.tell(Subject::Node(node.to_owned()), false, "Starting", || "Weir programs this node".to_owned());
    }

    /// A version of a policy decides from now on: the `stable`, `canary` or `pinned` one. `before` is the digest of
    /// the version before it.
    pub fn policy_loaded(&self, name: &str, digest: &str, track: &str, before: Option<&str>) {
        self.tell(self.policy(name), false, "PolicyLoaded", || {
            let before = before.map(|before| format!("; before it: {before}")).unwrap_or_default();
            format!("component {digest} ({track}) decides from now on{before}")
        });
    }

    /// A policy rests.
    pub fn policy_off(&self, name: &str) {
        self.tell(self.policy(name), false, "PolicyOff", || "switched off; the node's defaults decide".to_owned());
    }

    /// The canary of a policy failed too often on this node.
    pub fn canary_halted(&self, name: &str, why: &str) {
        self.tell(self.policy(name), true, "CanaryHalted", || format!("back to the stable version: {why}"));
    }

    /// Every policy from outside was switched off, or on again.
    pub fn policies_switched(&self, off: bool) {
        let reason = if off { "PoliciesOff" } else { "PoliciesOn" };
        let subject = self.policy(crate::policies::SWITCH);
        self.tell(subject, off, reason, || {
            if off { "the built-in policies decide" } else { "policies decide again" }.to_owned()
        });
    }

    /// A policy, or a new version of one, is not used.
    pub fn policy_refused(&self, name: &str, why: &str) {
        self.tell(self.policy(name), true, "PolicyRefused", || format!("nothing changes: {why}"));
    }

    /// A Service did not get something.
    pub fn rejected(&self, rejection: &Rejection) {
        let reason = match rejection {
            Rejection::Claimed { .. } => "AddressConflict",
            Rejection::EndpointIsClusterIp { .. } => "EndpointIsClusterIP",
        };
        // `namespace/name:port`
        let service = rejection.port().split_once('/').map(|(namespace, rest)| ObjectKey {
            namespace: namespace.to_owned(),
            name: rest.split_once(':').map_or(rest, |(name, _)| name).to_owned(),
        });
        if let Some(service) = service {
            self.tell(Subject::Service(service), true, reason, || rejection.to_string());
        }
    }

    /// A policy is not asked for a while.
    pub fn policy_rests(&self, rest: &Resting) {
        let Resting { policy, reason, message, .. } = rest;
        self.tell(self.policy(policy), true, "PolicyQuarantined", || {
            format!("last good decisions and stand-ins serve ({reason}): {message}")
        });
    }

    /// A policy gave no answer for a port of a Service. Told once, not with each attempt.
    pub fn policy_failed(&self, failure: &Failure) {
        let Failure { service, port, policy, reason, message, attempt } = failure;
        if *attempt != Attempt::First {
            return;
        }
        let reason = if reason.as_str() == "unknown-policy" { "UnknownPolicy" } else { "PolicyFailed" };
        self.tell(Subject::Service((**service).clone()), true, reason, || {
            format!("port {port}: policy {policy}: {message}")
        });
    }

    fn policy(&self, name: &str) -> Subject {
        Subject::ConfigMap(ObjectKey { namespace: self.namespace.clone(), name: name.to_owned() })
    }

    fn tell(&self, subject: Subject, warning: bool, reason: &'static str, note: impl FnOnce() -> String) {
        if let Some(sender) = &self.sender {
            // Full: the API server is slow, and what is told is told in the log.
            let _ = sender.try_send(Notice { subject, warning, reason, note: note() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_conflict_is_told_on_the_service_that_lost() {
        let (notices, mut told) = Notices::to_cluster("weir-system");
        let endpoint = "10.0.0.1".parse().expect("an address");
        notices.rejected(&Rejection::EndpointIsClusterIp { port: Arc::from("shop/web:http"), endpoint });
        let notice = told.try_recv().expect("a notice");
        let service = ObjectKey { namespace: "shop".to_owned(), name: "web".to_owned() };
        assert_eq!((notice.subject, notice.reason), (Subject::Service(service), "EndpointIsClusterIP"));
        notices.policy_refused("mine", "it traps");
        let notice = told.try_recv().expect("a notice");
        let map = ObjectKey { namespace: "weir-system".to_owned(), name: "mine".to_owned() };
        assert_eq!((notice.subject, notice.note.as_str()), (Subject::ConfigMap(map), "nothing changes: it traps"));
        Notices::nowhere().policy_refused("mine", "nobody hears this");
    }
}
