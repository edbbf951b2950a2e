//! Laws of the data plane: whatever the plans, a transaction leads from the ruleset before to the ruleset
//! after, and nothing more.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use weir_model::{Family, IndexFunction, NameId, PortKey, Protocol, ServiceId};
use weir_nft::{Installed, Ruleset, apply, diff};
use weir_plan::{Frontend, FrontendAddress, FrontendKind, LocalPods, NodeFacts, PlanRing, PortPlan, Target, Treatment};

/// Service number, family and protocol of a port decide its addresses, so that no two ports claim the same.
fn key(service: u32, family: Family, protocol: Protocol) -> PortKey {
    PortKey { service: ServiceId(service), name: NameId(1), protocol, family }
}

fn address(family: Family, net: u8, host: u32) -> IpAddr {
    let [_, _, high, low] = host.to_be_bytes();
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, net, high, low)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, u16::from(net), 0, 0, 0, 0, 0, u16::from(low))),
    }
}

fn treatments() -> impl Strategy<Value = Treatment> {
    prop_oneof![
        Just(Treatment::ExternalCluster),
        any::<bool>().prop_map(|short_cut| Treatment::ExternalLocal { short_cut }),
        any::<bool>().prop_map(|short_cut| Treatment::Drop { short_cut }),
        Just(Treatment::Reject),
    ]
}

fn rings(targets: usize) -> impl Strategy<Value = PlanRing> {
    let index = prop_oneof![
        Just(IndexFunction::Random),
        Just(IndexFunction::RoundRobin),
        Just(IndexFunction::SourceHash),
        Just(IndexFunction::FlowHash)
    ];
    let slot = 0..u16::try_from(targets).expect("few targets");
    let seconds = prop_oneof![3 => Just(0_u32), 1 => Just(10_u32), 1 => Just(10_800)];
    (index, prop::collection::vec(slot, 1..6), seconds).prop_map(|(index, slots, affinity_seconds)| PlanRing {
        index,
        slots,
        affinity_seconds,
    })
}

fn plans() -> impl Strategy<Value = PortPlan> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    // Few endpoints for many Services: hairpin elements are shared, and their last user matters.
    let targets = prop::collection::btree_set((0_u32..6, any::<bool>()), 1..5);
    (0_u32..8, family, protocol, targets, treatments(), any::<bool>(), any::<bool>())
        .prop_flat_map(|(service, family, protocol, hosts, external, node_port, internal_local)| {
            let mut targets: Vec<Target> = hosts
                .iter()
                .map(|(host, local)| Target {
                    address: address(family, 2, *host),
                    port: 80,
                    id: 0x8000_0000 | host,
                    local: *local,
                })
                .collect();
            targets.dedup_by_key(|target| target.address);
            let count = targets.len();
            (
                Just((service, family, protocol, external, node_port, internal_local)),
                Just(targets),
                rings(count),
                rings(count),
            )
        })
        .prop_map(|((service, family, protocol, external, node_port, internal_local), targets, cluster, local)| {
            let internal = if internal_local { Treatment::Local } else { Treatment::Cluster };
            let frontend = |net, kind, treatment| Frontend {
                address: FrontendAddress::Ip(address(family, net, service)),
                port: 80,
                kind,
                treatment,
                guarded: internal_local && kind == FrontendKind::LoadBalancer,
            };
            let mut frontends =
                vec![frontend(3, FrontendKind::ClusterIp, internal), frontend(4, FrontendKind::LoadBalancer, external)];
            if node_port {
                let port = 30_000 + u16::try_from(service).expect("few services");
                let (address, kind) = (FrontendAddress::NodePort, FrontendKind::NodePort);
                frontends.push(Frontend { address, port, kind, treatment: external, guarded: false });
            }
            PortPlan {
                key: key(service, family, protocol),
                name: Arc::from(format!("default/s{service}:p")),
                frontends,
                targets,
                cluster: Some(cluster),
                local: Some(local),
                source_ranges: if internal_local { vec![IpNet::from(address(family, 5, service))] } else { Vec::new() },
            }
        })
}

/// A few commits of a few changes each; a change may remove a port.
fn histories() -> impl Strategy<Value = Vec<Vec<(PortPlan, bool)>>> {
    prop::collection::vec(prop::collection::vec((plans(), prop::bool::weighted(0.75)), 1..6), 1..6)
}

fn changes(commit: Vec<(PortPlan, bool)>) -> Vec<(PortKey, Option<PortPlan>)> {
    let mut changes: Vec<(PortKey, Option<PortPlan>)> = Vec::new();
    for (plan, stays) in commit {
        changes.retain(|(key, _)| *key != plan.key);
        changes.push((plan.key, stays.then_some(plan)));
    }
    changes
}

fn facts() -> NodeFacts {
    NodeFacts {
        local_pods: LocalPods::Networks(vec!["10.2.0.0/16".parse().expect("a network")]),
        ..NodeFacts::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_transaction_leads_from_before_to_after(history in histories()) {
        let mut installed = Installed::new(facts());
        let mut kernel = Ruleset::default();
        apply(&mut kernel, &diff(&Ruleset::default(), &installed.ruleset())).expect("the first transaction");
        for commit in history {
            let commit = changes(commit);
            let staged = installed.stage(commit.clone());
            if let Err(refused) = apply(&mut kernel, &staged.transaction) {
                panic!("{refused}\n{:#?}", staged.transaction);
            }
            prop_assert_eq!(&kernel, &installed.ruleset());
            prop_assert!(installed.stage(commit).transaction.is_empty(), "nothing changed, yet something is sent");
        }
    }

    #[test]
    fn incremental_equals_full(history in histories()) {
        let mut step_by_step = Installed::new(facts());
        let mut last = std::collections::BTreeMap::new();
        for commit in history {
            let commit = changes(commit);
            last.extend(commit.iter().cloned());
            let _ = step_by_step.stage(commit);
        }
        let mut at_once = Installed::new(facts());
        at_once.load(last.into_iter().collect());
        prop_assert_eq!(step_by_step.ruleset(), at_once.ruleset());
    }

    #[test]
    fn revert_undoes(first in histories(), second in histories()) {
        let mut installed = Installed::new(facts());
        for commit in first {
            let _ = installed.stage(changes(commit));
        }
        let before = installed.ruleset();
        for commit in second {
            let staged = installed.stage(changes(commit));
            installed.revert(staged.before);
            prop_assert_eq!(&before, &installed.ruleset());
        }
    }

    #[test]
    fn diff_leads_from_any_ruleset_to_any_other(first in histories(), second in histories()) {
        let ruleset = |history: Vec<Vec<(PortPlan, bool)>>| {
            let mut installed = Installed::new(facts());
            for commit in history {
                let _ = installed.stage(changes(commit));
            }
            installed.ruleset()
        };
        let (mut have, want) = (ruleset(first), ruleset(second));
        let transaction = diff(&have, &want);
        apply(&mut have, &transaction).expect("a valid transaction");
        prop_assert_eq!(&have, &want);
        prop_assert!(diff(&want, &want).is_empty());
        prop_assert!(diff(&want, &Ruleset::default()).ops.len() == want.tables.len());
    }
}

/// A set that outgrows its size is built anew in the same transaction, and the affinity map is left alone.
#[test]
fn sets_grow() {
    let mut installed = Installed::new(facts());
    let mut kernel = Ruleset::default();
    apply(&mut kernel, &diff(&Ruleset::default(), &installed.ruleset())).expect("the first transaction");
    for batch in 0..8_u32 {
        let commit = (0..250_u32).map(|at| {
            let service = batch * 250 + at;
            let frontend = Frontend {
                address: FrontendAddress::Ip(address(Family::V4, 3, service)),
                port: 80,
                kind: FrontendKind::ClusterIp,
                treatment: Treatment::Cluster,
                guarded: false,
            };
            let target = Target { address: address(Family::V4, 2, service), port: 80, id: 0x8000_0001, local: false };
            let ring = PlanRing { index: IndexFunction::Random, slots: vec![0], affinity_seconds: 0 };
            let key = key(service, Family::V4, Protocol::Tcp);
            let name = Arc::from("default/s:p");
            (
                key,
                Some(PortPlan {
                    key,
                    name,
                    frontends: vec![frontend],
                    targets: vec![target],
                    cluster: Some(ring),
                    local: None,
                    source_ranges: Vec::new(),
                }),
            )
        });
        let staged = installed.stage(commit.collect());
        apply(&mut kernel, &staged.transaction).expect("a valid transaction");
        assert_eq!(kernel, installed.ruleset());
        let affinity =
            staged.transaction.ops.iter().any(|op| {
                matches!(op, weir_nft::Op::DelSet(_, weir_nft::SetName::Affinity) | weir_nft::Op::DelTable(_))
            });
        assert!(!affinity, "clients must keep their endpoints");
    }
}
