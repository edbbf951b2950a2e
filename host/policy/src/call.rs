//! One running instance and the calls into it.

mod contract;
mod v0_1;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Resource;
use wasmtime::{Store, Trap};

pub(crate) use self::contract::Contract;
use crate::about::{self, About, SettingProblem};
use crate::answer::Eligible;
use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::bindings::weir::policy::types::{Columns, PolicyError};
use crate::clock::Running;
use crate::compiled::{LoadError, Policy};
use crate::host::HostState;
use crate::limits::FailureReason;
use crate::subject::Subjects;

/// Why a call gave no answer.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) reason: FailureReason,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What a call cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Questions.
    pub(crate) asked: u64,
    pub(crate) fuel: u64,
    pub(crate) time: Duration,
    /// Bytes of memory the instance had in the end.
    pub(crate) memory: u64,
}

/// A fresh instance, for one call: what a policy keeps in its memory must not reach the next one.
pub(crate) struct Instance<'a> {
    policy: &'a Policy,
    store: Store<HostState>,
    instance: wasmtime::component::Instance,
    pub(crate) cost: Cost,
    _running: Running,
}

impl<'a> Instance<'a> {
    /// Starts one that can look up `subjects`, and what may serve them if it is asked as a balancer.
    pub(crate) fn start(
        policy: &'a Policy,
        subjects: Arc<Subjects>,
        eligible: Option<Arc<Vec<Option<Arc<Eligible>>>>>,
    ) -> Result<Self, Problem> {
        let running = policy.engine.clock.run();
        let limits = &*policy.limits;
        let state = HostState::new(policy, subjects, eligible);
        let mut store = Store::new(policy.pre.engine(), state);
        store.limiter(|state| &mut state.guard);
        store.set_hostcall_fuel(limits.answer);
        store.set_max_component_handles(limits.handles);
        store.set_epoch_deadline(limits.deadline_ticks());
        let fuelled = store.set_fuel(limits.fuel);
        let started = fuelled.and_then(|()| policy.pre.instantiate(&mut store));
        match started {
            Ok(instance) => Ok(Self { policy, store, instance, cost: Cost::default(), _running: running }),
            Err(error) => Err(problem(&error, store.data().guard.refused, FailureReason::Instantiate)),
        }
    }

    /// Whether it looked up what it does not ask for.
    pub(crate) fn is_blind(&self) -> bool {
        self.store.data().blind
    }

    /// Ends it. What is left holds memory and nothing else; `None` where nothing is left that could be let go on
    /// another thread: what WASI needs ends with the call.
    pub(crate) fn end(self) -> Option<Store<HostState>> {
        let Self { mut store, .. } = self;
        store.data_mut().forget();
        store.data().wasi.is_none().then_some(store)
    }

    /// Binds the roles it claims to play: the last place where types can turn out to be wrong.
    pub(crate) fn try_roles(mut self) -> Result<(), LoadError> {
        let trial = |why: wasmtime::Error| LoadError::Trial(format!("{why:#}"));
        let Self { policy, store, instance, .. } = &mut self;
        match &policy.contract {
            Contract::V0_1 { traffic, balancer } => {
                traffic.as_ref().map(|role| role.load(&mut *store, instance)).transpose().map_err(trial)?;
                balancer.as_ref().map(|role| role.load(&mut *store, instance)).transpose().map_err(trial)?;
            }
            Contract::V0_2 { traffic, balancer, about } => {
                about.load(&mut *store, instance).map_err(trial)?;
                traffic.as_ref().map(|role| role.load(&mut *store, instance)).transpose().map_err(trial)?;
                balancer.as_ref().map(|role| role.load(&mut *store, instance)).transpose().map_err(trial)?;
            }
        }
        Ok(())
    }

    /// Asks what the policy is; `None` from one of contract 0.1, which cannot say.
    pub(crate) fn describe(&mut self) -> Result<Option<About>, Problem> {
        let Contract::V0_2 { about, .. } = &self.policy.contract else { return Ok(None) };
        let info =
            self.call(0, |store, instance| Ok(Ok(about.load(&mut *store, instance)?.call_describe(store)?)))?;
        Ok(Some(info.into()))
    }

    /// Asks what is wrong with these settings; one of contract 0.1 cannot say.
    pub(crate) fn check(&mut self, settings: &str) -> Result<Vec<SettingProblem>, Problem> {
        let Contract::V0_2 { about, .. } = &self.policy.contract else { return Ok(Vec::new()) };
        let found =
            self.call(0, |store, instance| Ok(Ok(about.load(&mut *store, instance)?.call_check(store, settings)?)))?;
        Ok(about::problems(&found))
    }

    /// Asks the traffic policy.
    pub(crate) fn decide(
        &mut self,
        ports: &[traffic_policy::Port],
        endpoints: &Columns,
    ) -> Result<Vec<traffic_policy::Eligibility>, Problem> {
        let (view, size) = (0, ports.len() + endpoints.conditions.len());
        self.cost.asked += ports.len() as u64;
        match &self.policy.contract {
            Contract::V0_2 { traffic: Some(role), .. } => self.call(size, |store, instance| {
                role.load(&mut *store, instance)?.call_decide(store, Resource::new_borrow(view), ports, endpoints)
            }),
            Contract::V0_1 { traffic: Some(role), .. } => {
                let (ports, endpoints) = v0_1::ports(ports, endpoints);
                let view = Resource::new_borrow(view);
                let answer = self.call(size, |store, instance| {
                    let answer = role.load(&mut *store, instance)?.call_decide(store, view, &ports, &endpoints)?;
                    Ok(answer.map_err(v0_1::error))
                })?;
                Ok(answer.into_iter().map(v0_1::eligibility).collect())
            }
            _ => Err(Problem::new(FailureReason::Instantiate, "it is no traffic policy")),
        }
    }

    /// Asks the balancer.
    pub(crate) fn balance(
        &mut self,
        rings: &[balancer::Ring],
        members: &Columns,
    ) -> Result<Vec<balancer::Spread>, Problem> {
        let (view, size) = (0, rings.len() + members.conditions.len());
        self.cost.asked += rings.len() as u64;
        match &self.policy.contract {
            Contract::V0_2 { balancer: Some(role), .. } => self.call(size, |store, instance| {
                role.load(&mut *store, instance)?.call_balance(store, Resource::new_borrow(view), rings, members)
            }),
            Contract::V0_1 { balancer: Some(role), .. } => {
                let rings = v0_1::rings(rings);
                let (view, Columns { ids, weights, .. }) = (Resource::new_borrow(view), members);
                let answer = self.call(size, |store, instance| {
                    let answer = role.load(&mut *store, instance)?.call_balance(store, view, &rings, ids, weights)?;
                    Ok(answer.map_err(v0_1::error))
                })?;
                Ok(answer.into_iter().map(v0_1::spread).collect())
            }
            _ => Err(Problem::new(FailureReason::Instantiate, "it is no balancer")),
        }
    }

    fn call<T>(
        &mut self,
        size: usize,
        call: impl FnOnce(&mut Store<HostState>, &wasmtime::component::Instance) -> wasmtime::Result<Result<T, PolicyError>>,
    ) -> Result<T, Problem> {
        let limits = &self.policy.limits;
        let fuel = limits.fuel.saturating_add(limits.fuel_per_endpoint.saturating_mul(size as u64));
        self.store.data_mut().begin_call();
        self.store.set_epoch_deadline(limits.deadline_ticks());
        self.store.set_fuel(fuel).map_err(|error| Problem::new(FailureReason::Instantiate, format!("{error:#}")))?;
        let start = Instant::now();
        let answer = call(&mut self.store, &self.instance);
        self.cost.time += start.elapsed();
        self.cost.memory = self.store.data().guard.memory();
        self.cost.fuel += fuel - self.store.get_fuel().unwrap_or(0).min(fuel);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(declared)) => Err(Problem::new(FailureReason::DeclaredError, declared_message(declared))),
            Err(error) => Err(problem(&error, self.store.data().guard.refused, FailureReason::Trap)),
        }
    }
}

/// Longest message of a policy's own that is passed on.
const LONGEST_MESSAGE: usize = 200;

fn declared_message(error: PolicyError) -> String {
    let text = match error {
        PolicyError::InvalidSettings(text) | PolicyError::Unsupported(text) | PolicyError::Internal(text) => text,
    };
    text.chars().take(LONGEST_MESSAGE).collect()
}

/// Sorts a failed call into the stable reasons. The first line says what happened; the guest's backtrace is for
/// its author, in the debug log.
fn problem(error: &wasmtime::Error, refused: Option<FailureReason>, otherwise: FailureReason) -> Problem {
    tracing::debug!("policy failed: {error:?}");
    let trap = error.downcast_ref::<Trap>();
    let cause: String =
        error.root_cause().to_string().lines().next().unwrap_or_default().chars().take(LONGEST_MESSAGE).collect();
    match trap {
        Some(Trap::OutOfFuel) => {
            Problem::new(FailureReason::Fuel, "it used up its fuel: an endless loop, or far too much work")
        }
        Some(Trap::Interrupt) => Problem::new(FailureReason::Deadline, "it took too long"),
        Some(Trap::StackOverflow) => Problem::new(FailureReason::Stack, "it called itself too deeply"),
        _ => match refused.or_else(|| by_words(&cause)) {
            Some(reason) => Problem::new(reason, format!("it wanted more than its limits allow: {cause}")),
            None => Problem::new(otherwise, cause),
        },
    }
}

/// The limits of wasmtime's own that have no trap code: what it says when one is reached.
fn by_words(cause: &str) -> Option<FailureReason> {
    const WORDS: [(&str, FailureReason); 5] = [
        ("fuel allocated for hostcalls", FailureReason::Answer),
        ("store handle limit exceeded", FailureReason::Handles),
        ("instance count too high", FailureReason::Instances),
        ("memory count too high", FailureReason::Memory),
        ("table count too high", FailureReason::Tables),
    ];
    WORDS.into_iter().find(|(words, _)| cause.contains(words)).map(|(_, reason)| reason)
}
