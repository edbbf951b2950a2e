//! Calls repeated from their records, and recorded on request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use weir_model::{
    Conditions, Endpoint, Family, Load, NameId, Names, NodeIdentity, ObjectKey, Port, PortKey, Protocol, ServiceId,
    ServicePort, Store, TrafficPolicy,
};

use super::progress::{Progress, Shared};
use super::{Decider, ask};
use crate::catalog::Pair;
use crate::compiled::{Policy, Role};
use crate::quarantine::Quarantine;
use crate::record::{CallOutcome, Collector, RECORD_VERSION, Record};
use crate::subject::{Extras, Subject, Subjects};

/// Most ports a call can have named; more make no call of ours.
const MOST_PORTS: u32 = 1 << 20;

/// Largest number of a zone; names are numbered from 0 as they come.
const LARGEST_NUMBER: u32 = 1 << 24;

/// Why a record cannot be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It has another form.
    #[error("version: {0} is not the form of records this Weir reads, which is {RECORD_VERSION}")]
    Version(u32),
    /// A field cannot be what it says.
    #[error("{field}: {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The policy cannot be asked that.
    #[error("policy {policy} is no {role}")]
    Role {
        /// The policy.
        policy: String,
        /// What the record asks of it.
        role: Role,
    },
}

impl Record {
    /// Puts the same question to `policy`, in a fresh instance, with the settings of the record. The outcome equals the
    /// recorded one where the policy is the recorded one and keeps to the contract.
    ///
    /// # Errors
    /// When the record makes no sense, or the policy does not play that role.
    pub fn replay(&self, policy: &Policy) -> Result<CallOutcome, ReplayError> {
        if !policy.plays(self.role) {
            return Err(ReplayError::Role { policy: policy.name().to_owned(), role: self.role });
        }
        let policy = Arc::new(policy.with_settings(&self.default_settings));
        let subjects = Arc::new(self.subjects(&policy)?);
        let collector = Arc::new(Collector::default());
        let shared = Shared::new(Instant::now(), Some(collector.clone()), false, Quarantine::default());
        let mut progress = Progress::new(&shared);
        let at = subjects.list.len() - 1;
        let mut eligible: Vec<_> = subjects.list.iter().map(|_| None).collect();
        match self.role {
            Role::TrafficPolicy => ask::traffic(&subjects, &[at], |_| &policy, &mut eligible, &mut progress),
            Role::Balancer => {
                eligible[at] = Some(Arc::new(self.eligible()));
                drop(ask::rings(&subjects, &[at], |_| &policy, &Arc::new(eligible), &mut progress));
            }
        }
        let outcome = collector.take().pop().map(|record| record.outcome);
        outcome.ok_or_else(|| wrong("members", "a balancer is asked about one endpoint at least".to_owned()))
    }

    /// The question as it was: the port in its place, nothing in those before it.
    fn subjects(&self, policy: &Arc<Policy>) -> Result<Subjects, ReplayError> {
        if self.version != RECORD_VERSION {
            return Err(ReplayError::Version(self.version));
        }
        let at = if self.role == Role::Balancer { self.id / 2 } else { self.id };
        if at > MOST_PORTS {
            return Err(wrong("id", format!("{} is more than a call can have", self.id)));
        }
        if let Some(member) = self.members.iter().find(|member| **member as usize >= self.endpoints.len()) {
            return Err(wrong("members", format!("{member} is no position among {} endpoints", self.endpoints.len())));
        }
        let Some(protocol) = Protocol::from_number(self.protocol) else {
            return Err(wrong("protocol", format!("{} is not the number of TCP, UDP or SCTP", self.protocol)));
        };
        let mut names = self.zones()?;
        let subject = self.subject(policy, protocol, &mut names);
        let blank = Self { endpoints: Vec::new(), members: Vec::new(), ..self.clone() };
        let mut list: Vec<Subject> = (0..at).map(|_| blank.subject(policy, protocol, &mut names)).collect();
        list.push(subject);
        let node = NodeIdentity { name: self.node.clone(), zone: self.zone.clone() };
        Ok(Subjects { list, names: Arc::new(names), node, zone: NameId(self.here) })
    }

    /// Names in which every zone has the number it had.
    fn zones(&self) -> Result<Names, ReplayError> {
        let mut wanted: BTreeMap<u32, &str> = BTreeMap::from([(self.here, &*self.zone)]);
        for endpoint in &self.endpoints {
            let before = wanted.insert(endpoint.zone_number, &endpoint.zone);
            if before.is_some_and(|before| before != endpoint.zone) {
                let why = format!("{} stands for two zones", endpoint.zone_number);
                return Err(wrong("endpoints[].zoneNumber", why));
            }
        }
        // A node whose zone no endpoint has goes by 0, the number of the empty name.
        wanted.remove(&0);
        let last = wanted.last_key_value().map_or(0, |(number, _)| *number);
        if last > LARGEST_NUMBER {
            return Err(wrong("endpoints[].zoneNumber", format!("{last} is more than there are names")));
        }
        let mut names = Names::default();
        for number in 1..=last {
            // Nobody's name holds a zero byte.
            let filler = || format!("\0{number}");
            let name = wanted.get(&number).map_or_else(filler, |zone| (*zone).to_owned());
            if names.intern(&name) != NameId(number) {
                return Err(wrong("endpoints[].zoneNumber", format!("zone {name:?} has two numbers")));
            }
        }
        Ok(names)
    }

    fn subject(&self, policy: &Arc<Policy>, protocol: Protocol, names: &mut Names) -> Subject {
        let scope = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let family = self.endpoints.first().map_or(Family::V4, |endpoint| Family::of(endpoint.address));
        let (name, settings) = (names.intern(&self.port), names.intern(&self.settings));
        let mut endpoint = |recorded: &crate::record::RecordedEndpoint| Endpoint {
            address: recorded.address,
            port: recorded.port,
            id: recorded.id,
            node: names.intern(&recorded.node),
            zone: NameId(recorded.zone_number),
            conditions: Conditions(recorded.conditions),
            weight: recorded.weight,
        };
        let endpoints = self.endpoints.iter().map(&mut endpoint).collect();
        // Whatever the policy asks for is there: one that asks for more than the recorded one gets what is usual.
        let load = |[active, begun, per_minute]: [u32; 3]| Load { active, begun, per_minute };
        let mut shares = [Vec::new(), Vec::new()];
        shares[self.id as usize % 2].clone_from(&self.shares);
        let extras = Extras {
            shares,
            loads: self.endpoints.iter().map(|endpoint| endpoint.load.map(load).unwrap_or_default()).collect(),
            ages: self.endpoints.iter().map(|endpoint| endpoint.age.unwrap_or(u32::MAX)).collect(),
            pods: self.endpoints.iter().map(|endpoint| endpoint.pod.as_str()).collect(),
            annotations: self.annotations.clone(),
        };
        Subject {
            port: Port {
                key: PortKey { service: ServiceId(0), name, protocol, family },
                spec: ServicePort { name, protocol, port: self.number, node_port: 0 },
                endpoints,
            },
            service: Arc::new(ObjectKey { namespace: self.namespace.clone(), name: self.service.clone() }),
            pair: Arc::new(Pair {
                traffic: policy.clone(),
                balancer: policy.clone(),
                traffic_has_settings: true,
                balancer_has_settings: true,
            }),
            traffic_settings: settings,
            balancer_settings: settings,
            internal: scope(self.internal_local),
            external: scope(self.external_local),
            has_external: self.has_external,
            affinity_seconds: self.affinity_seconds,
            chosen: true,
            cluster: 0,
            input: 0,
            extras: Some(Box::new(extras)),
        }
    }
}

fn wrong(field: &'static str, why: String) -> ReplayError {
    ReplayError::Field { field, why }
}

impl Decider {
    /// Asks about every port of `services` anew, and returns what was asked and answered. What is remembered of them
    /// stays as it is.
    pub fn records(&mut self, store: &Store, services: &[ServiceId]) -> Vec<Record> {
        let collector = Arc::new(Collector::default());
        let recorder = self.recorder.replace(collector.clone());
        let remembered = self.memory.copy(services);
        // Whoever rests is asked, too, and rests on.
        let quarantine = std::mem::take(&mut self.quarantine);
        drop(self.decide_in(Instant::now(), store, services));
        self.quarantine = quarantine;
        self.memory.forget_services(services);
        self.memory.extend(remembered);
        self.recorder = recorder;
        collector.take()
    }
}
