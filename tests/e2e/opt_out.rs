use serde_json::{Value, json};
use weir_testbed::{Listen, Server};
use weir_tests::lab::DROPPED;

use crate::cluster::{Cluster, tcp};
use crate::objects::{Object, Pod, http};

const ALL: [&str; 3] = ["backend-1", "backend-2", "backend-3"];

/// A Service of the rival proxy, as it stands in nft: its ClusterIP leads to `backend-2`. Rivals are not asked for an
/// order: they come before or after us.
fn rival(priority: &str) -> String {
    format!(
        "table ip rival
        delete table ip rival
        table ip rival {{
            chain prerouting {{
                type nat hook prerouting priority {priority}
                ip daddr 10.96.0.11 tcp dport 80 dnat to 10.244.0.12:9000
            }}
        }}"
    )
}

fn labelled(service: &Object, label: &str, value: &Value) -> Object {
    service.patched(json!({"metadata": {"labels": {label: value}}}))
}

/// A labelled Service is left to whatever proxy the label means, and that one gets through; the label may come and go.
pub(crate) fn should_implement_service_kubernetes_io_service_proxy_name() {
    const LABEL: &str = "service.kubernetes.io/service-proxy-name";
    let ours = Object::service("service-proxy-toggled", 10, json!({"ports": http()}));
    let theirs = Object::service("service-proxy-disabled", 11, json!({"ports": http()}));
    let theirs = labelled(&theirs, LABEL, &json!("foo-bar"));
    let mut cluster = Cluster::with(&ours, &Pod::ALL);
    cluster.apply(&theirs, &Pod::ALL);
    let (our_call, their_call) = (tcp("10.96.0.10:80"), tcp("10.96.0.11:80"));
    cluster.serves("client", our_call, &ALL);
    cluster.drops("client", their_call);

    let _only_by_the_rival = Server::start(&cluster.host("backend-2"), Listen::Greeting(9000)).unwrap();
    for priority in ["dstnat - 10", "dstnat", "dstnat + 10"] {
        cluster.host("node").command_with_input("nft", &["-f", "-"], &rival(priority)).unwrap();
        let answer = their_call.within(DROPPED).make_on(&cluster.host("client"));
        assert_eq!(answer.map(|answer| answer.backend).as_deref(), Ok("backend-2"), "priority {priority}");
    }

    cluster.apply(&labelled(&ours, LABEL, &json!("foo-bar")), &Pod::ALL);
    cluster.drops("client", our_call);
    cluster.apply(&labelled(&ours, LABEL, &Value::Null), &Pod::ALL);
    cluster.serves("client", our_call, &ALL);
}

/// The label on the Service, which its slices inherit, says that nobody is to program its endpoints; `clusterIP: None`
/// says that there is nothing to program.
pub(crate) fn should_implement_service_kubernetes_io_headless() {
    const LABEL: &str = "service.kubernetes.io/headless";
    let service = Object::service("service-headless-toggled", 10, json!({"ports": http()}));
    let headless = labelled(&service, LABEL, &json!(""));
    let call = tcp("10.96.0.10:80");
    let mut cluster = Cluster::with(&headless, &Pod::ALL);
    cluster.refuses("client", call);
    cluster.apply(&service, &Pod::ALL);
    cluster.serves("client", call, &ALL);
    cluster.apply(&headless, &Pod::ALL);
    cluster.refuses("client", call);
    let none = service.patched(json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}));
    cluster.apply(&none, &Pod::ALL);
    cluster.drops("client", call);
}
