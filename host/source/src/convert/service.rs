//! Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec as Spec, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::IgnoredAny;
use weir_model::{Family, Protocol, ServiceKind, ServicePortSpec, ServiceSpec, TrafficPolicy, ipvs};

use super::{Converted, FieldProblem, Selection, address, meta};

/// `sessionAffinityConfig.clientIP.timeoutSeconds` when unset (Kubernetes: `DefaultClientIPServiceAffinitySeconds`).
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// Most seconds of affinity the Kubernetes API allows: a day.
const MAX_AFFINITY_SECONDS: u32 = 86_400;

/// kube-router's annotation of a Service: the IPVS scheduler it asks for.
const ANNOTATION_SCHEDULER: &str = "kube-router.io/service.scheduler";

/// The same for the scheduler's flags, with commas between them.
const ANNOTATION_FLAGS: &str = "kube-router.io/service.schedflags";

/// The Service in the model's terms. What can be left out without harm to the rest goes to `warnings`.
///
/// Headless and ExternalName Services are taken, without addresses: they exist, but nothing is programmed.
///
/// # Errors
/// The first field the Service cannot be served with.
pub fn service(
    object: &Service,
    selection: &Selection,
    warnings: &mut Vec<FieldProblem>,
) -> Result<Converted<ServiceSpec>, FieldProblem> {
    let key = meta::key(&object.metadata)?;
    let proxy = meta::label(&object.metadata, meta::LABEL_PROXY_NAME);
    // An empty label names a proxy, too: kube-proxy asks whether the label is there.
    if proxy != Some(&selection.service_proxy_name).filter(|name| !name.is_empty()).map(String::as_str) {
        return Ok(Converted::Ignored("the label service.kubernetes.io/service-proxy-name leaves it to another proxy"));
    }
    let empty = Spec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);
    let kind = kind(spec)?;
    // kube-proxy skips both as a whole, whatever other addresses they carry (`ShouldSkipService`).
    let cluster_ips = if kind == ServiceKind::ExternalName { Vec::new() } else { cluster_ips(spec)? };
    let served = !cluster_ips.is_empty();
    if !served && kind != ServiceKind::ExternalName && !is_headless(spec) {
        warnings.push(FieldProblem::new(
            "spec.clusterIP",
            "not set, so nothing is programmed; no API server gives addresses out here",
        ));
    }
    let (policy, policy_settings) = policy(&object.metadata, warnings);
    Ok(Converted::Taken(ServiceSpec {
        key,
        kind,
        created: object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        cluster_ips,
        external_ips: if served { external_ips(spec)? } else { Vec::new() },
        load_balancer_ips: object
            .status
            .as_ref()
            .filter(|_| served)
            .map_or_else(Vec::new, |status| ingress(status, warnings)),
        source_ranges: source_ranges(spec)?,
        health_check_node_port: health_check_node_port(spec, kind)?,
        ports: ports(spec)?,
        internal_policy: traffic_policy("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref())?,
        external_policy: traffic_policy("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref())?,
        affinity_seconds: affinity_seconds(spec)?,
        policy,
        policy_settings,
        annotations: annotations(&object.metadata),
    }))
}

/// The protocol of a port; unset means TCP.
pub(super) fn protocol(field: impl FnOnce() -> String, name: Option<&str>) -> Result<Protocol, FieldProblem> {
    match name {
        None | Some("TCP" | "") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(FieldProblem::new(field(), format!("{other:?} is none of TCP, UDP, SCTP"))),
    }
}

fn kind(spec: &Spec) -> Result<ServiceKind, FieldProblem> {
    match spec.type_.as_deref() {
        None | Some("ClusterIP" | "") => Ok(ServiceKind::ClusterIp),
        Some("NodePort") => Ok(ServiceKind::NodePort),
        Some("LoadBalancer") => Ok(ServiceKind::LoadBalancer),
        Some("ExternalName") => Ok(ServiceKind::ExternalName),
        Some(other) => Err(FieldProblem::new(
            "spec.type",
            format!("{other:?} is none of ClusterIP, NodePort, LoadBalancer, ExternalName"),
        )),
    }
}

fn is_headless(spec: &Spec) -> bool {
    spec.cluster_ip.as_deref() == Some("None") || spec.cluster_ips.iter().flatten().any(|ip| ip == "None")
}

/// `clusterIPs`, or `clusterIP` where the plural is missing; none for a headless Service.
fn cluster_ips(spec: &Spec) -> Result<Vec<IpAddr>, FieldProblem> {
    if is_headless(spec) {
        return Ok(Vec::new());
    }
    let single = spec.cluster_ip.iter().map(|text| ("spec.clusterIP".to_owned(), text));
    let several =
        spec.cluster_ips.iter().flatten().enumerate().map(|(at, text)| (format!("spec.clusterIPs[{at}]"), text));
    let mut texts: Vec<_> = several.collect();
    if texts.is_empty() {
        texts = single.collect();
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        let address = address::frontend(&field, text)?;
        if found.iter().any(|other| Family::of(*other) == Family::of(address)) {
            return Err(FieldProblem::new(
                field,
                format!("{address} is a second address of its IP family; one a family is allowed"),
            ));
        }
        found.push(address);
    }
    Ok(found)
}

fn external_ips(spec: &Spec) -> Result<Vec<IpAddr>, FieldProblem> {
    let texts = spec.external_ips.iter().flatten().enumerate();
    unique(texts.map(|(at, text)| address::ordinary(format_args!("spec.externalIPs[{at}]"), text)))
}

/// Load balancer addresses this node must accept. The status is written by controllers, so a bad entry costs
/// that entry only.
fn ingress(status: &ServiceStatus, warnings: &mut Vec<FieldProblem>) -> Vec<IpAddr> {
    let entries = status.load_balancer.iter().flat_map(|status| status.ingress.iter().flatten()).enumerate();
    let mut found = Vec::new();
    for (at, entry) in entries.filter(|(_, entry)| entry.ip_mode.as_deref().is_none_or(|mode| mode == "VIP")) {
        let Some(text) = entry.ip.as_deref().filter(|text| !text.is_empty()) else { continue };
        match address::frontend(format_args!("status.loadBalancer.ingress[{at}].ip"), text) {
            Ok(address) if found.contains(&address) => {}
            Ok(address) => found.push(address),
            Err(problem) => warnings.push(problem),
        }
    }
    found
}

/// Who may use the load balancer addresses. A range that cannot be read is an error: to leave it out could let
/// everybody in.
fn source_ranges(spec: &Spec) -> Result<Vec<IpNet>, FieldProblem> {
    let entries = spec.load_balancer_source_ranges.iter().flatten().enumerate();
    entries
        .map(|(at, text)| {
            address::range(text).ok_or_else(|| {
                FieldProblem::new(format!("spec.loadBalancerSourceRanges[{at}]"), format!("{text:?} is not a CIDR"))
            })
        })
        .collect()
}

/// Only a load balancer with `externalTrafficPolicy: Local` asks (kube-proxy: `ExternalPolicyLocal`).
fn health_check_node_port(spec: &Spec, kind: ServiceKind) -> Result<u16, FieldProblem> {
    if kind != ServiceKind::LoadBalancer || spec.external_traffic_policy.as_deref() != Some("Local") {
        return Ok(0);
    }
    let value = spec.health_check_node_port.unwrap_or(0);
    u16::try_from(value)
        .map_err(|_| FieldProblem::new("spec.healthCheckNodePort", format!("{value} is not in 0 to 65535")))
}

fn unique(addresses: impl Iterator<Item = Result<IpAddr, FieldProblem>>) -> Result<Vec<IpAddr>, FieldProblem> {
    let mut found = Vec::new();
    for address in addresses {
        let address = address?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

fn ports(spec: &Spec) -> Result<Vec<ServicePortSpec>, FieldProblem> {
    let (mut names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut found = Vec::new();
    for (at, entry) in spec.ports.iter().flatten().enumerate() {
        let port = port(at, entry)?;
        let duplicate = |part: &str, value: &str| {
            let message = format!("{value} is taken by an earlier port of this Service with the same protocol");
            FieldProblem::new(format!("spec.ports[{at}].{part}"), message)
        };
        if !names.insert((port.name.clone(), port.protocol)) {
            return Err(duplicate("name", &format!("{:?}", port.name)));
        }
        if !numbers.insert((port.port, port.protocol)) {
            return Err(duplicate("port", &port.port.to_string()));
        }
        if port.node_port != 0 && !node_ports.insert((port.node_port, port.protocol)) {
            return Err(duplicate("nodePort", &port.node_port.to_string()));
        }
        found.push(port);
    }
    Ok(found)
}

fn port(at: usize, entry: &ServicePort) -> Result<ServicePortSpec, FieldProblem> {
    let field = |part: &str| format!("spec.ports[{at}].{part}");
    let number = |part, value: i32, least: u16| {
        u16::try_from(value)
            .ok()
            .filter(|port| *port >= least)
            .ok_or_else(|| FieldProblem::new(field(part), format!("{value} is not in {least} to 65535")))
    };
    Ok(ServicePortSpec {
        name: entry.name.clone().unwrap_or_default(),
        protocol: protocol(|| field("protocol"), entry.protocol.as_deref())?,
        port: number("port", entry.port, 1)?,
        node_port: number("nodePort", entry.node_port.unwrap_or(0), 0)?,
    })
}

fn traffic_policy(field: &str, value: Option<&str>) -> Result<TrafficPolicy, FieldProblem> {
    match value {
        None | Some("Cluster" | "") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(FieldProblem::new(field, format!("{other:?} is neither Cluster nor Local"))),
    }
}

fn affinity_seconds(spec: &Spec) -> Result<u32, FieldProblem> {
    match spec.session_affinity.as_deref() {
        None | Some("None" | "") => return Ok(0),
        Some("ClientIP") => {}
        Some(other) => {
            return Err(FieldProblem::new("spec.sessionAffinity", format!("{other:?} is neither None nor ClientIP")));
        }
    }
    let client_ip = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let Some(seconds) = client_ip.and_then(|client_ip| client_ip.timeout_seconds) else {
        return Ok(DEFAULT_AFFINITY_SECONDS);
    };
    u32::try_from(seconds).ok().filter(|seconds| (1..=MAX_AFFINITY_SECONDS).contains(seconds)).ok_or_else(|| {
        let message = format!("{seconds} is not in 1 to {MAX_AFFINITY_SECONDS}");
        FieldProblem::new("spec.sessionAffinityConfig.clientIP.timeoutSeconds", message)
    })
}

/// The policy a Service asks for and its settings: by Weir's annotations, else by those of kube-router.
fn policy(meta: &ObjectMeta, warnings: &mut Vec<FieldProblem>) -> (Option<String>, Option<String>) {
    let said = |name| meta::annotation(meta, name).map(str::trim).filter(|text| !text.is_empty());
    let settings = policy_settings(meta, warnings);
    if let Some(name) = said(meta::ANNOTATION_POLICY) {
        return (Some(name.to_owned()), settings);
    }
    let Some(scheduler) = said(ANNOTATION_SCHEDULER) else { return (None, settings) };
    let flags: Vec<&str> =
        said(ANNOTATION_FLAGS).into_iter().flat_map(|flags| flags.split(',')).map(str::trim).collect();
    match ipvs::stand_in(scheduler, &flags) {
        Ok((policy, usual)) => {
            let usual = Some(usual.to_owned()).filter(|usual| !usual.is_empty());
            (Some(policy.to_owned()), settings.or(usual))
        }
        Err(why) => {
            let field = meta::annotation_field(ANNOTATION_SCHEDULER);
            warnings.push(FieldProblem::new(field, format!("{why}; the node's default policy decides")));
            (None, settings)
        }
    }
}

/// Annotations a policy may ask for, under these prefixes; Weir's own that it reads itself are not among them.
fn annotations(meta: &ObjectMeta) -> BTreeMap<String, String> {
    const FOR_POLICIES: [&str; 3] = ["weir.proxy/", "service.cilium.io/", "kube-router.io/"];
    let taken = |name: &str| {
        FOR_POLICIES.iter().any(|prefix| name.starts_with(prefix))
            && ![meta::ANNOTATION_POLICY, meta::ANNOTATION_POLICY_SETTINGS].contains(&name)
    };
    let all = meta.annotations.iter().flatten().filter(|(name, _)| taken(name));
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The settings as they stand. A Service whose settings are no JSON is better served without them than not at
/// all.
fn policy_settings(meta: &ObjectMeta, warnings: &mut Vec<FieldProblem>) -> Option<String> {
    let text =
        meta::annotation(meta, meta::ANNOTATION_POLICY_SETTINGS).map(str::trim).filter(|text| !text.is_empty())?;
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let field = meta::annotation_field(meta::ANNOTATION_POLICY_SETTINGS);
        warnings.push(FieldProblem::new(field, format!("not JSON, so the policy gets no settings: {error}")));
        return None;
    }
    Some(text.to_owned())
}
