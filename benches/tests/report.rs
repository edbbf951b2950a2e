//! The peer's layouts are what kube-proxy writes, `nft` and `iptables-restore` load them; and the report measures everything the design sets a
//! budget for. Nothing here depends on how long anything takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

mod iptables;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use weir_benches::peer::{Layout, Restore, Version, load, update};
use weir_benches::{NODE, POD_NETWORK, cluster, partial_slice, service, slice};
use weir_model::{
    EndpointSpec, Event, Family, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
};
use weir_testbed::{Addresses, Host, enter_for_tests};
use weir_tests::api_server::temporary;

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const VERSIONS: [Version; 2] = [Version::V1_35, Version::V1_37];

/// The one test that is ignored, and told so, where `iptables-restore` is not installed.
const NEEDS_IPTABLES: &str = "iptables_loads_layouts";

fn main() {
    let arguments = Arguments::from_args();
    if !enter_for_tests("report") {
        return;
    }
    let restore = Restore::installed();
    if let Err(why) = &restore {
        println!("{NEEDS_IPTABLES} is ignored: {why:#}");
    }
    let trials: [(&str, fn()); 8] = [
        ("a_port_looks_as_kube_proxy_writes_it", a_port_looks_as_kube_proxy_writes_it),
        ("affinity_looks_as_kube_proxy_writes_it", affinity_looks_as_kube_proxy_writes_it),
        ("nft_loads_layouts_and_changes", nft_loads_layouts_and_changes),
        ("an_iptables_layout_looks_as_kube_proxy_writes_it", iptables::a_layout_looks_as_kube_proxy_writes_it),
        ("every_endpoint_has_the_same_probability", iptables::every_endpoint_has_the_same_probability),
        ("comments_and_names_depend_on_the_cluster", iptables::comments_and_names_depend_on_the_cluster),
        (NEEDS_IPTABLES, iptables::iptables_loads_layouts),
        ("the_report_has_every_budget", the_report_has_every_budget),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(name == NEEDS_IPTABLES && restore.is_err())
    };
    let trials = trials.into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// A Service with one port, and its slice.
fn example(number: u8, affinity_seconds: u32, endpoints: &[(Ipv4Addr, &str)]) -> (ServiceSpec, SliceSpec) {
    let key = ObjectKey { namespace: format!("ns{number}"), name: format!("svc{number}") };
    let service = ServiceSpec {
        key: key.clone(),
        cluster_ips: vec![IpAddr::V4(Ipv4Addr::new(172, 30, 0, 40 + number))],
        ports: vec![ServicePortSpec { name: "p80".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        affinity_seconds,
        ..ServiceSpec::default()
    };
    let endpoint = |&(address, node): &(Ipv4Addr, &str)| EndpointSpec {
        node: Some(node.to_owned()),
        ..EndpointSpec::ready(IpAddr::V4(address))
    };
    let slice = SliceSpec {
        key: key.clone(),
        service: key,
        family: Family::V4,
        ports: vec![SlicePort { name: "p80".to_owned(), protocol: Protocol::Tcp, port: 80 }],
        endpoints: endpoints.iter().map(endpoint).collect(),
        triggered: None,
    };
    (service, slice)
}

/// The lines of one Service, without what makes a full sync repeatable.
fn lines(version: Version, (service, slice): &(ServiceSpec, SliceSpec)) -> BTreeSet<String> {
    let mut text = String::new();
    Layout { version, pods: "10.0.0.0/8", node: NODE }.service(&mut text, service, slice, true);
    let plain = |line: &str| line.replace(" , }", " }");
    text.lines().filter(|line| !line.starts_with("flush chain")).map(plain).collect()
}

fn expected(text: &str) -> BTreeSet<String> {
    text.lines().map(|line| format!("add {}", line.trim().replacen(' ', " ip kube-proxy ", 1))).collect()
}

/// Names, hashes and rules of upstream's own tests (TestOverallNFTablesRules in pkg/proxy/nftables).
fn a_port_looks_as_kube_proxy_writes_it() {
    let svc1 = example(1, 0, &[(Ipv4Addr::new(10, 180, 0, 1), NODE), (Ipv4Addr::new(10, 180, 2, 1), "elsewhere")]);
    assert_eq!(
        lines(Version::V1_37, &svc1),
        expected(
            "element hairpin-connections { 10.180.0.1 . 10.180.0.1 . tcp . 80 }
             chain service-ULMVA6XW-ns1/svc1/tcp/p80
             element cluster-ips { 172.30.0.41 }
             element service-ips { 172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80 }
             rule service-ULMVA6XW-ns1/svc1/tcp/p80 meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.180.0.1 . 80 , 1 : 10.180.2.1 . 80 }"
        )
    );
    let svc1 = example(1, 0, &[(Ipv4Addr::new(10, 180, 0, 1), NODE)]);
    assert_eq!(
        lines(Version::V1_35, &svc1),
        expected(
            "chain service-ULMVA6XW-ns1/svc1/tcp/p80
             chain endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80
             element cluster-ips { 172.30.0.41 }
             element service-ips { 172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80 }
             rule service-ULMVA6XW-ns1/svc1/tcp/p80 ip daddr 172.30.0.41 ip saddr != 10.0.0.0/8 jump mark-for-masquerade
             rule service-ULMVA6XW-ns1/svc1/tcp/p80 numgen random mod 1 vmap { 0 : goto endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 }
             rule endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 ip saddr 10.180.0.1 jump mark-for-masquerade
             rule endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 meta l4proto tcp dnat to 10.180.0.1:80"
        )
    );
}

fn affinity_looks_as_kube_proxy_writes_it() {
    let [third, fourth] = [3, 4].map(|host| (Ipv4Addr::new(10, 180, 0, host), "elsewhere"));
    assert_eq!(
        lines(Version::V1_37, &example(5, 10_800, &[third, fourth])),
        expected(
            "chain endpoint-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80
             chain endpoint-PCTS6QRA-ns5/svc5/tcp/p80__10.180.0.4/80
             chain service-HVFWP5L3-ns5/svc5/tcp/p80
             element cluster-ips { 172.30.0.45 }
             element service-ips { 172.30.0.45 . tcp . 80 : goto service-HVFWP5L3-ns5/svc5/tcp/p80 }
             set affinity-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80 { type ipv4_addr ; flags dynamic,timeout ; timeout 10800s ; }
             set affinity-PCTS6QRA-ns5/svc5/tcp/p80__10.180.0.4/80 { type ipv4_addr ; flags dynamic,timeout ; timeout 10800s ; }
             rule service-HVFWP5L3-ns5/svc5/tcp/p80 ip saddr @affinity-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80 goto endpoint-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80
             rule service-HVFWP5L3-ns5/svc5/tcp/p80 ip saddr @affinity-PCTS6QRA-ns5/svc5/tcp/p80__10.180.0.4/80 goto endpoint-PCTS6QRA-ns5/svc5/tcp/p80__10.180.0.4/80
             rule service-HVFWP5L3-ns5/svc5/tcp/p80 numgen random mod 2 vmap { 0 : goto endpoint-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80 , 1 : goto endpoint-PCTS6QRA-ns5/svc5/tcp/p80__10.180.0.4/80 }
             rule endpoint-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80 update @affinity-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80 { ip saddr }
             rule endpoint-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80 meta l4proto tcp dnat to 10.180.0.3:80
             rule endpoint-PCTS6QRA-ns5/svc5/tcp/p80__10.180.0.4/80 update @affinity-PCTS6QRA-ns5/svc5/tcp/p80__10.180.0.4/80 { ip saddr }
             rule endpoint-PCTS6QRA-ns5/svc5/tcp/p80__10.180.0.4/80 meta l4proto tcp dnat to 10.180.0.4:80"
        )
    );
}

/// From nothing, over itself, and the transactions of a changed, a new and a removed Service.
fn nft_loads_layouts_and_changes() {
    const SERVICES: usize = 20;
    for (version, endpoints) in VERSIONS.into_iter().flat_map(|version| [(version, 1), (version, 3)]) {
        let nowhere = Addresses { v4: Ipv4Addr::UNSPECIFIED, v6: Ipv6Addr::UNSPECIFIED };
        let host = Host::create("peer", nowhere).unwrap();
        let layout = Layout { version, pods: POD_NETWORK, node: NODE };
        let mut list = cluster(SERVICES, endpoints);
        if let Event::Replace { services, .. } = &mut list {
            services[0].affinity_seconds = 10_800;
        }
        let full = layout.full(&list);
        for _ in 0..2 {
            host.run(|| load(&full, LIMIT)).unwrap().unwrap();
        }
        let mut gone = String::new();
        layout.gone(&mut gone, &service(1));
        let mut new = String::new();
        layout.service(&mut new, &service(1), &slice(1, endpoints, 0), true);
        let mut changed = String::new();
        layout.service(&mut changed, &service(2), &partial_slice(2, endpoints + 1, endpoints + 1, 1), false);
        for text in [gone, new, changed] {
            host.run(|| update(&text)).unwrap();
        }
        let listed = host.command("nft", &["list", "map", "ip", "kube-proxy", "service-ips"]).unwrap();
        assert_eq!(listed.matches(" : goto service-").count(), SERVICES, "{version:?}: {listed}");
    }
}

/// All sections at sizes at which they take a moment.
fn the_report_has_every_budget() {
    let out = temporary("bench");
    let mut run = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
    run.args(["--scale", "smoke", "--out"]).arg(&out).stdin(Stdio::null());
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let summary: Vec<Value> = serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    let names: BTreeSet<&str> = summary.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), summary.len(), "a name stands twice");
    for figure in &summary {
        let fields: Vec<&str> = figure.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["budget", "name", "peer", "ratio", "unit", "value"], "{figure}");
        assert!(figure["value"].is_number(), "{figure}");
        assert_eq!(figure["peer"].is_null(), figure["ratio"].is_null(), "{figure}");
    }
    // Whatever the size.
    let wanted = [
        "full-sync/from-nothing/",
        "full-sync/faster-than-1.37/",
        "full-sync/policy-share/",
        "full-sync/policy-time-an-endpoint/",
        "full-sync/kernel-memory-an-endpoint/",
        "full-sync/exponent",
        "incremental/endpoint-moved/p50/",
        "incremental/endpoint-moved/p99/",
        "incremental/growth",
        "data-plane/connect-above-1.37/",
        "data-plane/connect-above-floor/",
        "data-plane/growth",
        "policy/kubernetes/endpoint",
        "policy/random/endpoint",
        "daemon/resident-beyond-empty/",
        "restart/failed-connections/",
        "batch/data-elements/nft/",
    ];
    for prefix in wanted {
        assert!(names.iter().any(|name| name.starts_with(prefix)), "no {prefix} among {names:?}\n{said}");
    }
    let report = std::fs::read_to_string(out.join("report.md")).unwrap();
    let plots = ["full-sync", "incremental", "connect"].map(|plot| format!("benchmarks/{plot}.svg"));
    for plot in plots {
        assert!(report.contains(&plot), "{plot} is not in the report");
        assert!(std::fs::read_to_string(out.join(&plot)).unwrap().ends_with("</svg>\n"), "{plot}");
    }
    std::fs::remove_dir_all(out).unwrap();
}
