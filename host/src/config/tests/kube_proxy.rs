//! Configurations of kube-proxy.

use super::*;

/// What kubeadm writes into the ConfigMap `kube-proxy`, as `config.conf`.
const KUBEADM: &str = include_str!("kubeadm.yaml");

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn of(body: &str) -> Config {
    config(&[&format!("{HEAD}{body}")])
}

fn notes(body: &str) -> Vec<String> {
    load(&[&format!("{HEAD}{body}")]).expect("a good file").notes
}

#[test]
fn what_kubeadm_writes_is_read_unchanged_and_without_a_word() {
    let loaded = load(&[KUBEADM]).expect("a real file");
    assert_eq!(loaded.notes, Vec::<String>::new());
    let kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf".to_owned();
    let wanted = Config {
        pod_cidrs: vec!["10.244.0.0/16".parse().expect("a network")],
        client_connection: ClientConnection { kubeconfig, ..ClientConnection::default() },
        ..Config::default()
    };
    assert_eq!(loaded.config, wanted);
}

/// A document, and what it changes about the defaults.
type Row = (&'static str, fn(&mut Config));

#[test]
fn every_field_that_counts() {
    let rows: [Row; 35] = [
        ("mode: nftables", |_| {}),
        ("mode: ipvs", |want| want.policies.balancer = "rr".to_owned()),
        ("mode: ipvs\nipvs: {scheduler: wrr}", |want| want.policies.balancer = "wrr".to_owned()),
        ("mode: ipvs\nipvs: {scheduler: lc}", |want| want.policies.balancer = "lc".to_owned()),
        ("mode: ipvs\nipvs: {scheduler: lblc}", |_| {}),
        ("ipvs: {scheduler: wrr}", |_| {}),
        ("healthzBindAddress: 10.0.0.1", |want| want.healthz_bind_address = BindAddress::of([10, 0, 0, 1].into())),
        ("metricsBindAddress: 0.0.0.0:9", |want| want.metrics_bind_address.0 = "0.0.0.0:9".parse().ok()),
        ("bindAddress: 10.0.0.1", |want| want.node_ips = vec![[10, 0, 0, 1].into()]),
        ("bindAddress: '::'", |want| {
            want.healthz_bind_address.0 = "[::]:10256".parse().ok();
            want.metrics_bind_address.0 = "[::1]:10249".parse().ok();
        }),
        ("bindAddressHardFail: true", |want| want.bind_address_hard_fail = true),
        ("hostnameOverride: Node-7", |want| want.node_name = "node-7".to_owned()),
        ("clientConnection: {kubeconfig: /k, qps: 7.5, burst: 9}", |want| {
            want.client_connection = ClientConnection { kubeconfig: "/k".to_owned(), qps: 7.5, burst: 9 };
        }),
        ("clusterCIDR: 10.1.0.0/16, fd00::/48", |want| {
            want.pod_cidrs = ["10.1.0.0/16", "fd00::/48"].iter().filter_map(|net| net.parse().ok()).collect();
        }),
        ("detectLocalMode: NodeCIDR", |want| want.detect_local_mode = DetectLocalMode::NodeCidr),
        ("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: br0}", |want| {
            want.detect_local_mode = DetectLocalMode::BridgeInterface;
            want.detect_local.bridge_interface = "br0".to_owned();
        }),
        ("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}", |want| {
            want.detect_local_mode = DetectLocalMode::InterfaceNamePrefix;
            want.detect_local.interface_name_prefix = "veth".to_owned();
        }),
        ("nodePortAddresses: [10.0.0.0/8, localhost]", |want| {
            want.node_port_addresses = vec!["10.0.0.0/8".to_owned(), "localhost".to_owned()];
        }),
        ("nftables: {masqueradeAll: true}", |want| want.masquerade_all = true),
        ("nftables: {masqueradeBit: 0}", |want| want.masquerade_bit = 0),
        ("nftables: {syncPeriod: 1m, minSyncPeriod: 50ms}", |want| {
            want.sync_period = Span::seconds(60);
            want.min_sync_period = Span(std::time::Duration::from_millis(50));
        }),
        ("iptables: {masqueradeAll: true, masqueradeBit: 3, syncPeriod: 40s}", |want| {
            (want.masquerade_all, want.masquerade_bit, want.sync_period) = (true, 3, Span::seconds(40));
        }),
        ("mode: nftables\niptables: {masqueradeAll: true, masqueradeBit: 3, syncPeriod: 40s}", |_| {}),
        ("mode: ipvs\niptables: {masqueradeBit: 3}\nipvs: {minSyncPeriod: 2s}\nnftables: {masqueradeBit: 4}", |want| {
            (want.masquerade_bit, want.min_sync_period) = (3, Span::seconds(2));
            // What IPVS calls it is a name of the built-in policy, too.
            want.policies.balancer = "rr".to_owned();
        }),
        ("conntrack: {maxPerCore: 0, min: 5}", |want| (want.conntrack.max_per_core, want.conntrack.min) = (0, 5)),
        ("conntrack: {tcpEstablishedTimeout: 0s}", |want| want.conntrack.tcp_established_timeout = Span::default()),
        ("conntrack: {tcpCloseWaitTimeout: 1m}", |want| want.conntrack.tcp_close_wait_timeout = Span::seconds(60)),
        ("conntrack: {tcpBeLiberal: true}", |want| want.conntrack.tcp_be_liberal = true),
        ("conntrack: {udpTimeout: 4s, udpStreamTimeout: 5s}", |want| {
            want.conntrack.udp_timeout = Span::seconds(4);
            want.conntrack.udp_stream_timeout = Span::seconds(5);
        }),
        ("oomScoreAdj: -998", |want| want.oom_score_adj = Some(-998)),
        ("logging: {format: json}", |want| want.logging.format = LogFormat::Json),
        ("logging: {verbosity: 2}", |_| {}),
        ("logging: {verbosity: 4}", |want| want.logging.level = "debug".to_owned()),
        ("featureGates: {Some: true}\nenableProfiling: true\nportRange: 1-2\nconfigSyncPeriod: 15m", |_| {}),
        ("showHiddenMetricsForVersion: '1.30'\nwinkernel: {enableDSR: true}\nwindowsRunAsService: false", |_| {}),
    ];
    for (text, change) in rows {
        let mut wanted = Config::default();
        change(&mut wanted);
        assert_eq!(of(text), wanted, "{text}");
    }
}

#[test]
fn fields_that_cannot_be_used_are_errors() {
    for (body, words) in [
        ("mode: iptables\n", &["mode", "nftables", "--proxy-mode", "0.yaml, document 1"][..]),
        ("mode: kernelspace\n", &["mode", "kernelspace"]),
        ("clusterCIDR: 10.0.0.0/8,x\n", &["clusterCIDR", "\"x\""]),
        ("clusterCidr: 10.0.0.0/8\n", &["clusterCidr", "line 3"]),
        ("nftables: {masqueradeBits: 1}\n", &["masqueradeBits", "line 3"]),
        ("nftables: {masqueradeBit: 32}\n", &["masqueradeBit", "32"]),
        ("bindAddress: eth0\n", &["bindAddress", "eth0"]),
        ("healthzBindAddress: 1.2.3.4:x\n", &["healthzBindAddress", "1.2.3.4:x"]),
        ("detectLocalMode: Magic\n", &["detectLocalMode", "Magic"]),
        ("detectLocalMode: BridgeInterface\n", &["detectLocal.bridgeInterface"]),
        ("logging: {format: xml}\n", &["logging.format", "xml"]),
        ("conntrack: {udpTimeout: soon}\n", &["soon", "line 3"]),
        ("nodePortAddresses: [somewhere]\n", &["nodePortAddresses", "somewhere"]),
    ] {
        let error = error(&[&format!("{HEAD}{body}")]);
        assert!(words.iter().all(|word| error.contains(word)), "{body:?}: {error}");
    }
    let newer = error(&["apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration\n"]);
    assert!(newer.contains("v1alpha2"), "{newer}");
}

#[test]
fn what_is_ignored_is_told_in_one_sentence() {
    let told = notes(
        "enableProfiling: true\nipvs: {strictARP: true, tcpTimeout: 0s}\nfeatureGates: {A: true}\nportRange: ''\n",
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        ["enableProfiling", "ipvs.strictARP", "featureGates"].iter().all(|name| told[0].contains(name)),
        "{told:?}"
    );
    assert!(!told[0].contains("tcpTimeout") && !told[0].contains("portRange"), "{told:?}");
}

#[test]
fn ipvs_is_told_and_keeps_its_scheduler_if_it_can() {
    assert_eq!(notes("mode: ipvs\n").len(), 1);
    let told = notes("mode: ipvs\nipvs: {scheduler: lblc}\n");
    assert!(told.iter().any(|note| note.contains("\"lblc\"") && note.contains("policies.balancer")), "{told:?}");
}

#[test]
fn the_flag_decides_on_the_mode() {
    let flags = |mode: &str| Flags { mode: Some(mode.to_owned()), layer: Layer::default() };
    let iptables = format!("{HEAD}mode: iptables\niptables: {{masqueradeBit: 3}}\n");
    let loaded = load_with(&[&iptables], &flags("nftables")).expect("the flag wins");
    assert_eq!(loaded.config, Config::default());
    let ipvs = load_with(&[], &flags("ipvs")).expect("no file is needed");
    assert_eq!((ipvs.config.policies.balancer.as_str(), ipvs.notes.len()), ("rr", 1));
    let error = load_with(&[], &flags("iptables")).expect_err("not that one").to_string();
    assert!(error.contains("--proxy-mode"), "{error}");
}

#[test]
fn weirs_own_document_wins_wherever_it_stands() {
    let own = "kind: WeirConfiguration\npodCIDRs: [10.9.0.0/16]\nhealthzBindAddress: ''\n";
    let theirs = format!("{HEAD}clusterCIDR: 10.1.0.0/16\nhealthzBindAddress: 10.0.0.1\nhostnameOverride: n1\n");
    let (both, apart) = (format!("{own}---\n{theirs}"), [own, &*theirs]);
    for texts in [&[&*both][..], &apart, &[apart[1], apart[0]]] {
        let loaded = load(texts).expect("good files");
        let config = &loaded.config;
        assert_eq!(config.pod_cidrs, ["10.9.0.0/16".parse().expect("a network")]);
        assert_eq!((config.healthz_bind_address.0, config.node_name.as_str()), (None, "n1"));
        let told = |word: &str| loaded.notes.iter().any(|note| note.contains(word));
        assert!(loaded.notes.len() == 2 && told("podCIDRs") && told("healthzBindAddress"), "{:?}", loaded.notes);
    }
}

#[test]
fn of_two_documents_the_later_wins_where_it_says_something() {
    let later = format!("{HEAD}clusterCIDR: 10.2.0.0/16\nhostnameOverride: ''\n");
    let loaded = config(&[&format!("{HEAD}clusterCIDR: 10.1.0.0/16\nhostnameOverride: n1\n"), &later]);
    assert_eq!((loaded.pod_cidrs[0].to_string().as_str(), loaded.node_name.as_str()), ("10.2.0.0/16", "n1"));
}
