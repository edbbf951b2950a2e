//! Services and slices of a case, and the events a source would send for them.

use std::net::IpAddr;

use anyhow::Context;
use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use weir_model::{
    Conditions, EndpointSpec, Family, ObjectKey, Protocol, ServiceKind, ServicePortSpec, ServiceSpec, SlicePort,
    SliceSpec, TrafficPolicy,
};

use super::Unknown;

/// A Service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceCase {
    /// `namespace/name`.
    pub name: String,
    /// `ClusterIP` when unset.
    #[serde(rename = "type", default)]
    pub kind: Kind,
    /// `spec.clusterIP`; `None` for headless Services, as Kubernetes spells it.
    #[serde(rename = "clusterIP", default)]
    pub cluster_ip: Option<String>,
    /// `spec.clusterIPs`, where there are two.
    #[serde(rename = "clusterIPs", default)]
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    #[serde(rename = "externalIPs", default)]
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress`.
    #[serde(default)]
    pub lb_ingress: Vec<Ingress>,
    /// `spec.loadBalancerSourceRanges`.
    #[serde(default, deserialize_with = "trimmed")]
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// `spec.ports`.
    #[serde(default)]
    pub ports: Vec<PortCase>,
    /// `spec.internalTrafficPolicy`.
    #[serde(default)]
    pub internal_traffic_policy: Policy,
    /// `spec.externalTrafficPolicy`.
    #[serde(default)]
    pub external_traffic_policy: Policy,
    /// Timeout of `sessionAffinity: ClientIP`, in seconds; 0 for none.
    #[serde(rename = "clientIPAffinitySeconds", default)]
    pub client_ip_affinity_seconds: u32,
    /// No packet's business.
    #[serde(default)]
    pub health_check_node_port: u16,
    #[serde(flatten)]
    pub(super) unknown: Unknown,
}

/// `spec.type`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Kind {
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// A traffic policy.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Policy {
    #[default]
    Cluster,
    Local,
}

impl From<Policy> for TrafficPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Cluster => Self::Cluster,
            Policy::Local => Self::Local,
        }
    }
}

/// An address of a load balancer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// The address; balancers known by name have none.
    #[serde(default)]
    pub ip: Option<IpAddr>,
    /// `VIP` when unset; with `Proxy` the address is none of the node's business.
    #[serde(default)]
    pub ip_mode: Option<String>,
    /// Name of the balancer, unused.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// A port of a Service or of a slice.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortCase {
    /// Its name; empty for none.
    #[serde(default)]
    pub name: String,
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: ProtocolCase,
    /// Node port; 0 for none.
    #[serde(default)]
    pub node_port: u16,
    /// Unused: the slice says where endpoints listen.
    #[serde(default)]
    pub target_port: Value,
}

/// A protocol, in either case.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are the protocols' own")]
pub enum ProtocolCase {
    #[serde(rename = "TCP", alias = "tcp")]
    Tcp,
    #[serde(rename = "UDP", alias = "udp")]
    Udp,
    #[serde(rename = "SCTP", alias = "sctp")]
    Sctp,
}

impl From<ProtocolCase> for Protocol {
    fn from(protocol: ProtocolCase) -> Self {
        match protocol {
            ProtocolCase::Tcp => Self::Tcp,
            ProtocolCase::Udp => Self::Udp,
            ProtocolCase::Sctp => Self::Sctp,
        }
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceCase {
    /// `namespace/name` of its Service.
    pub service: String,
    /// Its ports.
    pub ports: Vec<PortCase>,
    /// Its endpoints, of one family.
    pub endpoints: Vec<EndpointCase>,
    #[serde(flatten)]
    pub(super) unknown: Unknown,
}

/// An endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCase {
    /// Its address.
    pub addr: IpAddr,
    /// `nodeName`.
    #[serde(default)]
    pub node: Option<String>,
    /// `zone`.
    #[serde(default)]
    pub zone: Option<String>,
    /// True when unset.
    #[serde(default)]
    pub ready: Option<bool>,
    /// True when unset.
    #[serde(default)]
    pub serving: Option<bool>,
    /// False when unset.
    #[serde(default)]
    pub terminating: Option<bool>,
    /// `hints.forZones[].name`.
    #[serde(default)]
    pub for_zones: Vec<String>,
    /// `hints.forNodes[].name`.
    #[serde(default)]
    pub for_nodes: Vec<String>,
    #[serde(flatten)]
    pub(super) unknown: Unknown,
}

impl ServiceCase {
    pub(super) fn spec(&self) -> anyhow::Result<ServiceSpec> {
        let mut cluster_ips = self.cluster_ips.clone();
        if let Some(text) = self.cluster_ip.as_deref().filter(|text| !text.is_empty() && *text != "None") {
            let ip = text.parse().with_context(|| format!("{}: clusterIP {text:?}", self.name))?;
            if !cluster_ips.contains(&ip) {
                cluster_ips.insert(0, ip);
            }
        }
        let virtual_ip = |ingress: &&Ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP");
        Ok(ServiceSpec {
            key: object_key(&self.name)?,
            kind: match self.kind {
                Kind::ClusterIp => ServiceKind::ClusterIp,
                Kind::NodePort => ServiceKind::NodePort,
                Kind::LoadBalancer => ServiceKind::LoadBalancer,
                Kind::ExternalName => ServiceKind::ExternalName,
            },
            created: None,
            cluster_ips,
            external_ips: self.external_ips.clone(),
            load_balancer_ips: self.lb_ingress.iter().filter(virtual_ip).filter_map(|ingress| ingress.ip).collect(),
            source_ranges: self.load_balancer_source_ranges.iter().map(IpNet::trunc).collect(),
            health_check_node_port: self.health_check_node_port,
            ports: self
                .ports
                .iter()
                .map(|port| ServicePortSpec {
                    name: port.name.clone(),
                    protocol: port.protocol.into(),
                    port: port.port,
                    node_port: port.node_port,
                })
                .collect(),
            internal_policy: self.internal_traffic_policy.into(),
            external_policy: self.external_traffic_policy.into(),
            affinity_seconds: self.client_ip_affinity_seconds,
            policy: None,
            policy_settings: None,
            annotations: std::collections::BTreeMap::new(),
        })
    }
}

impl SliceCase {
    pub(super) fn spec(&self, at: usize) -> anyhow::Result<SliceSpec> {
        let service = object_key(&self.service)?;
        Ok(SliceSpec {
            key: ObjectKey { namespace: service.namespace.clone(), name: format!("{}-{at}", service.name) },
            service,
            family: self.endpoints.first().map_or(Family::V4, |endpoint| Family::of(endpoint.addr)),
            ports: self
                .ports
                .iter()
                .map(|port| SlicePort { name: port.name.clone(), protocol: port.protocol.into(), port: port.port })
                .collect(),
            endpoints: self.endpoints.iter().map(EndpointCase::spec).collect(),
            triggered: None,
        })
    }
}

impl EndpointCase {
    fn spec(&self) -> EndpointSpec {
        let mut conditions = Conditions::default();
        let flags = [
            (self.ready.unwrap_or(true), Conditions::READY),
            (self.serving.unwrap_or(true), Conditions::SERVING),
            (self.terminating.unwrap_or(false), Conditions::TERMINATING),
        ];
        for (_, flag) in flags.into_iter().filter(|(set, _)| *set) {
            conditions |= flag;
        }
        EndpointSpec {
            node: self.node.clone(),
            zone: self.zone.clone(),
            conditions,
            hint_zones: self.for_zones.clone(),
            hint_nodes: self.for_nodes.clone(),
            ..EndpointSpec::ready(self.addr)
        }
    }
}

/// Ranges as the API server takes them: with blanks around them.
fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let parse = |text: &String| text.trim().parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")));
    Vec::<String>::deserialize(deserializer)?.iter().map(parse).collect()
}

fn object_key(text: &str) -> anyhow::Result<ObjectKey> {
    let (namespace, name) = text.split_once('/').with_context(|| format!("{text:?} is not namespace/name"))?;
    Ok(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() })
}
