//! The guard on answers: a policy that runs well can still say something that would cut a Service off.

use std::sync::Arc;

use weir_model::{Conditions, IndexFunction, MAX_SLOTS, Ring, Route};

use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::slots;
use crate::subject::Subject;

/// What a traffic policy said of one port, checked.
#[derive(Debug)]
pub(crate) struct Eligible {
    /// The cluster list and the list for this node, as positions in the port's list of endpoints.
    pub(crate) lists: [Vec<u32>; 2],
    pub(crate) internal: Route,
    pub(crate) external: Route,
    pub(crate) short_cut: bool,
    /// Seconds until it wants another look; 0 for never.
    pub(crate) again: u32,
    pub(crate) reason: Arc<str>,
}

/// What a balancer said of one list, checked.
#[derive(Debug)]
pub(crate) struct Spread {
    pub(crate) ring: Arc<Ring>,
    /// Seconds until it wants another look; 0 for never.
    pub(crate) again: u32,
    pub(crate) reason: Arc<str>,
}

/// Longest reason that is kept.
const LONGEST_REASON: usize = 200;

/// Checks the answer for one port.
///
/// Refused are: another port's answer, endpoints that are not there or named twice, others' endpoints in the list for
/// this node, a route to an empty list, and
/// an answer that turns clients away while a ready endpoint could serve them: `reject` while any is ready, `drop` while
/// one on this node is.
pub(crate) fn eligible(
    subject: &Subject,
    id: u32,
    answer: traffic_policy::Eligibility,
    reasons: &mut Reasons,
) -> Result<Eligible, String> {
    if answer.id != id {
        return Err(format!("it answered for port {} when asked for port {id}", answer.id));
    }
    let count = subject.port.endpoints.len();
    let cluster = members("cluster", answer.cluster, count)?;
    let local = members("local", answer.local, count)?;
    let here = |at: &&u32| subject.port.endpoints[**at as usize].conditions.has(Conditions::LOCAL);
    if let Some(at) = local.iter().find(|at| !here(at)) {
        return Err(format!("its local list names endpoint {at}, which is not on this node"));
    }
    // What nobody outside can reach needs no route for outsiders.
    let external = subject.has_external.then_some(answer.external);
    for (name, route) in std::iter::once(("internal", answer.internal)).chain(external.map(|route| ("external", route)))
    {
        match route {
            traffic_policy::Route::Cluster if cluster.is_empty() => {
                return Err(format!("it sends {name} clients to the cluster list, which is empty"));
            }
            traffic_policy::Route::Local if local.is_empty() => {
                return Err(format!("it sends {name} clients to the local list, which is empty"));
            }
            traffic_policy::Route::Reject if subject.any_ready(Conditions::default()) => {
                return Err(format!("it rejects {name} clients although an endpoint is ready"));
            }
            traffic_policy::Route::Drop if subject.any_ready(Conditions::LOCAL) => {
                return Err(format!("it drops {name} clients although an endpoint on this node is ready"));
            }
            _ => {}
        }
    }
    Ok(Eligible {
        lists: [cluster, local],
        internal: route(answer.internal),
        external: route(external.unwrap_or(answer.internal)),
        short_cut: answer.short_cut,
        again: answer.again_seconds,
        reason: reasons.of(&answer.reason),
    })
}

/// The reasons of a batch. Neighbours mostly have the same, often none, and then hold one text together.
#[derive(Default)]
pub(crate) struct Reasons(Arc<str>);

impl Reasons {
    fn of(&mut self, text: &str) -> Arc<str> {
        let end = text.char_indices().nth(LONGEST_REASON).map_or(text.len(), |(end, _)| end);
        if *self.0 != text[..end] {
            self.0 = Arc::from(&text[..end]);
        }
        self.0.clone()
    }
}

/// Checks the answer for one ring of `members`, which are positions in the port's list, and turns it into slots
/// that name such positions.
pub(crate) fn spread(
    id: u32,
    members: &[u32],
    answer: balancer::Spread,
    reasons: &mut Reasons,
) -> Result<Spread, String> {
    if answer.id != id {
        return Err(format!("it answered for ring {} when asked for ring {id}", answer.id));
    }
    let too_many = || format!("a ring may have {MAX_SLOTS} slots at most, and {} endpoints need more", members.len());
    let place = |position: &u32| u16::try_from(*position).map_err(|_| too_many());
    let mut slots = match answer.share {
        balancer::Share::Equal if members.len() > MAX_SLOTS => return Err(too_many()),
        balancer::Share::Equal => (0..).take(members.len()).collect(),
        balancer::Share::Weights(weights) => {
            if weights.len() != members.len() {
                return Err(format!("it gave {} weights for {} endpoints", weights.len(), members.len()));
            }
            if weights.iter().all(|weight| *weight == 0) {
                return Err("every weight is 0, so nobody would serve".to_owned());
            }
            slots::from_weights(&weights).ok_or_else(too_many)?
        }
        balancer::Share::Slots(given) => checked_slots(&given, members.len())?,
    };
    // From positions in the ring to positions in the port's list.
    for slot in &mut slots {
        *slot = place(&members[usize::from(*slot)])?;
    }
    let index = match answer.index {
        balancer::IndexFunction::Random => IndexFunction::Random,
        balancer::IndexFunction::RoundRobin => IndexFunction::RoundRobin,
        balancer::IndexFunction::SourceHash => IndexFunction::SourceHash,
        balancer::IndexFunction::FlowHash => IndexFunction::FlowHash,
    };
    if answer.affinity_seconds > MAX_AFFINITY {
        return Err(format!(
            "affinity of {} seconds; at most {MAX_AFFINITY} (a day) are possible",
            answer.affinity_seconds
        ));
    }
    let ring = Arc::new(Ring { index, slots, affinity_seconds: answer.affinity_seconds });
    Ok(Spread { ring, again: answer.again_seconds, reason: reasons.of(&answer.reason) })
}

/// Kubernetes' own limit for `sessionAffinityConfig.clientIP.timeoutSeconds`.
const MAX_AFFINITY: u32 = 86_400;

fn checked_slots(given: &[u32], members: usize) -> Result<Vec<u16>, String> {
    if given.is_empty() || given.len() > MAX_SLOTS {
        return Err(format!("it gave {} slots; 1 to {MAX_SLOTS} are possible", given.len()));
    }
    let checked = |slot: &u32| match u16::try_from(*slot) {
        Ok(small) if usize::from(small) < members => Ok(small),
        _ => Err(format!("a slot names endpoint {slot}, and there are {members}")),
    };
    given.iter().map(checked).collect()
}

/// The members of a list of a port with `count` endpoints.
fn members(name: &str, selection: traffic_policy::Selection, count: usize) -> Result<Vec<u32>, String> {
    let list = match selection {
        traffic_policy::Selection::None => return Ok(Vec::new()),
        traffic_policy::Selection::All => return Ok((0..).take(count).collect()),
        traffic_policy::Selection::Only(list) => list,
    };
    // Nearly every list is ascending; only others need a look at each.
    let mut last = None;
    let mut ascending = true;
    for at in &list {
        if *at as usize >= count {
            return Err(format!("its {name} list names endpoint {at}, and there are {count}"));
        }
        ascending &= last < Some(*at);
        last = Some(*at);
    }
    if ascending {
        return Ok(list);
    }
    let mut seen = vec![false; count];
    for at in &list {
        if std::mem::replace(&mut seen[*at as usize], true) {
            return Err(format!("its {name} list names endpoint {at} twice"));
        }
    }
    Ok(list)
}

fn route(route: traffic_policy::Route) -> Route {
    match route {
        traffic_policy::Route::Cluster => Route::Cluster,
        traffic_policy::Route::Local => Route::Local,
        traffic_policy::Route::Reject => Route::Reject,
        traffic_policy::Route::Drop => Route::Drop,
    }
}
