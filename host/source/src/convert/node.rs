//! This node, and the ranges of the cluster.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use weir_model::NodeSpec;

use super::{FieldProblem, address, meta};

/// Label of a Node: its zone.
const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

/// Taint of a Node that the cluster autoscaler is about to remove, whatever its value and effect (kube-proxy:
/// `proxy_health.go`).
const TAINT_TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// The Node in the model's terms. Addresses that are no IP addresses (host names) do not count.
///
/// # Errors
/// When a pod range is no CIDR.
pub fn node(object: &Node) -> Result<NodeSpec, FieldProblem> {
    let spec = object.spec.as_ref();
    let mut ranges: Vec<(String, &String)> = Vec::new();
    if let Some(several) = spec.and_then(|spec| spec.pod_cidrs.as_ref()).filter(|several| !several.is_empty()) {
        ranges.extend(several.iter().enumerate().map(|(at, text)| (format!("spec.podCIDRs[{at}]"), text)));
    } else if let Some(one) = spec.and_then(|spec| spec.pod_cidr.as_ref()).filter(|text| !text.is_empty()) {
        ranges.push(("spec.podCIDR".to_owned(), one));
    }
    let entries = object.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let of_type = |kind: &'static str| {
        entries.clone().filter(move |entry| entry.type_ == kind).filter_map(|entry| address::parse(&entry.address))
    };
    let addresses: Vec<IpAddr> = of_type("InternalIP").chain(of_type("ExternalIP")).collect();
    Ok(NodeSpec {
        zone: meta::label(&object.metadata, LABEL_ZONE).unwrap_or_default().to_owned(),
        pod_cidrs: self::ranges(ranges)?,
        addresses,
        leaving: object.metadata.deletion_timestamp.is_some()
            || spec.is_some_and(|spec| spec.taints.iter().flatten().any(|taint| taint.key == TAINT_TO_BE_DELETED)),
    })
}

/// The ranges of a ServiceCIDR object.
///
/// # Errors
/// When one is no CIDR.
pub fn service_cidr(object: &ServiceCIDR) -> Result<Vec<IpNet>, FieldProblem> {
    let texts = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    ranges(texts.enumerate().map(|(at, text)| (format!("spec.cidrs[{at}]"), text)))
}

fn ranges<'a>(texts: impl IntoIterator<Item = (String, &'a String)>) -> Result<Vec<IpNet>, FieldProblem> {
    let read = |(field, text): (String, &String)| {
        address::range(text).ok_or_else(|| FieldProblem::new(field, format!("{text:?} is not a CIDR")))
    };
    texts.into_iter().map(read).collect()
}
