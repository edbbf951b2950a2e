use std::time::Duration;

use serde_json::json;
use weir_testbed::Probe;

use crate::cluster::{Cluster, tcp};
use crate::objects::{Object, Pod, http, node_port};

const ALL: [&str; 3] = ["backend-1", "backend-2", "backend-3"];
/// Connections a second while something is broken on purpose.
const RATE: u32 = 100;
/// A probe's patience. Less than the second after which a lost SYN is sent again, so that one counts as a failure.
const PATIENCE: Duration = Duration::from_millis(900);

/// A Service stays up while its proxy is down, and one that was made, changed or deleted meanwhile is as it should be
/// afterwards.
pub(crate) fn should_work_after_restarting_kube_proxy() {
    let numbered = |number: u8| Object::service(&format!("restart-{number}"), number, json!({"ports": http()}));
    let [stays, changes, goes, comes] = [11, 12, 13, 14].map(numbered);
    let at = |number: u8| tcp(&format!("10.96.0.{number}:80"));
    let mut cluster = Cluster::with(&stays, &Pod::ALL);
    cluster.apply(&changes, &[Pod::ready("backend-1")]);
    cluster.apply(&goes, &Pod::ALL);
    let probe = Probe::connections(&cluster.host("client"), at(11).within(PATIENCE), RATE);
    cluster.crash();
    for number in [11, 12, 13] {
        assert!(at(number).make_on(&cluster.host("client")).is_ok(), "the rules outlive Weir");
    }
    cluster.write(&changes, &[Pod::ready("backend-2")]);
    cluster.write(&comes, &Pod::ALL);
    cluster.erase(&goes);
    cluster.restart();
    cluster.serves("client", at(11), &ALL);
    cluster.serves("client", at(12), &["backend-2"]);
    cluster.drops("client", at(13));
    cluster.serves("client", at(14), &ALL);
    let report = probe.stop();
    assert_eq!(report.failures().len(), 0, "{:?}", report.failures());
    assert!(report.tally.answered() > 0, "the probe did not run");
}

/// Where the kernel lets Weir own its tables (6.9 and later) nobody can delete, flush or change them while it runs.
/// Where they are not owned, or Weir is down, they can be deleted; the next start brings them back.
pub(crate) fn should_recreate_its_iptables_rules_if_they_are_deleted() {
    let spec = json!({"type": "NodePort", "ports": [node_port("http", "TCP", 80, 30_080)]});
    let mut cluster = Cluster::with(&Object::service("iptables-flush-test", 10, spec), &Pod::ALL);
    let (node, before) = (cluster.host("node"), cluster.rules());
    let attempts =
        ["delete table ip weir", "delete table ip6 weir", "flush table ip weir", "flush map ip weir frontends"];
    if before.contains("flags owner") {
        let probe = Probe::connections(&cluster.host("client"), tcp("10.96.0.10:80").within(PATIENCE), RATE);
        for attempt in attempts {
            let words: Vec<&str> = attempt.split(' ').collect();
            let error = node.command("nft", &words).expect_err(attempt).to_string();
            assert!(error.contains("Operation not permitted"), "{attempt}: {error}");
        }
        // Of what belongs to others, a flush takes no notice and succeeds.
        node.command("nft", &["flush", "ruleset"]).unwrap();
        assert!(cluster.rules() == before, "{}", cluster.rules());
        cluster.serves("client", tcp("10.96.0.10:80"), &ALL);
        let report = probe.stop();
        assert_eq!(report.failures().len(), 0, "{:?}", report.failures());
    }
    cluster.crash();
    node.command("nft", &["delete", "table", "ip", "weir"]).unwrap();
    assert!(tcp("10.96.0.10:80").within(PATIENCE).make_on(&cluster.host("client")).is_err());
    let recreated = cluster.restart();
    assert!(!recreated.transaction.is_empty());
    cluster.crash();
    let again = cluster.restart();
    assert!(again.transaction.is_empty(), "nothing is missing: {:?}", again.transaction);
    cluster.serves("client", tcp("10.96.0.10:80"), &ALL);
    cluster.serves("outside", tcp("192.168.0.2:30080"), &ALL);
}
