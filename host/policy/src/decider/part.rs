//! Some of the Services of a sync: which of their ports must be decided, and what comes of it.

use std::sync::Arc;

use weir_model::{Loads, NameId, PortKey, ServiceId, Store};

use super::answer::answer;
use super::memory::Memory;
use super::progress::{Progress, Shared};
use super::{MOST_THREADS, failure};
use crate::about::Inputs;
use crate::again::{Ages, Present};
use crate::call::Problem;
use crate::catalog::{Catalog, Pair};
use crate::limits::FailureReason;
use crate::subject::{Fingerprint, Subject, Subjects};

/// Most endpoints in one call, a port counting as one more: keeps what a policy must hold at once independent of the
/// cluster's size, and all that belongs to a call in the processor's caches.
const BATCH: usize = 10_000;

/// Divides `services` into parts of about the same size, none much larger than a call: a single one, or as many as keep
/// all threads busy to the end. Which Services are decided together depends on nothing but the cluster.
pub(super) fn parts<'a>(
    store: &Store,
    services: &'a [ServiceId],
) -> impl Iterator<Item = &'a [ServiceId]> + Send + use<'a> {
    let sizes: Vec<usize> = services.iter().map(|id| store.size(*id)).collect();
    let total = sizes.iter().sum::<usize>().max(1);
    let count = match total.div_ceil(BATCH) {
        1 => 1,
        more => more.next_multiple_of(MOST_THREADS),
    };
    let (mut rest, mut sizes, mut size) = (services, sizes.into_iter(), 0);
    std::iter::from_fn(move || {
        let end = total * (size * count / total + 1) / count;
        let is_last = |more| {
            size += more;
            size >= end
        };
        let together = sizes.position(is_last).map_or(rest.len(), |last| last + 1);
        let (part, others) = rest.split_at(together);
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

/// What there is to decide by, as it was before the sync.
pub(super) struct Desk<'a, 's> {
    pub(super) store: &'a Store,
    pub(super) catalog: &'a Catalog,
    pub(super) memory: &'a Memory,
    pub(super) loads: &'a (dyn Loads + Send + Sync),
    pub(super) ages: &'a Ages,
    pub(super) shared: &'s Shared,
}

impl<'s> Desk<'_, 's> {
    /// Decides the ports of those Services.
    pub(super) fn decide(&self, services: &[ServiceId]) -> Progress<'s> {
        let Self { store, catalog, memory, loads, ages, shared } = *self;
        let mut progress = Progress::new(shared);
        progress.decisions.ports.reserve(services.len());
        let mut present = Present { now: shared.now, loads, ages, last: None, ready: Vec::new() };
        // Subjects are large: a vector that grows copies all it holds each time.
        let room = services.len().min(BATCH / 10);
        let mut batch = Subjects::new(store, room);
        let mut size = 0;
        let mut deciders: Option<Deciders> = None;
        // Who rests for these Services does so since an earlier sync.
        let any_rests = !shared.quarantine().is_empty();
        for id in services {
            let ports = store.ports(*id);
            progress.gone.extend(memory.others(*id, &ports));
            let Some(service) = store.service(*id) else {
                if any_rests {
                    shared.quarantine().forget(*id, |_, _| false);
                }
                progress.aged.extend(ages.knows(*id).then(|| (*id, Vec::new())));
                continue;
            };
            // Neighbours often ask for the same.
            if deciders.as_ref().is_none_or(|last| last.named != service.policy) {
                deciders = Some(Deciders::of(catalog, store, service.policy));
            }
            let Some(Deciders { pair, inputs, unknown, .. }) = &deciders else { continue };
            if any_rests {
                let stays =
                    |key: &PortKey, version| catalog.asks(pair, version) && ports.iter().any(|port| port.key == *key);
                shared.quarantine().forget(*id, stays);
            }
            if inputs.loads && !ports.is_empty() {
                progress.load_users.push(*id);
            }
            for port in ports {
                let print = Fingerprint::of(store, service, pair, &port);
                let key = port.key;
                if let Some(message) = unknown {
                    let named = store.names().get(service.policy);
                    let problem = Problem::new(FailureReason::UnknownPolicy, message.clone());
                    progress.fail(failure(&service.key, &port, store.names(), &Arc::from(named), problem));
                }
                let last = memory.of_port(&key);
                // Whoever wants every call gets one even where the answer is known.
                let anew = inputs.change_by_themselves() || shared.wants_all();
                if let Some(known) = last.filter(|last| last.input == print.input && !anew) {
                    progress.set(key, known.decision.clone());
                    continue;
                }
                let more = 1 + port.endpoints.len();
                if size > 0 && size + more > BATCH {
                    let full = std::mem::replace(&mut batch, Subjects::new(store, room));
                    answer(catalog, memory, full, &mut progress);
                    size = 0;
                }
                size += more;
                present.last = last.filter(|_| inputs.shares).map(|last| last.decision.clone());
                batch.list.push(Subject::new(store, service, pair.clone(), port, print, &mut present));
            }
            if !present.ready.is_empty() || ages.knows(*id) {
                progress.aged.push((*id, std::mem::take(&mut present.ready)));
            }
        }
        answer(catalog, memory, batch, &mut progress);
        progress
    }
}

/// Who decides where Services ask for a policy of that name.
struct Deciders {
    named: NameId,
    pair: Arc<Pair>,
    inputs: Inputs,
    /// Why the policy that is asked for is not among them.
    unknown: Option<String>,
}

impl Deciders {
    fn of(catalog: &Catalog, store: &Store, named: NameId) -> Self {
        let (pair, unknown) = match catalog.pair(store.names().get(named)) {
            Ok(pair) => (pair, None),
            Err(unknown) => (catalog.without_settings(), Some(unknown.to_string())),
        };
        Self { named, inputs: pair.inputs(), pair: Arc::new(pair), unknown }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use weir_model::{
        EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort,
        SliceSpec,
    };

    use super::*;

    /// How many Services and how much of them each part has, of Services with so many endpoints each.
    fn divided(endpoints: &[u32]) -> Vec<(usize, usize)> {
        let mut store = Store::new(NodeIdentity::default());
        for (service, endpoints) in (0_u32..).zip(endpoints) {
            let key = ObjectKey { namespace: "default".to_owned(), name: format!("service-{service:05}") };
            let cluster_ips = vec![Ipv4Addr::from_bits(0x0a60_0000 + service).into()];
            let port = ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 };
            store.apply(Event::Service(ServiceSpec {
                key: key.clone(),
                cluster_ips,
                ports: vec![port],
                ..ServiceSpec::default()
            }));
            let endpoint = |at| EndpointSpec::ready(Ipv4Addr::from_bits(0x0b00_0000 + at).into());
            store.apply(Event::Slice(SliceSpec {
                key: key.clone(),
                service: key,
                family: Family::V4,
                ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 80 }],
                endpoints: (0..*endpoints).map(endpoint).collect(),
                triggered: None,
            }));
        }
        let services: Vec<ServiceId> = store.service_ids().collect();
        let parts: Vec<&[ServiceId]> = parts(&store, &services).collect();
        assert_eq!(parts.concat(), services, "each in one part, in their order");
        let size = |part: &&[ServiceId]| (part.len(), part.iter().map(|id| store.size(*id)).sum());
        parts.iter().map(size).collect()
    }

    #[test]
    fn what_fits_into_a_call_is_one_part_and_more_is_divided_evenly() {
        assert_eq!(divided(&[]), []);
        assert_eq!(divided(&[0, 4, 9_000]), [(3, 9_007)]);
        assert_eq!(divided(&[9; 1_200]), [(300, 3_000); 4]);
        assert_eq!(divided(&[9; 4_100]).len(), 8);
        assert!(divided(&[9; 4_100]).iter().all(|(_, size)| (5_110..=5_130).contains(size)));
    }

    #[test]
    fn large_services_are_in_different_parts() {
        let sizes = divided(&[9, 40_000, 9, 9, 40_000]);
        assert_eq!(sizes, [(2, 40_011), (1, 10), (2, 40_011)]);
    }
}
