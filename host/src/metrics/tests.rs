//! Counting, without a pipeline.

use weir_model::{ObjectKey, ServiceSpec};

use super::*;
use crate::pipeline::SyncError;

/// The value of a sample, by its name with labels as they are written.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    line.parse().ok()
}

fn metrics(kube_proxy: bool) -> Metrics {
    Metrics::new(Sources::default(), kube_proxy)
}

fn service() -> Event {
    Event::Service(ServiceSpec { key: ObjectKey::default(), ..ServiceSpec::default() })
}

#[test]
fn events_failures_and_versions_count() {
    let metrics = metrics(false);
    metrics.event(&service());
    metrics.event(&Event::Replace { services: Vec::new(), slices: Vec::new() });
    metrics.failed(&SyncError::Commit(CommitError::Unknown("lost".to_owned())), 7);
    metrics.policy_version("mine", None);
    metrics.policy_version("mine", Some("traps"));
    metrics.answered("/livez", 503);
    let text = metrics.encode();
    for (sample, wanted) in [
        (r#"weir_events_total{kind="service"}"#, 1.0),
        (r#"weir_events_total{kind="list"}"#, 1.0),
        (r#"weir_sync_failures_total{phase="outcome"}"#, 1.0),
        ("weir_pending_services", 7.0),
        (r#"weir_policy_versions_total{policy="mine",result="accepted",reason=""}"#, 1.0),
        (r#"weir_policy_versions_total{policy="mine",result="refused",reason="traps"}"#, 1.0),
        (r#"weir_health_answers_total{path="/livez",code="503"}"#, 1.0),
        ("weir_health_port_listen_failures_total", 0.0),
    ] {
        assert_eq!(value(&text, sample), Some(wanted), "{sample} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && !text.contains("kubeproxy"), "{text}");
}

#[test]
fn kube_proxys_names_are_there_when_asked_for() {
    let metrics = metrics(true);
    metrics.event(&service());
    metrics.event(&service());
    metrics.failed(&SyncError::Commit(CommitError::Unknown("lost".to_owned())), 1);
    metrics.answered("/healthz", 200);
    metrics.answered("/livez", 503);
    metrics.answered("/readyz", 503);
    let text = metrics.encode();
    for (sample, wanted) in [
        ("kubeproxy_sync_proxy_rules_service_changes_total", 2.0),
        ("kubeproxy_sync_proxy_rules_service_changes_pending", 2.0),
        ("kubeproxy_sync_proxy_rules_endpoint_changes_total", 0.0),
        (r#"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"}"#, 1.0),
        (r#"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv6"}"#, 1.0),
        (r#"kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family="IPv6"}"#, 0.0),
        (r#"kubeproxy_proxy_healthz_total{code="200"}"#, 1.0),
        (r#"kubeproxy_proxy_livez_total{code="503"}"#, 1.0),
    ] {
        assert_eq!(value(&text, sample), Some(wanted), "{sample} in\n{text}");
    }
}
