use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use serde_json::json;
use weir_source::kubernetes::Timing;
use weir_tests::api_server::{ApiServer, Asked, ClientCertificate, temporary};

use crate::rig::{Rig, cluster, quick, selection, service};

/// When each resource was asked for.
fn times(asked: &[Asked]) -> BTreeMap<&str, Vec<Instant>> {
    let mut times: BTreeMap<&str, Vec<Instant>> = BTreeMap::new();
    for one in asked {
        times.entry(one.resource.as_str()).or_default().push(one.at);
    }
    times
}

fn waits(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// F49: an overloaded server is left alone for longer and longer, by each kind for another time.
#[test]
fn an_overloaded_server_is_left_alone() {
    for code in [429, 503] {
        let cluster = cluster();
        cluster.fault(|faults| faults.refuse = Some((code, None)));
        let mut rig = Rig::start(&cluster, quick());
        std::thread::sleep(Duration::from_millis(1000));
        assert!(!rig.is_listed(), "nothing is known");
        let asked = cluster.asked();
        let times = times(&asked);
        assert_eq!(times.len(), 4, "every kind asks, but the slices, which wait for the node");
        for (resource, times) in &times {
            // 20, 40, 80, 160, 200, 200 … ms, each by up to half shorter or longer.
            assert!((4..=14).contains(&times.len()), "{resource} asked {} times", times.len());
            assert!(
                waits(times).iter().all(|wait| *wait >= Duration::from_millis(10)),
                "{resource}: {:?}",
                waits(times)
            );
        }
        let second: Vec<Duration> = times.values().map(|times| times[1] - times[0]).collect();
        assert!(second.iter().any(|wait| *wait != second[0]), "they do not come together: {second:?}");
        cluster.fault(|faults| faults.refuse = None);
        rig.converges_on(&[("web", &["10.1.0.1"])]);
    }
}

/// What the server asks for in `Retry-After` is kept, on lists and on watches.
#[test]
fn retry_after_is_kept() {
    let cluster = cluster();
    cluster.fault(|faults| faults.refuse = Some((429, Some(1))));
    let mut rig = Rig::start(&cluster, quick());
    rig.until("second attempts", |cluster| cluster.asked().len() >= 8);
    let asked = cluster.asked();
    for (resource, times) in times(&asked) {
        assert!(waits(&times).iter().all(|wait| *wait >= Duration::from_secs(1)), "{resource}: {:?}", waits(&times));
    }
    cluster.fault(|faults| faults.refuse = None);
    rig.converges_on(&[("web", &["10.1.0.1"])]);
}

/// A refused watch goes on where it stood: being busy is no reason for a list.
#[test]
fn a_refused_watch_needs_no_list() {
    let cluster = cluster();
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    rig.watched();
    cluster.fault(|faults| faults.refuse = Some((503, None)));
    cluster.cut_watches();
    rig.until("refusals", |cluster| cluster.asked().iter().filter(|asked| asked.code == 503).count() >= 10);
    cluster.apply([service("new", "10.0.0.2")]);
    cluster.fault(|faults| faults.refuse = None);
    rig.converges_on(&[("new", &[]), ("web", &["10.1.0.1"])]);
    assert_eq!(rig.count("list", "services"), 1);
}

/// A file that is removed when dropped.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(token: &str) -> Self {
        let file = Self(temporary("token"));
        file.write(token);
        file
    }

    fn write(&self, token: &str) {
        std::fs::write(&self.0, token).unwrap();
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// F48: the token changes, the old one is refused. The client alone would go on with the old one for most of a minute.
#[test]
fn a_new_token_is_read_when_the_old_one_is_refused() {
    let cluster = cluster();
    cluster.fault(|faults| faults.token = Some("one".to_owned()));
    let token = TokenFile::new("one");
    let mut rig = Rig::start_as(&cluster, quick(), selection(), Some(token.path()));
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    rig.watched();
    for new in ["two", "three"] {
        // The server knows of the new token before we do.
        cluster.forget_asked();
        cluster.fault(|faults| faults.token = Some(new.to_owned()));
        cluster.cut_watches();
        rig.until("a refusal", |cluster| cluster.asked().iter().any(|asked| asked.code == 401));
        cluster.apply([service(new, "10.0.0.9")]);
        token.write(new);
        let rotated = Instant::now();
        let expected: &[(&str, &[&str])] = match new {
            "two" => &[("two", &[]), ("web", &["10.1.0.1"])],
            _ => &[("three", &[]), ("two", &[]), ("web", &["10.1.0.1"])],
        };
        rig.converges_on(expected);
        assert!(rotated.elapsed() < Duration::from_secs(3), "took {:?}", rotated.elapsed());
        assert_eq!(rig.count("list", "services"), 0, "the watch goes on");
    }
}

/// A cluster without ServiceCIDRs, or a role that does not allow them, is no reason to wait. Once there are any, they
/// count.
#[test]
fn service_cidrs_may_be_absent() {
    for code in [404, 403] {
        let cluster = cluster();
        cluster.fault(|faults| faults.refuse_kind("servicecidrs", code));
        let mut rig = Rig::start(&cluster, quick());
        rig.converges_on(&[("web", &["10.1.0.1"])]);
        cluster.apply([serde_json::json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "a"}, "spec": {"cidrs": ["10.96.0.0/16"]}})]);
        cluster.fault(|faults| faults.refuse_resource.clear());
        let ranges = weir_model::Event::ServiceCidrs(vec!["10.96.0.0/16".parse().unwrap()]);
        assert_eq!(rig.event(), ranges, "after {code}");
    }
}

/// With the rights of kube-proxy Weir does what kube-proxy does; policies follow once they are allowed.
#[test]
fn policies_may_be_forbidden() {
    let cluster = cluster();
    cluster.fault(|faults| faults.refuse_kind("configmaps", 403));
    let mut rig = Rig::start(&cluster, quick());
    rig.converges_on(&[("web", &["10.1.0.1"])]);
    assert!(rig.is_listed());
    cluster.fault(|faults| faults.refuse_resource.clear());
    rig.until("a watch of policies", |cluster| {
        cluster
            .asked()
            .iter()
            .any(|asked| (asked.verb, asked.resource.as_str(), asked.code) == ("watch", "configmaps", 200))
    });
}

/// Any other kind that is not allowed keeps everything back: half of the cluster would be programmed as all of it.
#[test]
fn no_other_kind_may_be_absent() {
    for resource in ["services", "endpointslices", "nodes"] {
        let cluster = cluster();
        cluster.fault(|faults| faults.refuse_kind(resource, 403));
        let mut rig = Rig::start(&cluster, quick());
        rig.until("three attempts", |_| rig.count("list", resource) >= 3);
        assert!(!rig.is_listed(), "without {resource} nothing is known");
        cluster.fault(|faults| faults.refuse_resource.clear());
        rig.converges_on(&[("web", &["10.1.0.1"])]);
    }
}

/// By TLS, with the authority the kubeconfig names; any other server is not talked to.
#[test]
fn the_server_has_to_prove_who_it_is() {
    let cluster = cluster();
    let mut rig = Rig::start_on(&cluster, ApiServer::start_tls(&cluster).unwrap(), quick(), selection(), None);
    rig.converges_on(&[("web", &["10.1.0.1"])]);

    let (known, other) = (ApiServer::start_tls(&cluster).unwrap(), ApiServer::start_tls(&cluster).unwrap());
    let kubeconfig = known.kubeconfig(None).unwrap();
    let text = std::fs::read_to_string(kubeconfig.path()).unwrap().replace(&known.url(), &other.url());
    std::fs::write(kubeconfig.path(), text).unwrap();
    cluster.forget_asked();
    let mut rig = Rig::start_by(&cluster, other, kubeconfig, quick(), selection());
    std::thread::sleep(Duration::from_millis(500));
    assert!(!rig.is_listed(), "nothing is known");
    let asked = cluster.asked();
    assert!(asked.iter().all(|asked| asked.verb == "watch"), "only the first source asks: {asked:#?}");
}

/// Client certificates, as kubeadm writes them into a kubeconfig and as files beside one. Without the right one nothing
/// is known.
#[test]
fn a_client_certificate_says_who_we_are() {
    let cluster = cluster();
    let [own, other] = [(); 2].map(|()| ClientCertificate::new().unwrap());
    let files = ["client.pem", "client.key"].map(temporary);
    for (file, pem) in files.iter().zip(own.pem()) {
        std::fs::write(file, pem).unwrap();
    }
    let inline = |certificate: &ClientCertificate| {
        let [certificate, key] = certificate.pem().map(|pem| json!(ByteString(pem.into_bytes())));
        json!({"client-certificate-data": certificate, "client-key-data": key})
    };
    let by_files = json!({"client-certificate": &files[0], "client-key": &files[1]});
    for (user, known) in [(inline(&own), true), (by_files, true), (inline(&other), false), (json!({}), false)] {
        let server = ApiServer::start_tls_for(&cluster, &own).unwrap();
        let kubeconfig = server.kubeconfig(None).unwrap();
        let text = std::fs::read_to_string(kubeconfig.path()).unwrap();
        std::fs::write(kubeconfig.path(), text.replace("user: {}", &format!("user: {user}"))).unwrap();
        cluster.forget_asked();
        let mut rig = Rig::start_by(&cluster, server, kubeconfig, quick(), selection());
        if known {
            rig.converges_on(&[("web", &["10.1.0.1"])]);
        } else {
            std::thread::sleep(Duration::from_millis(500));
            assert!(!rig.is_listed() && cluster.asked().is_empty(), "{:#?}", cluster.asked());
        }
    }
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

/// Nobody is there at first.
#[test]
fn a_server_that_comes_late_is_found() {
    let cluster = cluster();
    let timing = Timing { answer: Duration::from_millis(200), ..quick() };
    cluster.fault(|faults| faults.frozen = true);
    let mut rig = Rig::start(&cluster, timing);
    std::thread::sleep(Duration::from_millis(400));
    assert!(!rig.is_listed(), "nothing is known");
    cluster.fault(|faults| faults.frozen = false);
    rig.converges_on(&[("web", &["10.1.0.1"])]);
}
