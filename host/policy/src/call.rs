//! One running instance and the two calls into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Resource;
use wasmtime::{Store, Trap};

use crate::answer::Eligible;
use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::bindings::weir::policy::types::PolicyError;
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
    pub(crate) fuel: u64,
    pub(crate) time: Duration,
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
        eligible: Option<Arc<Vec<Option<Eligible>>>>,
    ) -> Result<Self, Problem> {
        let engine = &policy.engine;
        let running = engine.clock.run();
        let limits = &engine.limits;
        let state = HostState::new(policy, limits.clone(), subjects, eligible);
        let mut store = Store::new(&engine.wasm, state);
        store.limiter(|state| &mut state.guard);
        store.set_hostcall_fuel(limits.answer);
        store.set_max_component_handles(limits.handles);
        store.set_epoch_deadline(engine.deadline_ticks());
        let fuelled = store.set_fuel(limits.fuel);
        let started = fuelled.and_then(|()| policy.pre.instantiate(&mut store));
        match started {
            Ok(instance) => Ok(Self { policy, store, instance, cost: Cost::default(), _running: running }),
            Err(error) => Err(problem(&error, store.data().guard.refused, FailureReason::Instantiate)),
        }
    }

    /// Binds the roles it claims to play: the last place where types can turn out to be wrong.
    pub(crate) fn try_roles(mut self) -> Result<(), LoadError> {
        let trial = |why: wasmtime::Error| LoadError::Trial(format!("{why:#}"));
        if let Some(indices) = &self.policy.traffic {
            indices.load(&mut self.store, &self.instance).map_err(trial)?;
        }
        if let Some(indices) = &self.policy.balancer {
            indices.load(&mut self.store, &self.instance).map_err(trial)?;
        }
        Ok(())
    }

    /// Asks the traffic policy.
    pub(crate) fn decide(
        &mut self,
        ports: &[traffic_policy::Port],
        endpoints: &[traffic_policy::Endpoint],
    ) -> Result<Vec<traffic_policy::Eligibility>, Problem> {
        let Some(indices) = &self.policy.traffic else {
            return Err(Problem::new(FailureReason::Instantiate, "it is no traffic policy"));
        };
        self.call(ports.len() + endpoints.len(), |store, instance| {
            indices.load(&mut *store, instance)?.call_decide(store, Resource::new_borrow(0), ports, endpoints)
        })
    }

    /// Asks the balancer.
    pub(crate) fn balance(
        &mut self,
        rings: &[balancer::Ring],
        ids: &[u32],
        weights: &[u32],
    ) -> Result<Vec<balancer::Spread>, Problem> {
        let Some(indices) = &self.policy.balancer else {
            return Err(Problem::new(FailureReason::Instantiate, "it is no balancer"));
        };
        self.call(rings.len() + ids.len(), |store, instance| {
            indices.load(&mut *store, instance)?.call_balance(store, Resource::new_borrow(0), rings, ids, weights)
        })
    }

    fn call<T>(
        &mut self,
        size: usize,
        call: impl FnOnce(&mut Store<HostState>, &wasmtime::component::Instance) -> wasmtime::Result<Result<T, PolicyError>>,
    ) -> Result<T, Problem> {
        let engine = &self.policy.engine;
        let fuel = engine.limits.fuel + engine.limits.fuel_per_endpoint * size as u64;
        self.store.data_mut().begin_call();
        self.store.set_epoch_deadline(engine.deadline_ticks());
        self.store.set_fuel(fuel).map_err(|error| Problem::new(FailureReason::Instantiate, format!("{error:#}")))?;
        let start = Instant::now();
        let answer = call(&mut self.store, &self.instance);
        self.cost.time += start.elapsed();
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
fn problem(error: &wasmtime::Error, refused: bool, otherwise: FailureReason) -> Problem {
    tracing::debug!("policy failed: {error:?}");
    let trap = error.downcast_ref::<Trap>();
    let cause: String =
        error.root_cause().to_string().lines().next().unwrap_or_default().chars().take(LONGEST_MESSAGE).collect();
    match trap {
        Some(Trap::OutOfFuel) => {
            Problem::new(FailureReason::Fuel, "it used up its fuel: an endless loop, or far too much work")
        }
        Some(Trap::Interrupt) => Problem::new(FailureReason::Deadline, "it took too long"),
        _ if refused => Problem::new(FailureReason::Memory, format!("it wanted more than its limits allow: {cause}")),
        // The host's allowance for what a call may hand over has no trap code of its own.
        _ if cause.contains("fuel allocated for hostcalls") => {
            Problem::new(FailureReason::Memory, format!("its answer is too large: {cause}"))
        }
        _ => Problem::new(otherwise, cause),
    }
}
