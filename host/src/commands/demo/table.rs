//! One line a frontend: what was to be expected, and what was seen.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir_model::{Decision, Origin, Protocol};
use weir_netlink::Kernel;
use weir_nft::Dataplane;
use weir_nft::sim::{Entry, Env, Packet, Verdict, simulate};
use weir_plan::{Frontend, FrontendAddress, FrontendKind, PortPlan};
use weir_testbed::{Call, Failure, Layout, Tally};

use super::scene::Scene;
use crate::pipeline::Pipeline;

/// What the columns mean.
pub(super) const HEAD: &str = " Service port                     reached at                from     balancer     expected→seen; the client as the backends saw it";

/// How far a share may be from the expected one: with 300 connections, one in a million honest runs is.
const TOLERANCE: f64 = 0.15;

/// One frontend, measured.
pub(super) struct Row {
    port: String,
    target: SocketAddr,
    protocol: Protocol,
    from: String,
    balancer: String,
    /// Backend → expected share.
    expected: BTreeMap<String, f64>,
    refused: bool,
    affinity: bool,
    tally: Tally,
    /// Name of the client, as backends see it.
    client_seen: Vec<String>,
}

impl Row {
    pub(super) fn measure(
        scene: &Scene,
        pipeline: &mut Pipeline<Kernel>,
        plan: &PortPlan,
        frontend: &Frontend,
        decided: &Decision,
        calls: usize,
    ) -> anyhow::Result<Self> {
        let address = match frontend.address {
            FrontendAddress::Ip(ip) => ip,
            FrontendAddress::NodePort => IpAddr::V4(Layout::NODE.v4),
        };
        let target = SocketAddr::new(address, frontend.port);
        let from = if frontend.kind == FrontendKind::ClusterIp { scene.client() } else { scene.outside() };
        let packet = Packet {
            entry: Entry::Network,
            protocol: plan.protocol(),
            source: SocketAddr::new(from.address_towards(address), 0),
            destination: target,
            mark: 0,
        };
        let env = Env { local_addresses: [Layout::NODE.v4.into(), Layout::NODE.v6.into()].into(), ..Env::default() };
        let ruleset = pipeline.dataplane().dump()?;
        let outcomes = simulate(&ruleset, &packet, &env)?;
        let refused = outcomes.iter().any(|outcome| outcome.verdict == Verdict::Reject);
        let expected = outcomes
            .iter()
            .filter_map(|outcome| match outcome.verdict {
                Verdict::Delivered { to: Some(to), .. } => Some((scene.name_of(to.ip()), outcome.share.as_f64())),
                _ => None,
            })
            .collect();
        let call = match plan.protocol() {
            Protocol::Udp => Call::udp(target),
            _ => Call::http(target),
        };
        let tally = Tally::repeat(from, if refused { 3 } else { calls }, call.within(Duration::from_secs(2)));
        let mut client_seen: Vec<String> = tally.clients.values().flatten().map(|ip| scene.name_of(*ip)).collect();
        client_seen.sort();
        client_seen.dedup();
        let ring = decided.cluster.as_ref().or(decided.local.as_ref());
        Ok(Self {
            port: plan.name.strip_prefix("default/").unwrap_or(&plan.name).to_owned(),
            target,
            protocol: plan.protocol(),
            from: from.name().to_owned(),
            balancer: match &decided.origin {
                Origin::Policy { balancer, .. } => balancer.to_string(),
                _ => "fallback".to_owned(),
            },
            expected,
            refused,
            affinity: ring.is_some_and(|ring| ring.affinity_seconds > 0),
            tally,
            client_seen,
        })
    }

    pub(super) fn as_expected(&self) -> bool {
        if self.refused {
            return self.tally.failures.keys().all(|failure| *failure == Failure::Refused)
                && self.tally.answered() == 0;
        }
        if self.tally.failed() > 0 {
            return false;
        }
        if self.affinity {
            return self.tally.answers.len() == 1
                && self.tally.answers.keys().all(|name| self.expected.contains_key(name));
        }
        let close = |(name, share): (&String, &f64)| (self.tally.share_of(name) - share).abs() < TOLERANCE;
        self.expected.iter().all(close) && self.tally.answers.keys().all(|name| self.expected.contains_key(name))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.as_expected() { ' ' } else { '✗' };
        let target = format!("{}/{}", self.target, self.protocol);
        write!(f, "{mark}{:<32} {target:<25} {:<8} {:<12} ", self.port, self.from, self.balancer)?;
        if self.refused {
            let refused = self.tally.failures.get(&Failure::Refused).copied().unwrap_or_default();
            return write!(f, "refused → {refused} of 3 refused");
        }
        for (at, (name, share)) in self.expected.iter().enumerate() {
            let gap = if at == 0 { "" } else { ", " };
            write!(f, "{gap}{} {:.0}→{:.0} %", short(name), share * 100.0, self.tally.share_of(name) * 100.0)?;
        }
        if self.affinity {
            write!(f, "; stays with one")?;
        }
        for (failure, count) in &self.tally.failures {
            write!(f, "; {count} {failure}")?;
        }
        write!(f, "; saw {}", self.client_seen.join(", "))
    }
}

/// Who answered how often, in words.
pub(super) fn shares(tally: &Tally) -> String {
    let all: Vec<String> =
        tally.answers.keys().map(|name| format!("{} {:.0} %", short(name), tally.share_of(name) * 100.0)).collect();
    all.join(", ")
}

/// `backend-1` as `b1`: lines stay readable.
pub(super) fn short(name: &str) -> String {
    name.replace("backend-", "b")
}
