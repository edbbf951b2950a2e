use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use weir_testbed::Call;

use crate::cluster::{Cluster, tcp};
use crate::objects::{Object, Pod, node_port};

/// Calls by one client. That chance alone gives all of them to one of three backends happens once in 3¹⁹ times.
const CALLS: usize = 20;
/// The short timeout. Conntrack plays no part: each call is a connection of its own.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A NodePort Service with `sessionAffinity: ClientIP` for an hour, by TCP and UDP.
pub(crate) fn service() -> Object {
    with_timeout(3600)
}

fn with_timeout(seconds: u64) -> Object {
    let ports = json!([node_port("http", "TCP", 80, 30_080), node_port("udp", "UDP", 80, 30_080)]);
    Object::service("affinity", 10, json!({"type": "NodePort", "ports": ports})).patched(client_ip(seconds))
}

fn client_ip(seconds: u64) -> Value {
    json!({"spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}})
}

fn none() -> Value {
    json!({"spec": {"sessionAffinity": "None", "sessionAffinityConfig": Value::Null}})
}

/// Whom this client always gets.
fn chosen(cluster: &mut Cluster, from: &str, call: Call) -> String {
    let tally = cluster.answers(from, CALLS, call);
    assert_eq!(tally.answers.len(), 1, "{from}, {call:?}: {:?}", tally.answers);
    tally.order[0].clone()
}

/// The client stays with one backend for each of these calls, and goes on to another only when that one goes.
pub(crate) fn stays(mut cluster: Cluster, service: &Object, from: &str, calls: &[Call]) {
    for call in calls.iter().copied() {
        cluster.apply(service, &Pod::ALL);
        let first = chosen(&mut cluster, from, call);
        let rest: Vec<Pod> = Pod::ALL.into_iter().filter(|pod| pod.host() != first).collect();
        cluster.apply(service, &rest);
        let second = chosen(&mut cluster, from, call);
        assert_ne!(first, second);
        cluster.apply(service, &Pod::ALL);
        assert_eq!(chosen(&mut cluster, from, call), second, "{from}, {call:?}");
    }
}

/// Affinity is switched off, on and off again while the Service is in use.
pub(crate) fn switches(from: &str, calls: [Call; 2]) {
    let service = service();
    let mut cluster = Cluster::with(&service, &Pod::ALL);
    for call in calls {
        for _ in 0..2 {
            cluster.put(&service);
            chosen(&mut cluster, from, call);
            cluster.put(&service.patched(none()));
            let spread = cluster.answers(from, CALLS, call);
            assert!(spread.answers.len() > 1, "{from}, {call:?}: {:?}", spread.answers);
        }
    }
}

pub(crate) fn should_have_session_affinity_timeout_work_for_service_with_type_cluster_ip() {
    timeout("client", &[tcp("10.96.0.10:80"), tcp("[fd00:10:96::10]:80")]);
}

pub(crate) fn should_have_session_affinity_timeout_work_for_node_port_service() {
    timeout("outside", &[tcp("192.168.0.2:30080"), tcp("[2001:db8::1]:30080")]);
}

/// The client stays while it comes back within the timeout. Once it stayed away for longer it is free to get another,
/// which it does two times of three: it is given several chances.
fn timeout(from: &str, calls: &[Call]) {
    /// That a client who is free gets its old backend so often in a row happens once in 3¹⁶ times.
    const CHANCES: usize = 16;
    let mut cluster = Cluster::with(&with_timeout(TIMEOUT.as_secs()), &Pod::ALL);
    let mut moved = vec![false; calls.len()];
    let mut held: Vec<String> = calls.iter().map(|call| chosen(&mut cluster, from, *call)).collect();
    // Together longer than the timeout; each call starts it anew.
    for _ in 0..5 {
        sleep(TIMEOUT / 4);
        for (call, held) in calls.iter().zip(&held) {
            assert_eq!(&chosen(&mut cluster, from, *call), held, "{from}, {call:?}");
        }
    }
    for _ in 0..CHANCES {
        sleep(TIMEOUT + TIMEOUT / 8);
        for ((call, held), moved) in calls.iter().zip(&mut held).zip(&mut moved) {
            let now = chosen(&mut cluster, from, *call);
            *moved |= now != *held;
            *held = now;
        }
        if moved.iter().all(|moved| *moved) {
            return;
        }
    }
    panic!("{from} never got another backend: {moved:?}");
}
