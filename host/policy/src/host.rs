//! What a policy can ask of the host: names behind numbers, and a line in the log.

use std::sync::Arc;

use tracing::{debug, error, info, warn};
use wasmtime::component::Resource;
use weir_model::{Endpoint, NameId};

use crate::about::Inputs;
use crate::answer::Eligible;
use crate::bindings::v0_1::weir::policy as v0_1;
use crate::bindings::weir::policy::log::{self, Level};
use crate::bindings::weir::policy::{snapshot, types};
use crate::compiled::Policy;
use crate::limits::Guard;
use crate::log_budget::LogBudget;
use crate::subject::{Subject, Subjects};
use crate::wasi::Inert;

/// The resource behind the contract's `view`: there is one a call, so it carries nothing.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct View;

/// The data of one instance.
pub(crate) struct HostState {
    pub(crate) guard: Guard,
    policy: Arc<str>,
    /// The policy's own settings, where the Service gives none.
    settings: Arc<str>,
    subjects: Arc<Subjects>,
    /// Set for a balancer: what its ring numbers mean, see [`ring_number`].
    eligible: Option<Arc<Vec<Option<Arc<Eligible>>>>>,
    wanted: Inputs,
    /// Whether it looked up what it does not ask for.
    pub(crate) blind: bool,
    log: LogBudget,
    /// Set for a policy that may import WASI.
    pub(crate) wasi: Option<Inert>,
}

impl HostState {
    pub(crate) fn new(
        policy: &Policy,
        subjects: Arc<Subjects>,
        eligible: Option<Arc<Vec<Option<Arc<Eligible>>>>>,
    ) -> Self {
        let (limits, settings) = (policy.limits.clone(), policy.settings.clone());
        let wasi = policy.randomness.as_ref().map(|random| Inert::new(&policy.name, random));
        let (wanted, policy) = (policy.inputs(), policy.name.clone());
        let (guard, log) = (Guard::new(limits), LogBudget::default());
        Self { guard, policy, settings, subjects, eligible, wanted, blind: false, log, wasi }
    }

    /// Begins a call: the log's allowance is full again.
    pub(crate) fn begin_call(&mut self) {
        self.log = LogBudget::default();
    }

    /// Lets go of what the calls were about.
    pub(crate) fn forget(&mut self) {
        self.subjects = Arc::new(Subjects::none());
        self.eligible = None;
    }

    fn subject(&self, id: u32) -> Option<&Subject> {
        let at = if self.eligible.is_some() { id / 2 } else { id };
        self.subjects.list.get(at as usize)
    }

    /// The subject and the position in its port's list that a policy means.
    fn place(&self, id: u32, at: u32) -> Option<(&Subject, usize)> {
        let at = match &self.eligible {
            Some(eligible) => *eligible.get(id as usize / 2)?.as_ref()?.lists[id as usize % 2].get(at as usize)?,
            None => at,
        };
        Some((self.subject(id)?, at as usize))
    }

    /// The subject, for a policy that may see what `allows` says.
    fn seen(&mut self, id: u32, allows: impl Fn(Inputs) -> bool) -> Option<&Subject> {
        let allowed = allows(self.wanted);
        self.blind |= !allowed;
        self.subject(id).filter(|_| allowed)
    }

    /// An endpoint, for a policy that may know who it is.
    fn endpoint(&mut self, id: u32, at: u32) -> Option<Endpoint> {
        self.seen(id, |wanted| wanted.names)?;
        let (subject, at) = self.place(id, at)?;
        subject.port.endpoints.get(at).copied()
    }

    fn name(&self, name: Option<NameId>) -> String {
        name.map_or_else(String::new, |name| self.subjects.names.get(name).to_owned())
    }
}

/// What a balancer knows a ring by: the subject's position, and 0 for its cluster list or 1 for its local one.
pub(crate) fn ring_number(subject: u32, list: u32) -> u32 {
    2 * subject + list
}

/// A number the call does not know gets an empty answer: nothing a policy asks can hurt.
impl snapshot::HostView for HostState {
    fn settings(&mut self, _: Resource<View>, port: u32) -> String {
        let settings = |subject: &Subject| {
            if self.eligible.is_some() { subject.balancer_settings } else { subject.traffic_settings }
        };
        let of_service = |subject| self.subjects.names.get(settings(subject));
        match self.subject(port).map(of_service) {
            Some("") => self.settings.to_string(),
            Some(given) => given.to_owned(),
            None => String::new(),
        }
    }

    fn service_name(&mut self, _: Resource<View>, port: u32) -> String {
        self.seen(port, |wanted| wanted.names).map_or_else(String::new, |subject| subject.service.to_string())
    }

    fn port_name(&mut self, _: Resource<View>, port: u32) -> String {
        let name = self.seen(port, |wanted| wanted.names).map(|subject| subject.port.key.name);
        self.name(name)
    }

    fn annotation(&mut self, _: Resource<View>, port: u32, key: String) -> Option<String> {
        self.seen(port, |wanted| wanted.annotations)?.extras.as_ref()?.annotations.get(&key).cloned()
    }

    fn endpoint_address(&mut self, _: Resource<View>, port: u32, endpoint: u32) -> String {
        self.endpoint(port, endpoint).map_or_else(String::new, |endpoint| endpoint.address.to_string())
    }

    fn endpoint_pod(&mut self, _: Resource<View>, port: u32, endpoint: u32) -> String {
        if self.seen(port, |wanted| wanted.pods).is_none() {
            return String::new();
        }
        let pod = self.place(port, endpoint).and_then(|(subject, at)| subject.extras.as_ref()?.pods.get(at));
        pod.unwrap_or_default().to_owned()
    }

    fn endpoint_node(&mut self, _: Resource<View>, port: u32, endpoint: u32) -> String {
        let node = self.endpoint(port, endpoint).map(|endpoint| endpoint.node);
        self.name(node)
    }

    fn endpoint_zone(&mut self, _: Resource<View>, port: u32, endpoint: u32) -> String {
        let zone = self.endpoint(port, endpoint).map(|endpoint| endpoint.zone);
        self.name(zone)
    }

    fn node_name(&mut self, _: Resource<View>) -> String {
        self.subjects.node.name.clone()
    }

    fn node_zone(&mut self, _: Resource<View>) -> String {
        self.subjects.node.zone.clone()
    }

    fn drop(&mut self, _: Resource<View>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl snapshot::Host for HostState {}

impl types::Host for HostState {}

/// What 0.1 offers is what 0.2 offers, less what is new.
impl v0_1::snapshot::HostView for HostState {
    fn settings(&mut self, view: Resource<View>, port: u32) -> String {
        snapshot::HostView::settings(self, view, port)
    }

    fn service_name(&mut self, view: Resource<View>, port: u32) -> String {
        snapshot::HostView::service_name(self, view, port)
    }

    fn port_name(&mut self, view: Resource<View>, port: u32) -> String {
        snapshot::HostView::port_name(self, view, port)
    }

    fn endpoint_address(&mut self, view: Resource<View>, port: u32, endpoint: u32) -> String {
        snapshot::HostView::endpoint_address(self, view, port, endpoint)
    }

    fn endpoint_node(&mut self, view: Resource<View>, port: u32, endpoint: u32) -> String {
        snapshot::HostView::endpoint_node(self, view, port, endpoint)
    }

    fn endpoint_zone(&mut self, view: Resource<View>, port: u32, endpoint: u32) -> String {
        snapshot::HostView::endpoint_zone(self, view, port, endpoint)
    }

    fn node_name(&mut self, view: Resource<View>) -> String {
        snapshot::HostView::node_name(self, view)
    }

    fn node_zone(&mut self, view: Resource<View>) -> String {
        snapshot::HostView::node_zone(self, view)
    }

    fn drop(&mut self, view: Resource<View>) -> wasmtime::Result<()> {
        snapshot::HostView::drop(self, view)
    }
}

impl v0_1::snapshot::Host for HostState {}

impl v0_1::types::Host for HostState {}

impl v0_1::log::Host for HostState {
    fn enabled(&mut self, level: v0_1::log::Level) -> bool {
        log::Host::enabled(self, level.into())
    }

    fn write(&mut self, level: v0_1::log::Level, message: String) {
        log::Host::write(self, level.into(), message);
    }
}

impl From<v0_1::log::Level> for Level {
    fn from(level: v0_1::log::Level) -> Self {
        match level {
            v0_1::log::Level::Debug => Self::Debug,
            v0_1::log::Level::Info => Self::Info,
            v0_1::log::Level::Warn => Self::Warn,
            v0_1::log::Level::Error => Self::Error,
        }
    }
}

impl log::Host for HostState {
    fn enabled(&mut self, level: Level) -> bool {
        match level {
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Warn => tracing::enabled!(tracing::Level::WARN),
            Level::Error => tracing::enabled!(tracing::Level::ERROR),
        }
    }

    fn write(&mut self, level: Level, message: String) {
        if !self.log.allows(message.len()) {
            return;
        }
        let policy = &*self.policy;
        match level {
            Level::Debug => debug!(policy, "{message}"),
            Level::Info => info!(policy, "{message}"),
            Level::Warn => warn!(policy, "{message}"),
            Level::Error => error!(policy, "{message}"),
        }
    }
}
