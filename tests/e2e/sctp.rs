//! SCTP, as far as it concerns a proxy: the packets that open an association, both ways.

use std::path::Path;

use libtest_mimic::Trial;
use serde_json::json;
use weir_testbed::{Call, Host, Layout, Listen, Server};
use weir_tests::lab::BACKEND_PORT;

use crate::cluster::{Cluster, socket};
use crate::objects::{Object, Pod, port};

/// There where the kernel's conntrack knows SCTP; without that nothing can translate it.
const TRACKER: &str = "/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_closed";
/// Loads conntrack.
const TRACKING: &str = "table inet tracking {
    chain input {
        type filter hook input priority 0
        ct state new accept
    }
}";

/// The trial, ignored on a kernel that cannot do what it needs; `REQUIRE_NETNS=1` runs it all the same.
pub(crate) fn if_tracked(trial: Trial) -> Trial {
    static TRACKED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(is_tracked);
    let required = std::env::var("REQUIRE_NETNS").is_ok_and(|value| value == "1");
    trial.with_ignored_flag(!*TRACKED && !required)
}

fn is_tracked() -> bool {
    let host = Host::create("any", Layout::NODE).unwrap();
    host.command_with_input("nft", &["-f", "-"], TRACKING).unwrap();
    let tracked = host.run(|| Path::new(TRACKER).exists());
    if !tracked {
        eprintln!("\n*** e2e: SCTP IGNORED: this kernel's conntrack does not know it.\n");
    }
    tracked
}

/// The pod comes and goes, at last the Service goes.
pub(crate) fn should_allow_creating_a_basic_sctp_service_with_pod_and_endpoints() {
    let service = Object::service("sctp-endpoint-test", 10, json!({"ports": [port("sctp", "SCTP", 5060)]}));
    let calls = ["10.96.0.10:5060", "[fd00:10:96::10]:5060"].map(|target| Call::sctp(socket(target)));
    let mut cluster = Cluster::with(&service, &[]);
    let _server = Server::start(&cluster.host("backend-1"), Listen::Sctp(BACKEND_PORT)).unwrap();
    let client = cluster.host("client");
    for call in calls {
        cluster.refuses("client", call);
        cluster.apply(&service, &[Pod::ready("backend-1")]);
        let seen = cluster.serves("client", call, &["backend-1"]);
        assert_eq!(seen.clients["backend-1"], [client.address_towards(call.target.ip())].into());
        // Another protocol at the same number is another port.
        cluster.refuses("client", Call::tcp(call.target));
        cluster.apply(&service, &[]);
        cluster.refuses("client", call);
    }
    cluster.delete(&service);
    calls.into_iter().for_each(|call| cluster.drops("client", call));
}
