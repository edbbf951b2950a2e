//! EndpointSlices.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::jiff::Timestamp;
use weir_model::{Conditions, EndpointSpec, Family, ObjectKey, SlicePort, SliceSpec};

use super::service::protocol;
use super::{Converted, FieldProblem, address, meta};

/// Annotation the EndpointSlice controller sets: when the change happened that it passes on (kube-proxy:
/// `getLastChangeTriggerTime`).
const ANNOTATION_TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Cilium's annotation for the same as [`meta::ANNOTATION_WEIGHT`], honoured where that one is missing.
const ANNOTATION_CILIUM_WEIGHT: &str = "service.cilium.io/weight";

/// Milliseconds since 1970 of a time as RFC 3339 has it. Only a metric hangs on it, so nothing else is no problem.
fn milliseconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// The EndpointSlice in the model's terms. An endpoint that cannot be used is left out and goes to `warnings`.
///
/// # Errors
/// The first field the slice as a whole cannot be used with.
pub fn slice(object: &EndpointSlice, warnings: &mut Vec<FieldProblem>) -> Result<Converted<SliceSpec>, FieldProblem> {
    let key = meta::key(&object.metadata)?;
    if meta::label(&object.metadata, meta::LABEL_HEADLESS).is_some() {
        return Ok(Converted::Ignored("it belongs to a headless Service (label service.kubernetes.io/headless)"));
    }
    let Some(service) = meta::label(&object.metadata, meta::LABEL_SERVICE).filter(|name| !name.is_empty()) else {
        return Ok(Converted::Ignored("no label kubernetes.io/service-name, so it belongs to no Service"));
    };
    let family = match object.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return Ok(Converted::Ignored("addressType FQDN: host names cannot be programmed")),
        other => return Err(FieldProblem::new("addressType", format!("{other:?} is none of IPv4, IPv6, FQDN"))),
    };
    let weight = weight(object, warnings);
    let entries = object.endpoints.as_deref().unwrap_or_default();
    let mut endpoints = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        match endpoint(at, entry, family, weight) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(problem) => warnings.push(problem),
        }
    }
    Ok(Converted::Taken(SliceSpec {
        service: ObjectKey { namespace: key.namespace.clone(), name: service.to_owned() },
        key,
        family,
        ports: ports(object.ports.as_deref().unwrap_or_default())?,
        endpoints,
        triggered: meta::annotation(&object.metadata, ANNOTATION_TRIGGERED).and_then(milliseconds),
    }))
}

/// The ports that have a number. One without means "every port", which no proxy supports (kube-proxy:
/// `endpointslicecache.go`). A missing name is the empty one, as the API server would have it.
fn ports(entries: &[EndpointPort]) -> Result<Vec<SlicePort>, FieldProblem> {
    let mut found = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let number = entry.port.unwrap_or(0);
        let port = u16::try_from(number)
            .map_err(|_| FieldProblem::new(format!("ports[{at}].port"), format!("{number} is not in 1 to 65535")))?;
        let protocol = protocol(|| format!("ports[{at}].protocol"), entry.protocol.as_deref())?;
        if port != 0 {
            found.push(SlicePort { name: entry.name.clone().unwrap_or_default(), protocol, port });
        }
    }
    Ok(found)
}

/// An endpoint by its first address; the others are copies of it for other consumers (kube-proxy does so too).
fn endpoint(at: usize, entry: &Endpoint, family: Family, weight: u32) -> Result<EndpointSpec, FieldProblem> {
    let field = format_args!("endpoints[{at}].addresses[0]");
    let text = entry.addresses.first().map_or("", String::as_str);
    let address = address::ordinary(field, text)?;
    if Family::of(address) != family {
        let message = format!("{address} is not of the slice's addressType");
        return Err(FieldProblem::new(format!("endpoints[{at}].addresses[0]"), message));
    }
    let hints = entry.hints.as_ref();
    Ok(EndpointSpec {
        address,
        node: entry.node_name.clone().filter(|name| !name.is_empty()),
        zone: entry.zone.clone().filter(|name| !name.is_empty()),
        conditions: conditions(entry),
        hint_zones: hints
            .iter()
            .flat_map(|hints| hints.for_zones.iter().flatten())
            .map(|zone| zone.name.clone())
            .collect(),
        hint_nodes: hints
            .iter()
            .flat_map(|hints| hints.for_nodes.iter().flatten())
            .map(|node| node.name.clone())
            .collect(),
        weight,
        pod: pod(entry),
    })
}

/// The pod behind an endpoint.
fn pod(entry: &Endpoint) -> Option<String> {
    let target = entry.target_ref.as_ref()?;
    (target.kind.as_deref() == Some("Pod")).then(|| target.name.clone()).flatten().filter(|name| !name.is_empty())
}

/// Unset: ready, serving, not terminating (kube-proxy: `newEndpointSliceInfo`).
fn conditions(entry: &Endpoint) -> Conditions {
    let said = entry.conditions.as_ref();
    let mut found = Conditions::default();
    for (flag, value) in [
        (Conditions::READY, said.and_then(|said| said.ready).unwrap_or(true)),
        (Conditions::SERVING, said.and_then(|said| said.serving).unwrap_or(true)),
        (Conditions::TERMINATING, said.and_then(|said| said.terminating).unwrap_or(false)),
    ] {
        if value {
            found |= flag;
        }
    }
    found
}

fn weight(object: &EndpointSlice, warnings: &mut Vec<FieldProblem>) -> u32 {
    let named = |name| meta::annotation(&object.metadata, name).map(|text| (name, text));
    let Some((name, text)) = named(meta::ANNOTATION_WEIGHT).or_else(|| named(ANNOTATION_CILIUM_WEIGHT)) else {
        return 1;
    };
    text.trim().parse::<u16>().map_or_else(
        |_| {
            let field = meta::annotation_field(name);
            warnings.push(FieldProblem::new(field, format!("{text:?} is not in 0 to 65535; the weight is 1")));
            1
        },
        u32::from,
    )
}
