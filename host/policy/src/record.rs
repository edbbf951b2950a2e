//! Calls on paper: what a policy was asked about one port, all it could look up, and what came of it.
//!
//! A record holds the call in the contract's own terms and nothing else of the cluster, so that it can be repeated
//! anywhere, bit for bit: policies see no clock and no randomness. A record is of one port or ring: where a call with
//! many fails, each is asked again alone.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use weir_model::Load;

use crate::answer::Eligible;
use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::call::Problem;
use crate::compiled::{Policy, Role};
use crate::host::ring_number;
use crate::subject::{Subject, Subjects};

/// The form of records this Weir writes and reads.
pub const RECORD_VERSION: u32 = 1;

/// One call about one port or ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The policy's name.
    pub policy: String,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// What it was asked to be.
    pub role: Role,
    /// What the call named the port or ring by.
    pub id: u32,
    /// Name of the node that asked.
    pub node: String,
    /// Its zone.
    pub zone: String,
    /// The number of its zone.
    pub here: u32,
    /// The policy's own settings, for Services that give none; empty for none.
    pub default_settings: String,
    /// The Service's settings for this policy; empty for none.
    pub settings: String,
    /// Name of the Service's namespace.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the port; may be empty.
    pub port: String,
    /// Port number of the Service.
    pub number: u16,
    /// IP protocol number (IANA).
    pub protocol: u8,
    /// Whether `internalTrafficPolicy` is `Local`.
    pub internal_local: bool,
    /// Whether `externalTrafficPolicy` is `Local`.
    pub external_local: bool,
    /// Whether clients outside the cluster can reach the port.
    pub has_external: bool,
    /// Seconds of `sessionAffinity: ClientIP`; 0 for none.
    pub affinity_seconds: u32,
    /// Annotations of the Service, as far as the policy asks for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Every endpoint of the port.
    pub endpoints: Vec<RecordedEndpoint>,
    /// For a balancer: the members of the ring, as positions in `endpoints`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<u32>,
    /// For a balancer that asks for shares: the slots each of `endpoints` has in the ring that is in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<u32>,
    /// What came of it.
    pub outcome: CallOutcome,
}

/// An endpoint as a policy can see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordedEndpoint {
    /// Its address.
    pub address: IpAddr,
    /// The port it listens on.
    pub port: u16,
    /// The number the call named it by.
    pub id: u32,
    /// The contract's flags, the first in the lowest bit.
    pub conditions: u8,
    /// Its weight.
    pub weight: u32,
    /// Name of its node; empty when unknown.
    pub node: String,
    /// Its zone; empty when unknown.
    pub zone: String,
    /// The number of its zone.
    pub zone_number: u32,
    /// Name of its pod, if the policy asks for pods.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Open, begun and new connections a minute, if the policy asks for loads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<[u32; 3]>,
    /// Seconds it has been ready, if the policy asks for ages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u32>,
}

/// What a policy answered, word by word, or why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CallOutcome {
    /// The answer of a traffic policy.
    Eligibility {
        /// The cluster-wide list.
        cluster: RecordedSelection,
        /// The list for this node.
        local: RecordedSelection,
        /// Where internal clients go.
        internal: String,
        /// Where clients from outside go.
        external: String,
        /// Whether pods and the node have a short cut.
        short_cut: bool,
        /// When it wants another look.
        again_seconds: u32,
        /// Why.
        reason: String,
    },
    /// The answer of a balancer.
    Spread {
        /// How a slot is picked.
        index: String,
        /// What the slots hold.
        share: RecordedShare,
        /// Seconds a client keeps its endpoint.
        affinity_seconds: u32,
        /// When it wants another look.
        again_seconds: u32,
        /// Why.
        reason: String,
    },
    /// There was none, or none that could be used.
    Failed {
        /// Why, in one stable word.
        reason: String,
        /// Why, in a sentence.
        message: String,
    },
}

/// Some of a port's endpoints, as the policy said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordedSelection {
    /// None.
    None,
    /// All.
    All,
    /// Those at these positions.
    Only(Vec<u32>),
}

/// What the slots of a ring hold, as the policy said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordedShare {
    /// Every endpoint once.
    Equal,
    /// In proportion to weights.
    Weights(Vec<u32>),
    /// These.
    Slots(Vec<u32>),
}

/// Takes records. It is called between two syncs' other work, so it must not wait.
pub trait Recorder: fmt::Debug + Send + Sync {
    /// Takes one.
    fn record(&self, record: Record);

    /// Whether calls that went well are wanted as well.
    fn wants_all(&self) -> bool {
        false
    }
}

/// A recorder that keeps everything in memory.
#[derive(Debug, Default)]
pub(crate) struct Collector(Mutex<Vec<Record>>);

impl Collector {
    /// What was recorded until now.
    pub(crate) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Recorder for Collector {
    fn record(&self, record: Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    fn wants_all(&self) -> bool {
        true
    }
}

impl fmt::Display for CallOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { reason, message } => write!(f, "{reason}: {message}"),
            answer => write!(f, "{answer:?}"),
        }
    }
}

impl From<traffic_policy::Eligibility> for CallOutcome {
    fn from(answer: traffic_policy::Eligibility) -> Self {
        let route = |route| match route {
            traffic_policy::Route::Cluster => "cluster".to_owned(),
            traffic_policy::Route::Local => "local".to_owned(),
            traffic_policy::Route::Reject => "reject".to_owned(),
            traffic_policy::Route::Drop => "drop".to_owned(),
        };
        let selection = |selection| match selection {
            traffic_policy::Selection::None => RecordedSelection::None,
            traffic_policy::Selection::All => RecordedSelection::All,
            traffic_policy::Selection::Only(positions) => RecordedSelection::Only(positions),
        };
        Self::Eligibility {
            cluster: selection(answer.cluster),
            local: selection(answer.local),
            internal: route(answer.internal),
            external: route(answer.external),
            short_cut: answer.short_cut,
            again_seconds: answer.again_seconds,
            reason: answer.reason,
        }
    }
}

impl From<balancer::Spread> for CallOutcome {
    fn from(answer: balancer::Spread) -> Self {
        let index = match answer.index {
            balancer::IndexFunction::Random => "random",
            balancer::IndexFunction::RoundRobin => "round-robin",
            balancer::IndexFunction::SourceHash => "source-hash",
            balancer::IndexFunction::FlowHash => "flow-hash",
        };
        Self::Spread {
            index: index.to_owned(),
            share: match answer.share {
                balancer::Share::Equal => RecordedShare::Equal,
                balancer::Share::Weights(weights) => RecordedShare::Weights(weights),
                balancer::Share::Slots(slots) => RecordedShare::Slots(slots),
            },
            affinity_seconds: answer.affinity_seconds,
            again_seconds: answer.again_seconds,
            reason: answer.reason,
        }
    }
}

impl From<&Problem> for CallOutcome {
    fn from(problem: &Problem) -> Self {
        Self::Failed { reason: problem.reason.to_string(), message: problem.message.clone() }
    }
}

impl Record {
    /// The call to `policy` about the subject at `at`; `list` says which list of it and what is in that, for a
    /// balancer.
    pub(crate) fn of(
        subjects: &Subjects,
        at: usize,
        list: Option<(u32, &[u32])>,
        policy: &Policy,
        outcome: CallOutcome,
    ) -> Self {
        let subject = &subjects.list[at];
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let name = |id| subjects.names.get(id).to_owned();
        let (role, id, settings) = match list {
            None => (Role::TrafficPolicy, at, subject.traffic_settings),
            Some((which, _)) => (Role::Balancer, ring_number(at, which), subject.balancer_settings),
        };
        Self {
            version: RECORD_VERSION,
            policy: policy.name().to_owned(),
            digest: policy.digest().to_string(),
            role,
            id,
            node: subjects.node.name.clone(),
            zone: subjects.node.zone.clone(),
            here: subjects.zone.0,
            default_settings: policy.settings().to_owned(),
            settings: name(settings),
            namespace: subject.service.namespace.clone(),
            service: subject.service.name.clone(),
            port: name(subject.port.key.name),
            number: subject.port.spec.port,
            protocol: subject.port.key.protocol.number(),
            internal_local: subject.internal == weir_model::TrafficPolicy::Local,
            external_local: subject.external == weir_model::TrafficPolicy::Local,
            has_external: subject.has_external,
            affinity_seconds: subject.affinity_seconds,
            annotations: subject.extras.as_ref().map(|extras| extras.annotations.clone()).unwrap_or_default(),
            endpoints: endpoints(subjects, subject),
            shares: match (list, &subject.extras) {
                (Some((which, _)), Some(extras)) => extras.shares[which as usize % 2].clone(),
                _ => Vec::new(),
            },
            members: list.map(|(_, members)| members.to_vec()).unwrap_or_default(),
            outcome,
        }
    }

    /// `namespace/name:port` of the Service port it is about.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { namespace, service, port, number, .. } = self;
        if port.is_empty() {
            format!("{namespace}/{service}:{number}")
        } else {
            format!("{namespace}/{service}:{port}")
        }
    }

    /// What a traffic policy must have said for the balancer to be asked this.
    pub(crate) fn eligible(&self) -> Eligible {
        let mut lists = [Vec::new(), Vec::new()];
        lists[self.id as usize % 2] = self.members.clone();
        let (internal, external) = (weir_model::Route::Cluster, weir_model::Route::Cluster);
        Eligible { lists, internal, external, short_cut: false, again: 0, reason: Arc::default() }
    }
}

fn endpoints(subjects: &Subjects, subject: &Subject) -> Vec<RecordedEndpoint> {
    let extras = subject.extras.as_deref();
    let endpoint = |(at, endpoint): (usize, &weir_model::Endpoint)| RecordedEndpoint {
        address: endpoint.address,
        port: endpoint.port,
        id: endpoint.id,
        conditions: endpoint.conditions.0,
        weight: endpoint.weight,
        node: subjects.names.get(endpoint.node).to_owned(),
        zone: subjects.names.get(endpoint.zone).to_owned(),
        zone_number: endpoint.zone.0,
        pod: extras.and_then(|extras| extras.pods.get(at)).unwrap_or_default().to_owned(),
        load: extras
            .and_then(|extras| extras.loads.get(at))
            .map(|Load { active, begun, per_minute }| [*active, *begun, *per_minute]),
        age: extras.and_then(|extras| extras.ages.get(at)).copied(),
    };
    subject.port.endpoints.iter().enumerate().map(endpoint).collect()
}
