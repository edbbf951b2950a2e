use std::time::{Duration, Instant};

use serde_json::json;
use weir_model::Event;
use weir_source::ConfigMapEvent;
use weir_source::Selection;
use weir_source::kubernetes::Kind;
use weir_tests::api_server::Cluster;

use crate::rig::{NAMESPACE, Rig, cluster, node, quick, selection, service, slice};

fn policy(name: &str, labelled: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"weir.proxy/policy": labelled}},
        "data": {"settings.json": "{}"}, "binaryData": {"policy.wasm": "AGFzbQ=="}})
}

/// F03: while the slices are not listed, nobody is told that this is all; what changes meanwhile is in the first list.
/// This node comes before the slices, and the word that all is there comes last.
#[test]
fn nothing_is_complete_before_every_kind_is_listed() {
    let cluster = cluster();
    cluster.fault(|faults| faults.delay_list("endpointslices", Duration::from_millis(400)));
    let mut rig = Rig::start(&cluster, quick());
    rig.until("the Services are watched", |_| rig.count("watch", "services") == 1);
    cluster.apply([service("late", "10.0.0.2")]);
    cluster.delete("Service", "default", "web");
    let start = Instant::now();
    let mut events = Vec::new();
    while events.last() != Some(&Event::Listed) {
        events.push(rig.event());
    }
    assert!(start.elapsed() > Duration::from_millis(200), "the slices were waited for");
    let at = |what: fn(&Event) -> bool| events.iter().position(what).unwrap();
    assert!(at(|event| matches!(event, Event::Node(_))) < at(|event| matches!(event, Event::Slice(_))), "{events:?}");
    rig.converges_on(&[("late", &[])]);
}

/// The kinds in any order: the slowest one decides, whichever it is.
#[test]
fn every_kind_is_waited_for() {
    for resource in ["services", "endpointslices", "nodes", "configmaps", "servicecidrs"] {
        let cluster = cluster();
        cluster.fault(|faults| faults.delay_list(resource, Duration::from_millis(250)));
        let mut rig = Rig::start(&cluster, quick());
        let start = Instant::now();
        rig.listed();
        assert!(start.elapsed() >= Duration::from_millis(250), "{resource} was not waited for");
        rig.converges_on(&[("web", &["10.1.0.1"])]);
        assert_eq!(rig.store.node().zone, "eu-1a");
    }
}

#[test]
fn changes_come_one_by_one() {
    let cluster = cluster();
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    cluster.apply([slice("web", &["10.1.0.1", "10.1.0.2"])]);
    assert!(matches!(rig.event(), Event::Slice(spec) if spec.endpoints.len() == 2));
    cluster.apply([service("other", "10.0.0.2")]);
    assert!(matches!(rig.event(), Event::Service(spec) if spec.key.name == "other"));
    cluster.delete("Service", "default", "other");
    assert!(matches!(rig.event(), Event::ServiceGone(key) if key.name == "other"));
    cluster.delete("EndpointSlice", "default", "web-1");
    assert!(matches!(rig.event(), Event::SliceGone(key) if key.name == "web-1"));
    cluster.delete("Node", "", "n1");
    assert_eq!(rig.event(), Event::Node(None));
}

/// What the API server is asked for is what a role has to allow, and no more than what counts is sent.
#[test]
fn the_server_does_the_selecting() {
    let cluster = cluster();
    let mut other_proxy = service("of-another-proxy", "10.0.0.3");
    other_proxy["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "x"});
    let mut headless = slice("headless", &["10.1.0.9"]);
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    let mut none = service("none", "None");
    none["spec"]["clusterIPs"] = json!(["None"]);
    let mut other_node = node("eu-1b");
    other_node["metadata"]["name"] = json!("n2");
    cluster.apply([other_proxy.clone(), headless, none, other_node]);
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    rig.watched();
    let selectors = |verb: &str, resource: &str| {
        let asked = cluster.asked();
        let asked = asked.iter().find(|asked| (asked.verb, &*asked.resource) == (verb, resource)).unwrap();
        let of = |name: &str| asked.query.get(name).cloned().unwrap_or_default();
        (asked.namespace.clone(), of("labelSelector"), of("fieldSelector"))
    };
    let text = |text: &str| text.to_owned();
    for verb in ["list", "watch"] {
        let proxy = text("!service.kubernetes.io/service-proxy-name");
        assert_eq!(selectors(verb, "services"), (text(""), proxy, text("spec.clusterIP!=None")));
        let headless = text("!service.kubernetes.io/headless");
        assert_eq!(selectors(verb, "endpointslices"), (text(""), headless, text("")));
        assert_eq!(selectors(verb, "nodes"), (text(""), text(""), text("metadata.name=n1")));
        let policies = text("weir.proxy/policy=true");
        assert_eq!(selectors(verb, "configmaps"), (text(NAMESPACE), policies, text("")));
        assert_eq!(selectors(verb, "servicecidrs"), (text(""), text(""), text("")));
    }
    let watches = cluster.asked().into_iter().filter(|asked| asked.verb == "watch");
    for watch in watches {
        let seconds: u64 = watch.query["timeoutSeconds"].parse().unwrap();
        assert!((300..=600).contains(&seconds), "{watch:?}");
        assert_eq!(watch.query["allowWatchBookmarks"], "true");
    }
    let mut verbs: Vec<(&str, String)> =
        cluster.asked().into_iter().map(|asked| (asked.verb, asked.resource)).collect();
    verbs.sort();
    verbs.dedup();
    let resources = ["configmaps", "endpointslices", "nodes", "servicecidrs", "services"];
    let allowed: Vec<(&str, String)> =
        ["list", "watch"].into_iter().flat_map(|verb| resources.map(|resource| (verb, resource.to_owned()))).collect();
    assert_eq!(verbs, allowed, "nothing else is asked for");
    // A Service that begins to be ours comes, one that ceases to be goes.
    other_proxy["metadata"]["labels"] = json!({});
    cluster.apply([other_proxy.clone()]);
    rig.converges_on(&[("web", &["10.1.0.1"]), ("of-another-proxy", &[])]);
    other_proxy["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "x"});
    cluster.apply([other_proxy]);
    rig.converges_on(&[("web", &["10.1.0.1"])]);

    let named = Selection { service_proxy_name: "x".to_owned(), ..selection() };
    let mut named = Rig::start_as(&cluster, quick(), named, None);
    named.converges_on(&[("of-another-proxy", &[])]);
}

#[test]
fn policies_come_before_the_services() {
    let cluster = cluster();
    cluster.apply([policy("mine", "true"), policy("not-mine", "false")]);
    let mut rig = Rig::start(&cluster, quick());
    rig.listed();
    let ConfigMapEvent::Applied(spec) = rig.config_map() else { panic!("the policy comes first") };
    assert_eq!((spec.key.name.as_str(), &spec.binary_data["policy.wasm"][..]), ("mine", &b"\0asm"[..]));
    assert_eq!(rig.config_map(), ConfigMapEvent::Listed);
    cluster.apply([policy("mine", "no more")]);
    assert!(matches!(rig.config_map(), ConfigMapEvent::Gone(key) if key.name == "mine"));
    cluster.apply([policy("not-mine", "true")]);
    assert!(matches!(rig.config_map(), ConfigMapEvent::Applied(spec) if spec.key.name == "not-mine"));
}

/// Hints mean another thing in another zone: the slices come again.
#[test]
fn a_new_zone_lists_the_slices_again() {
    let cluster = cluster();
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    rig.watched();
    let lists = rig.count("list", "endpointslices");
    cluster.apply([node("eu-1b")]);
    assert!(matches!(rig.event(), Event::Node(Some(node)) if node.zone == "eu-1b"));
    assert!(matches!(rig.event(), Event::Slice(spec) if spec.key.name == "web-1"));
    assert_eq!(rig.count("list", "endpointslices"), lists + 1);
    assert_eq!(rig.count("list", "services"), 1, "Services have no hints");
}

#[test]
fn ranges_of_all_service_cidrs_count() {
    let cluster = cluster();
    let cidr = |name: &str, range: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "spec": {"cidrs": [range]}})
    };
    cluster.apply([cidr("a", "10.96.0.0/16")]);
    let mut rig = Rig::start(&cluster, quick());
    rig.listed();
    assert_eq!(rig.store.service_cidrs(), ["10.96.0.0/16".parse().unwrap()]);
    cluster.apply([cidr("b", "10.97.0.0/16")]);
    assert!(matches!(rig.event(), Event::ServiceCidrs(ranges) if ranges.len() == 2));
    cluster.delete("ServiceCIDR", "", "a");
    assert_eq!(rig.event(), Event::ServiceCidrs(vec!["10.97.0.0/16".parse().unwrap()]));
}

/// An object that cannot be read costs only itself: in a list, in a watch, and what was good before stays.
#[test]
fn an_undecodable_object_costs_only_itself() {
    let cluster = cluster();
    let mut bad = service("bad", "10.0.0.9");
    bad["spec"]["ports"] = json!("not a list");
    cluster.apply([bad.clone(), service("good", "10.0.0.2")]);
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("good", &[]), ("web", &["10.1.0.1"])]);
    rig.watched();
    // A good one goes bad, the bad one good, and the stream goes on.
    let mut web = service("web", "10.0.0.1");
    web["spec"]["ports"] = json!([{"port": "eighty"}]);
    cluster.apply([web, service("bad", "10.0.0.9"), service("after", "10.0.0.4")]);
    rig.converges_on(&[("after", &[]), ("bad", &[]), ("good", &[]), ("web", &["10.1.0.1"])]);
    // Not even a new list takes the last good version away.
    cluster.compact();
    cluster.end_watches_with(410);
    rig.until("a new list", |_| rig.count("list", "services") == 2);
    cluster.apply([service("last", "10.0.0.5")]);
    rig.converges_on(&[("after", &[]), ("bad", &[]), ("good", &[]), ("last", &[]), ("web", &["10.1.0.1"])]);
    cluster.delete("Service", "default", "web");
    rig.converges_on(&[("after", &[]), ("bad", &[]), ("good", &[]), ("last", &[])]);
}

/// Lists are read in pages; all of them count.
#[test]
fn lists_are_read_in_pages() {
    let cluster = cluster();
    cluster.apply((0..9).map(|number| service(&format!("s{number}"), &format!("10.0.1.{number}"))));
    let mut rig = Rig::start(&cluster, weir_source::kubernetes::Timing { page: 3, ..quick() });
    rig.listed();
    assert_eq!(rig.store.service_ids().count(), 10);
    assert_eq!(rig.count("list", "services"), 4, "{:?}", cluster.asked());
}

/// A Service that flaps 100 times a second: every state but the last may be skipped, the last one may not (F34).
#[test]
fn a_storm_ends_in_the_right_state() {
    let cluster = cluster();
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    for number in 0..500 {
        cluster.apply([slice("web", &[["10.1.0.1", "10.1.0.2"][number % 2]])]);
        if number % 100 == 50 {
            cluster.cut_watches();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    cluster.apply([slice("web", &["10.1.0.3"])]);
    rig.converges_on(&[("web", &["10.1.0.3"])]);
}

#[test]
fn health_tells_the_age_of_the_data() {
    let cluster = Cluster::new();
    cluster.fault(|faults| {
        faults.bookmarks = Duration::from_millis(20);
        faults.refuse_kind("servicecidrs", 404);
        faults.delay_list("services", Duration::from_millis(100));
    });
    let mut rig = Rig::start(&cluster, quick());
    assert_eq!(rig.health.oldest(Instant::now()), None, "not everything was heard of");
    rig.listed();
    rig.until("a young age", |_| rig.health.oldest(Instant::now()) < Some(Duration::from_millis(100)));
    assert_eq!(rig.health.age(Kind::ServiceCidr, Instant::now()), None, "what does not exist has no age");
    cluster.fault(|faults| faults.frozen = true);
    rig.until("an old age", |_| rig.health.oldest(Instant::now()) > Some(Duration::from_millis(400)));
    cluster.fault(|faults| faults.frozen = false);
    rig.until("a young age", |_| rig.health.oldest(Instant::now()) < Some(Duration::from_millis(100)));
}
