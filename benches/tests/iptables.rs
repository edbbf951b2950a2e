//! The iptables layout is what kube-proxy writes, and `iptables-restore` loads it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use weir_benches::peer::{Iptables, Restore};
use weir_benches::{NODE, POD_NETWORK, cluster};
use weir_model::{Event, ServiceSpec, SliceSpec};
use weir_testbed::{Addresses, Host};

use super::{LIMIT, example};

const LAYOUT: Iptables<'_> = Iptables { pods: "10.0.0.0/8", sorted: false };

fn full(examples: impl IntoIterator<Item = (ServiceSpec, SliceSpec)>) -> String {
    let (services, slices) = examples.into_iter().unzip();
    LAYOUT.full(&Event::Replace { services, slices })
}

/// So many endpoints of which none is on this node.
fn endpoints<const COUNT: usize>() -> [(Ipv4Addr, &'static str); COUNT] {
    std::array::from_fn(|at| (Ipv4Addr::new(10, 180, 0, u8::try_from(at + 1).unwrap()), "elsewhere"))
}

/// Names, hashes and rules of upstream's own tests (`TestOverallIPTablesRules` and those of session affinity, in
/// pkg/proxy/iptables), and every rule that is there without Services, in order.
pub(crate) fn a_layout_looks_as_kube_proxy_writes_it() {
    let svc1 = example(1, 0, &[(Ipv4Addr::new(10, 180, 0, 1), NODE), (Ipv4Addr::new(10, 180, 2, 1), "elsewhere")]);
    let svc5 = example(5, 10_800, &[(Ipv4Addr::new(10, 180, 0, 3), "elsewhere")]);
    let svc6 = example(6, 0, &[]);
    let expected = r#"
        *filter
        :KUBE-SERVICES - [0:0]
        :KUBE-EXTERNAL-SERVICES - [0:0]
        :KUBE-FORWARD - [0:0]
        :KUBE-NODEPORTS - [0:0]
        :KUBE-PROXY-FIREWALL - [0:0]
        :KUBE-FIREWALL - [0:0]
        -A KUBE-SERVICES -m comment --comment "ns6/svc6:p80 has no endpoints" -m tcp -p tcp -d 172.30.0.46 --dport 80 -j REJECT
        -A KUBE-FIREWALL -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
        -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
        -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
        -A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        COMMIT
        *nat
        :KUBE-SERVICES - [0:0]
        :KUBE-NODEPORTS - [0:0]
        :KUBE-POSTROUTING - [0:0]
        :KUBE-MARK-MASQ - [0:0]
        :KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]
        :KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]
        :KUBE-SEP-ZX7GRIZKSNUQ3LAJ - [0:0]
        :KUBE-SVC-NUKIZ6OKUXPJNT4C - [0:0]
        :KUBE-SEP-I77PXRDZVX7PMWMN - [0:0]
        -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
        -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
        -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
        -A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
        -A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
        -A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-SXIVWICOYRO3J4NJ
        -A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.2.1:80" -j KUBE-SEP-ZX7GRIZKSNUQ3LAJ
        -A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -s 10.180.0.1 -j KUBE-MARK-MASQ
        -A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80
        -A KUBE-SEP-ZX7GRIZKSNUQ3LAJ -m comment --comment ns1/svc1:p80 -s 10.180.2.1 -j KUBE-MARK-MASQ
        -A KUBE-SEP-ZX7GRIZKSNUQ3LAJ -m comment --comment ns1/svc1:p80 -m tcp -p tcp -j DNAT --to-destination 10.180.2.1:80
        -A KUBE-SERVICES -m comment --comment "ns5/svc5:p80 cluster IP" -m tcp -p tcp -d 172.30.0.45 --dport 80 -j KUBE-SVC-NUKIZ6OKUXPJNT4C
        -A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 cluster IP" -m tcp -p tcp -d 172.30.0.45 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
        -A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.3:80" -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --rcheck --seconds 10800 --reap -j KUBE-SEP-I77PXRDZVX7PMWMN
        -A KUBE-SVC-NUKIZ6OKUXPJNT4C -m comment --comment "ns5/svc5:p80 -> 10.180.0.3:80" -j KUBE-SEP-I77PXRDZVX7PMWMN
        -A KUBE-SEP-I77PXRDZVX7PMWMN -m comment --comment ns5/svc5:p80 -s 10.180.0.3 -j KUBE-MARK-MASQ
        -A KUBE-SEP-I77PXRDZVX7PMWMN -m comment --comment ns5/svc5:p80 -m recent --name KUBE-SEP-I77PXRDZVX7PMWMN --set -m tcp -p tcp -j DNAT --to-destination 10.180.0.3:80
        -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
        COMMIT"#;
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let written = full([svc1, svc5, svc6]);
    assert_eq!(written.lines().collect::<Vec<_>>(), expected);
}

/// Of those that are left, each has the same chance.
pub(crate) fn every_endpoint_has_the_same_probability() {
    let text = full([example(1, 0, &endpoints::<7>())]);
    let rules = text.lines().filter(|line| line.starts_with("-A KUBE-SVC-") && line.contains(" -j KUBE-SEP-"));
    let probabilities: Vec<Option<&str>> =
        rules.map(|rule| rule.split_once("--probability ").map(|(_, rest)| rest.split(' ').next().unwrap())).collect();
    let expected =
        ["0.1428571429", "0.1666666667", "0.2000000000", "0.2500000000", "0.3333333333", "0.5000000000"].map(Some);
    assert_eq!(probabilities, [expected.as_slice(), &[None]].concat());
    let mut left = 1.0;
    for probability in probabilities {
        let share = left * probability.map_or(1.0, |text| text.parse::<f64>().unwrap());
        assert!((share - 1.0 / 7.0).abs() < 1e-9, "{share}");
        left -= share;
    }
}

/// A port without a name has no colon; clusters of more than 1 000 endpoints keep comments in the list of Services only,
/// and chains keep their names.
pub(crate) fn comments_and_names_depend_on_the_cluster() {
    let mut unnamed = example(1, 0, &endpoints::<2>());
    unnamed.0.ports[0].name.clear();
    unnamed.1.ports[0].name.clear();
    let text = full([unnamed]);
    assert!(text.contains("\"ns1/svc1 -> 10.180.0.1:80\"") && text.contains("--comment ns1/svc1 -s"), "{text}");

    let chains = |services| -> (BTreeSet<String>, usize) {
        let text = LAYOUT.full(&cluster(services, 10));
        let of_endpoints = |line: &&str| line.starts_with("-A KUBE-SEP-") || line.contains(" -j KUBE-SEP-");
        let comments = text.lines().filter(of_endpoints).filter(|line| line.contains("--comment")).count();
        assert_eq!(text.matches(" cluster IP\"").count(), services * 2);
        (text.lines().filter(|line| line.starts_with(":KUBE-S")).map(str::to_owned).collect(), comments)
    };
    let ((small, commented), (large, uncommented)) = (chains(100), chains(101));
    assert_eq!((commented, uncommented), (100 * 10 * 3, 0));
    assert!(small.is_subset(&large));
}

/// From nothing and over itself, and what is in the kernel then.
pub(crate) fn iptables_loads_layouts() {
    const SERVICES: usize = 20;
    let restore = Restore::installed().unwrap();
    for endpoints in [1, 3] {
        let nowhere = Addresses { v4: Ipv4Addr::UNSPECIFIED, v6: Ipv6Addr::UNSPECIFIED };
        let host = Host::create("peer", nowhere).unwrap();
        let mut list = cluster(SERVICES, endpoints);
        if let Event::Replace { services, .. } = &mut list {
            services[0].affinity_seconds = 10_800;
        }
        let full = Iptables { pods: POD_NETWORK, sorted: endpoints == 3 }.full(&list);
        for text in [&Iptables::jumps(), &full, &full] {
            host.run(|| restore.load(text, LIMIT)).unwrap().unwrap();
        }
        let listed = host.command("nft", &["list", "table", "ip", "nat"]).unwrap();
        assert_eq!(listed.matches("jump KUBE-SVC-").count(), SERVICES, "{listed}");
        assert_eq!(listed.matches("jump KUBE-SERVICES").count(), 2, "{listed}");
        let forwarded = host.command("nft", &["list", "chain", "ip", "filter", "FORWARD"]).unwrap();
        assert_eq!(forwarded.matches("jump KUBE-").count(), 4, "{forwarded}");
    }
}
