//! This node's object, the ranges of the cluster, and whose Services count.

use super::*;
use crate::{Manifests, Selection};

fn node(name: &str, zone: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  labels: {{topology.kubernetes.io/zone: {zone}}}\n\
         spec: {{podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.7/24, 'fd00:1::/64']}}\n\
         status:\n  addresses:\n  - {{type: Hostname, address: {name}}}\n  - {{type: ExternalIP, address: 192.0.2.1}}\n  \
         - {{type: InternalIP, address: 10.0.0.1}}\n"
    )
}

fn ranges(name: &str, cidrs: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{name: {name}}}\nspec: {{cidrs: [{cidrs}]}}\n"
    )
}

fn here(proxy: &str) -> Selection {
    Selection { node: "here".to_owned(), service_proxy_name: proxy.to_owned() }
}

#[test]
fn only_this_nodes_object_counts() {
    let directory = Directory::new();
    directory.write("nodes.yaml", &format!("{}---\n{}", node("there", "z9"), node("here", "z1")));
    directory.write("ranges.yaml", &format!("{}---\n{}", ranges("a", "10.96.0.0/12"), ranges("b", "'fd00:10::/112'")));
    let loaded = Manifests::load(std::slice::from_ref(&directory.0), &here(""));
    let node = loaded.node.clone().expect("this node");
    assert_eq!(node.zone, "z1");
    assert_eq!(node.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.0/24", "fd00:1::/64"]);
    assert_eq!(node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "192.0.2.1"]);
    assert_eq!(loaded.problems.len(), 1, "the other node is noted: {:?}", loaded.problems);
    let events: Vec<String> = loaded.into_events().iter().map(brief).collect();
    assert_eq!(events, ["node Some(\"z1\")", "ranges [10.96.0.0/12, fd00:10::/112]", "all [] []"]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = Directory::new();
    directory.write("a.yaml", &node("here", "z1").replace("10.1.0.7/24", "10.1.0.7"));
    directory.write("b.yaml", &ranges("a", "10.96.0.0/99"));
    let problems = Manifests::load(std::slice::from_ref(&directory.0), &here("")).problems;
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("Node here") && told[0].contains("spec.podCIDRs[0]"), "{told:?}");
    assert!(told[1].contains("ServiceCIDR a") && told[1].contains("spec.cidrs[0]"), "{told:?}");
}

/// What a hint means depends on the zone, so every slice comes again when it changes.
#[test]
fn a_change_of_the_zone_brings_everything_again() {
    let directory = Directory::new();
    directory.write("web.yaml", &service("web", 80));
    directory.write("node.yaml", &node("here", "z1"));
    let mut manifests = Manifests::new(vec![directory.0.clone()], here(""));
    let mut step = || manifests.refresh().events.iter().map(brief).collect::<Vec<_>>();
    assert_eq!(step(), ["node Some(\"z1\")", "all [web:80] []"]);
    directory.write("node.yaml", &node("here", "z1").replace("10.0.0.1", "10.0.0.2"));
    assert_eq!(step(), ["node Some(\"z1\")"]);
    directory.write("node.yaml", &node("here", "zone-2"));
    assert_eq!(step(), ["node Some(\"zone-2\")", "all [web:80] []"]);
    fs::remove_file(directory.path("node.yaml")).expect("removed");
    assert_eq!(step(), ["node None", "all [web:80] []"]);
    directory.write("ranges.yaml", &ranges("a", "10.96.0.0/12"));
    assert_eq!(step(), ["ranges [10.96.0.0/12]"]);
}

#[test]
fn a_proxy_with_a_name_serves_its_own_services_only() {
    let directory = Directory::new();
    let labelled = |name: &str, label: &str| {
        service(name, 80).replace(
            "metadata:\n",
            &format!("metadata:\n  labels: {{service.kubernetes.io/service-proxy-name: '{label}'}}\n"),
        )
    };
    directory.write("a.yaml", &service("a", 80));
    directory.write("b.yaml", &labelled("b", "weir"));
    directory.write("c.yaml", &labelled("c", "other"));
    directory.write("d.yaml", &labelled("d", ""));
    let served = |proxy| {
        let loaded = Manifests::load(std::slice::from_ref(&directory.0), &here(proxy));
        loaded.services.iter().map(|spec| spec.key.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(served(""), ["a"]);
    assert_eq!(served("weir"), ["b"]);
}
