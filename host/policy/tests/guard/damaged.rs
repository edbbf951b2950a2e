//! Components that are damaged, by chance or on purpose: refused, or kept within limits; never a panic, never a hang.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use weir_bad_guests as guests;
use weir_policy::{BUILT_IN, Engine, Limits, Policy};

use super::support::Node;

/// What is done to a component.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Drop(Index, u8),
    Double(Index, u8),
    Splice(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, count)| Damage::Drop(at, count)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, count)| Damage::Double(at, count)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(at, from)| Damage::Splice(at, from)),
    ]
}

fn apply(bytes: &mut Vec<u8>, other: &[u8], damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Drop(at, count) => {
            let at = at.index(bytes.len());
            bytes.drain(at..(at + usize::from(*count)).min(bytes.len()));
        }
        Damage::Double(at, count) => {
            let at = at.index(bytes.len());
            let piece = bytes[at..(at + usize::from(*count)).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        Damage::Splice(at, from) => {
            bytes.truncate(at.index(bytes.len()));
            bytes.extend(&other[from.index(other.len())..]);
        }
    }
}

/// The smallest real ones: they compile fastest.
fn components() -> Vec<&'static [u8]> {
    let random = BUILT_IN.iter().find(|(name, _)| *name == "random").expect("built in").1;
    vec![random, guests::TRAP, guests::CHECK_FAILS, guests::DECLARED_ERROR]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_component_is_refused_or_stays_within_its_limits(
        which in any::<Index>(),
        other in any::<Index>(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
            let limits = Limits { fuel: 1_000_000, fuel_per_endpoint: 10_000, deadline: Duration::from_secs(1), ..Limits::default() };
            Engine::new(limits).expect("an engine")
        });
        let components = components();
        let (mut bytes, other) = (components[which.index(components.len())].to_vec(), components[other.index(components.len())]);
        for damage in &damages {
            apply(&mut bytes, other, damage);
        }
        let start = Instant::now();
        match Policy::load(&ENGINE, "damaged", &bytes) {
            Err(why) => prop_assert!(!why.reason().is_empty() && !why.to_string().is_empty()),
            Ok(policy) => {
                let mut node = Node::of(&ENGINE, &[]);
                node.decider.catalog().set(policy);
                for name in ["one", "two"] {
                    node.set(name, "damaged", "", 1..=3);
                }
                let decisions = node.decide();
                prop_assert_eq!(decisions.ports.len(), 2, "whatever it says, both are decided");
                prop_assert!(decisions.ports.iter().all(|(_, decision)| decision.cluster.is_some() || decision.local.is_some()));
            }
        }
        prop_assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}
