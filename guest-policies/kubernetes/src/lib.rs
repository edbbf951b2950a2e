//! Traffic policy: the endpoints kube-proxy would use, and what it does when there are none.
//!
//! The rules are those of `CategorizeEndpoints` in Kubernetes' pkg/proxy/topology.go:
//!
//! * Ready endpoints serve. Where a list has none, those that are terminating but still serving do.
//! * `internalTrafficPolicy` and `externalTrafficPolicy: Local` keep to this node.
//! * The cluster-wide list keeps to this node, or else to this zone, if all its ready endpoints carry hints for
//!   that and some name it; all or nothing.
//! * A port that nobody serves is rejected. One that is served, but not from here, is dropped: another node may do.

wit_bindgen::generate!({ path: "../../wit", world: "traffic-only" });

use exports::weir::policy::about::{self, Info, Inputs, Problem};
use exports::weir::policy::traffic_policy::{Columns, Eligibility, Guest, PolicyError, Port, Route, Scope, Selection};
use lol_alloc::{LeakingAllocator, LockedAllocator};
use weir::policy::snapshot::View;
use weir::policy::types::Conditions;
use weir_schedulers::settings::Settings;

/// An instance lives for one call and keeps nearly all it allocates until the end, so there is nothing to gain from an
/// allocator that takes memory back; one that does is a third of such a component's code, compiled at each start.
#[global_allocator]
static MEMORY: LockedAllocator<LeakingAllocator> = LockedAllocator::new(LeakingAllocator::new());

struct Kubernetes;

impl about::Guest for Kubernetes {
    fn describe() -> Info {
        Info {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "The endpoints kube-proxy would use, and what it does when there are none.".to_owned(),
            licence: env!("CARGO_PKG_LICENSE").to_owned(),
            inputs: Inputs::empty(),
        }
    }

    fn check(settings: String) -> Vec<Problem> {
        // Loops of few words stay small when compiled, and each start of a node compiles this.
        let mut problems = Vec::new();
        if let Err(found) = <()>::parse(&settings) {
            for problem in found {
                problems.push(Problem { path: problem.path, message: problem.message });
            }
        }
        problems
    }
}

impl Guest for Kubernetes {
    fn decide(_: &View, ports: Vec<Port>, endpoints: Columns) -> Result<Vec<Eligibility>, PolicyError> {
        let of_port = |port: &Port| &endpoints.conditions[port.first as usize..][..port.count as usize];
        Ok(ports.iter().map(|port| eligibility(port, of_port(port))).collect())
    }
}

fn eligibility(port: &Port, endpoints: &[u8]) -> Eligibility {
    let all = Overview::of(endpoints);
    let internal_local = port.internal == Scope::Local;
    let external_local = port.external == Scope::Local && port.has_external;
    let cluster = if !internal_local || port.has_external { cluster(endpoints, &all) } else { List::empty() };
    let local =
        if internal_local || external_local { pick(endpoints, &all, Conditions::LOCAL, "") } else { List::empty() };
    let served = all.ready > 0 || all.stopping > 0;
    let no_local = if served { Route::Drop } else { Route::Reject };
    let route = |is_local: bool| match is_local {
        false if cluster.is_empty() => Route::Reject,
        false => Route::Cluster,
        true if local.is_empty() => no_local,
        true => Route::Local,
    };
    let internal = route(internal_local);
    // Nobody comes from outside where there is no way in; then what is said of them is as for the others.
    let external = if port.has_external { route(external_local) } else { internal };
    let lacks_local = internal == Route::Drop || external == Route::Drop;
    let reason = match (served, lacks_local) {
        (false, _) if endpoints.is_empty() => "no endpoints",
        (false, _) => "no endpoint is ready",
        (true, true) => "no ready endpoint on this node",
        (true, false) if cluster.reason.is_empty() => local.reason,
        (true, false) => cluster.reason,
    };
    Eligibility {
        id: port.id,
        short_cut: external_local && !cluster.is_empty(),
        cluster: cluster.members,
        local: local.members,
        internal,
        external,
        again_seconds: 0,
        reason: reason.to_owned(),
    }
}

/// What one look at all endpoints of a port tells.
struct Overview {
    /// How many are ready.
    ready: usize,
    /// How many are not, but stop only after they have served what still comes.
    stopping: usize,
    /// What all ready ones have.
    every: Conditions,
    /// What some ready one has.
    some: Conditions,
}

impl Overview {
    fn of(endpoints: &[u8]) -> Self {
        let (mut every, mut some) = (u8::MAX, 0);
        for conditions in endpoints {
            every &= conditions;
            some |= conditions;
        }
        let (every, some) = (Conditions::from_bits_retain(every), Conditions::from_bits_retain(some));
        // Nearly always all are ready; then nobody need be told apart.
        if every.contains(Conditions::READY) {
            return Self { ready: endpoints.len(), stopping: 0, every, some };
        }
        let mut all = Self { ready: 0, stopping: 0, every: Conditions::all(), some: Conditions::empty() };
        for conditions in each(endpoints) {
            if is_ready(conditions) {
                all.ready += 1;
                all.every &= conditions;
                all.some |= conditions;
            } else if is_stopping(conditions) {
                all.stopping += 1;
            }
        }
        all
    }

    /// Whether all of `count` endpoints are ready and have all flags of `wanted`.
    fn is_all(&self, count: usize, wanted: Conditions) -> bool {
        self.ready == count && self.every.contains(wanted)
    }

    fn agree_on(&self, any: Conditions, here: Conditions) -> bool {
        self.every.contains(any) && self.some.contains(here)
    }
}

/// Some endpoints, and what is unusual about them.
struct List {
    members: Selection,
    reason: &'static str,
}

impl List {
    fn empty() -> Self {
        Self { members: Selection::None, reason: "" }
    }

    fn is_empty(&self) -> bool {
        match &self.members {
            Selection::None => true,
            Selection::All => false,
            Selection::Only(members) => members.is_empty(),
        }
    }
}

/// The cluster-wide list: ready endpoints, close ones if all hints agree, else those that still serve.
fn cluster(endpoints: &[u8], all: &Overview) -> List {
    if all.agree_on(Conditions::NODE_HINTS, Conditions::HINTS_THIS_NODE) {
        pick(endpoints, all, Conditions::HINTS_THIS_NODE, "same node by hints")
    } else if all.agree_on(Conditions::ZONE_HINTS, Conditions::HINTS_THIS_ZONE) {
        pick(endpoints, all, Conditions::HINTS_THIS_ZONE, "same zone by hints")
    } else {
        pick(endpoints, all, Conditions::empty(), "")
    }
}

/// The ready endpoints that have all flags of `wanted`. If there are none: those that still serve. Being on this
/// node narrows these down, too; hints never do.
fn pick(endpoints: &[u8], all: &Overview, wanted: Conditions, reason: &'static str) -> List {
    if !endpoints.is_empty() && all.is_all(endpoints.len(), wanted) {
        return List { members: Selection::All, reason };
    }
    let ready = positions(endpoints, |conditions| is_ready(conditions) && conditions.contains(wanted));
    if !ready.is_empty() {
        return List { members: Selection::Only(ready), reason };
    }
    let wanted = wanted & Conditions::LOCAL;
    let stopping = positions(endpoints, |conditions| is_stopping(conditions) && conditions.contains(wanted));
    List { members: Selection::Only(stopping), reason: "only terminating endpoints left" }
}

fn positions(endpoints: &[u8], chosen: impl Fn(Conditions) -> bool) -> Vec<u32> {
    let mut positions = Vec::with_capacity(endpoints.len());
    positions.extend((0..).zip(each(endpoints)).filter(|(_, of)| chosen(*of)).map(|(position, _)| position));
    positions
}

fn each(endpoints: &[u8]) -> impl Iterator<Item = Conditions> {
    endpoints.iter().map(|bits| Conditions::from_bits_retain(*bits))
}

fn is_ready(conditions: Conditions) -> bool {
    conditions.contains(Conditions::READY)
}

fn is_stopping(conditions: Conditions) -> bool {
    !is_ready(conditions) && conditions.contains(Conditions::SERVING | Conditions::TERMINATING)
}

export!(Kubernetes);
