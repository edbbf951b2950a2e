//! Rings that follow loads change every few seconds, and each slot that changes is work for the kernel.

use std::sync::Arc;

use weir_model::{Backend, Decision, IndexFunction};

use crate::walk::Walk;

/// Puts the slots of rings that are drawn from at random into the order in which most of them are what they were in
/// `last`: where each slot is as likely as any other, their order means nothing.
///
/// The order then depends on what was before, so this is for policies whose answers do so themselves. Of all others equal
/// clusters have equal rules, whatever happened on the way.
pub(super) fn keep_slots(last: &Decision, decision: &mut Decision) {
    let place = |backend: &Backend| (backend.address, backend.port);
    let mut now = Walk::over(decision.backends.iter().map(place).zip(0_u16..));
    let kept: Vec<Option<u16>> = last.backends.iter().map(|backend| now.find(place(backend))).collect();
    for (old, new) in [(&last.cluster, &mut decision.cluster), (&last.local, &mut decision.local)] {
        let (Some(old), Some(new)) = (old, new) else { continue };
        if [old.index, new.index] != [IndexFunction::Random; 2] {
            continue;
        }
        let mut wanted = vec![0_u32; decision.backends.len()];
        new.slots.iter().for_each(|slot| wanted[usize::from(*slot)] += 1);
        let mut take = |slot: u16| {
            let wanted = &mut wanted[usize::from(slot)];
            let is_wanted = *wanted > 0;
            *wanted -= u32::from(is_wanted);
            is_wanted.then_some(slot)
        };
        let stays = |slot: Option<&u16>| slot.and_then(|slot| kept[usize::from(*slot)]);
        let slots: Vec<Option<u16>> =
            (0..new.slots.len()).map(|at| stays(old.slots.get(at)).and_then(&mut take)).collect();
        let mut others = new.slots.iter().filter_map(|slot| take(*slot));
        Arc::make_mut(new).slots = slots.into_iter().filter_map(|slot| slot.or_else(|| others.next())).collect();
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{Origin, Ring, Route};

    use super::*;

    fn decision(backends: &[u8], index: IndexFunction, slots: &[u16]) -> Decision {
        let backend = |number: &u8| Backend {
            address: [10, 0, 0, *number].into(),
            port: 80,
            id: u32::from(*number),
            local: false,
        };
        Decision {
            backends: backends.iter().map(backend).collect(),
            cluster: Some(Arc::new(Ring { index, slots: slots.to_vec(), affinity_seconds: 0 })),
            local: None,
            internal: Route::Cluster,
            external: Route::Cluster,
            short_cut: false,
            reason: Arc::default(),
            origin: Origin::LastResort,
        }
    }

    /// The slots that come of `new` after `old`.
    fn kept(old: &Decision, mut new: Decision) -> Vec<u16> {
        keep_slots(old, &mut new);
        new.cluster.expect("it has one").slots.clone()
    }

    #[test]
    fn what_can_stay_stays_and_the_shares_are_those_of_the_answer() {
        use IndexFunction::{Random, RoundRobin};
        let old = decision(&[1, 2, 3], Random, &[0, 1, 2, 0, 1, 2]);
        assert_eq!(kept(&old, decision(&[1, 2, 3], Random, &[0, 0, 0, 1, 1, 2])), [0, 1, 2, 0, 1, 0]);
        assert_eq!(
            kept(&old, decision(&[1, 3], Random, &[0, 1, 0, 1])),
            [0, 1, 1, 0],
            "who moved up is the same endpoint"
        );
        assert_eq!(kept(&old, decision(&[1, 2, 3, 4], Random, &[3, 2, 1, 0])), [0, 1, 2, 3]);
        assert_eq!(kept(&old, decision(&[7], Random, &[0])), [0]);
        assert_eq!(kept(&old, decision(&[1, 2, 3], RoundRobin, &[2, 1, 0])), [2, 1, 0], "there the order counts");
    }
}
