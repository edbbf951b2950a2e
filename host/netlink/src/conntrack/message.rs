//! Flows in ctnetlink's attributes, written and read (`linux/netfilter/nfnetlink_conntrack.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir_conntrack::Flow;
use weir_conntrack::load::State;
use weir_model::Protocol;

use crate::wire::{self, Attribute, Attributes, NESTED};

/// Message types: the subsystem (`NFNL_SUBSYS_CTNETLINK`) in the high byte.
pub(super) mod request {
    /// `IPCTNL_MSG_CT_NEW`; in answers and events only.
    pub(crate) const NEW: u16 = 1 << 8;
    /// `IPCTNL_MSG_CT_GET`.
    pub(crate) const GET: u16 = 1 << 8 | 1;
    /// `IPCTNL_MSG_CT_DELETE`.
    pub(crate) const DELETE: u16 = 1 << 8 | 2;
    /// `IPCTNL_MSG_CT_GET_STATS`.
    pub(crate) const STATISTICS: u16 = 1 << 8 | 5;
}

/// `enum ctattr_type`.
pub(super) mod flow_attribute {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
    pub(crate) const STATUS: u16 = 3;
    pub(crate) const PROTOCOL_STATE: u16 = 4;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
    pub(super) const STATUS_MASK: u16 = 26;
}

/// `IPS_DST_NAT`: the flow's destination was translated.
pub(super) const REDIRECTED: u32 = 1 << 5;

/// `TCP_CONNTRACK_TIME_WAIT`; from here on, `TCP_CONNTRACK_CLOSE` follows, both ends have closed the connection.
pub(super) const TCP_TIME_WAIT: u8 = 7;
const TCP_CLOSE: u8 = 8;

/// `enum ctattr_tuple`.
mod tuple {
    pub(super) const ADDRESSES: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
}

/// `enum ctattr_ip`.
mod address {
    pub(super) const V4_SOURCE: u16 = 1;
    pub(super) const V4_DESTINATION: u16 = 2;
    pub(super) const V6_SOURCE: u16 = 3;
    pub(super) const V6_DESTINATION: u16 = 4;
}

/// `enum ctattr_l4proto`.
mod protocol {
    pub(super) const NUMBER: u16 = 1;
    pub(super) const SOURCE_PORT: u16 = 2;
    pub(super) const DESTINATION_PORT: u16 = 3;
}

/// The attributes of a dump request that make the kernel list flows of `protocol` only.
///
/// # Errors
/// Never: the attributes are a few bytes long.
pub(super) fn protocol_filter(protocol: Protocol) -> Result<Vec<u8>, String> {
    /// `CTA_FILTER_ORIG_FLAGS`: which parts of the original tuple must match, in the machine's byte order.
    const ORIGINAL_FLAGS: u16 = 1;
    /// `CTA_FILTER_FLAG(CTA_PROTO_NUM)`.
    const BY_PROTOCOL: u32 = 1 << 3;
    let mut out = Vec::new();
    nest(&mut out, flow_attribute::ORIGINAL, |out| {
        nest(out, tuple::PROTOCOL, |out| wire::put(out, protocol::NUMBER, &[protocol.number()]))
    })?;
    nest(&mut out, flow_attribute::FILTER, |out| wire::put(out, ORIGINAL_FLAGS, &BY_PROTOCOL.to_ne_bytes()))?;
    Ok(out)
}

/// The attributes that name one flow and no later one between the same addresses. A deletion without them would
/// empty the kernel's whole table.
///
/// # Errors
/// When the flow's addresses are of two families.
pub(super) fn name(flow: &Flow) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    nest(&mut out, flow_attribute::ORIGINAL, |out| {
        nest(out, tuple::ADDRESSES, |out| match (flow.source.ip(), flow.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                wire::put(out, address::V4_SOURCE, &source.octets())?;
                wire::put(out, address::V4_DESTINATION, &destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                wire::put(out, address::V6_SOURCE, &source.octets())?;
                wire::put(out, address::V6_DESTINATION, &destination.octets())
            }
            _ => Err(format!("the addresses of a flow are of two families: {flow}")),
        })?;
        nest(out, tuple::PROTOCOL, |out| {
            wire::put(out, protocol::NUMBER, &[flow.protocol.number()])?;
            wire::put(out, protocol::SOURCE_PORT, &flow.source.port().to_be_bytes())?;
            wire::put(out, protocol::DESTINATION_PORT, &flow.destination.port().to_be_bytes())
        })
    })?;
    wire::put(&mut out, flow_attribute::ID, &flow.id.to_be_bytes())?;
    if flow.zone != 0 {
        wire::put(&mut out, flow_attribute::ZONE, &flow.zone.to_be_bytes())?;
    }
    Ok(out)
}

/// The flow in a message; `None` when it is of a protocol without ports or of one no Service can have.
pub(super) fn flow(attributes: Attributes<'_>) -> Option<Flow> {
    let (mut original, mut reply, mut id, mut zone) = (None, None, None, 0);
    for attribute in attributes {
        match attribute.kind {
            flow_attribute::ORIGINAL => original = Some(ends(attribute)?),
            flow_attribute::REPLY => reply = Some(ends(attribute)?),
            flow_attribute::ID => id = attribute.u32(),
            flow_attribute::ZONE => zone = u16::from_be_bytes(attribute.payload.try_into().ok()?),
            _ => {}
        }
    }
    let (original, reply) = (original?, reply?);
    Some(Flow {
        protocol: original.protocol,
        source: original.source,
        destination: original.destination,
        reply_source: reply.source,
        zone,
        id: id?,
    })
}

/// The attributes of a dump request that make the kernel list redirected flows only; kernels before 5.15 list all.
///
/// # Errors
/// Never: the attributes are a few bytes long.
pub(super) fn redirected_filter() -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    wire::put(&mut out, flow_attribute::STATUS, &REDIRECTED.to_be_bytes())?;
    wire::put(&mut out, flow_attribute::STATUS_MASK, &REDIRECTED.to_be_bytes())?;
    Ok(out)
}

/// Whether the flow in a message was redirected to another destination.
pub(super) fn is_redirected(attributes: Attributes<'_>) -> bool {
    attributes.get(flow_attribute::STATUS).and_then(Attribute::u32).is_some_and(|status| status & REDIRECTED != 0)
}

/// Whether the flow in a message is closed, as far as its protocol's state is in there and tells.
pub(super) fn state(attributes: Attributes<'_>) -> State {
    /// `CTA_PROTOINFO_TCP`.
    const TCP: u16 = 1;
    /// `CTA_PROTOINFO_TCP_STATE`.
    const TCP_STATE: u16 = 1;
    let tcp = attributes.get(flow_attribute::PROTOCOL_STATE).and_then(|protocol| protocol.nested().get(TCP));
    match tcp.and_then(|tcp| tcp.nested().get(TCP_STATE)).and_then(Attribute::u8) {
        Some(TCP_TIME_WAIT | TCP_CLOSE) => State::Closed,
        _ => State::Open,
    }
}

/// The number of flows in a message about the whole table (`CTA_STATS_GLOBAL_ENTRIES`).
pub(super) fn entries(attributes: Attributes<'_>) -> Option<u32> {
    attributes.get(1).and_then(Attribute::u32)
}

/// One direction of a flow.
struct Ends {
    protocol: Protocol,
    source: SocketAddr,
    destination: SocketAddr,
}

fn ends(attribute: Attribute<'_>) -> Option<Ends> {
    let (mut addresses, mut numbers) = ((None, None), (None, None, None));
    for part in attribute.nested() {
        for inner in part.nested() {
            match (part.kind, inner.kind) {
                (tuple::ADDRESSES, address::V4_SOURCE | address::V6_SOURCE) => addresses.0 = ip(inner.payload),
                (tuple::ADDRESSES, address::V4_DESTINATION | address::V6_DESTINATION) => {
                    addresses.1 = ip(inner.payload);
                }
                (tuple::PROTOCOL, protocol::NUMBER) => numbers.0 = inner.u8(),
                (tuple::PROTOCOL, protocol::SOURCE_PORT) => numbers.1 = port(inner.payload),
                (tuple::PROTOCOL, protocol::DESTINATION_PORT) => numbers.2 = port(inner.payload),
                _ => {}
            }
        }
    }
    Some(Ends {
        protocol: Protocol::from_number(numbers.0?)?,
        source: SocketAddr::new(addresses.0?, numbers.1?),
        destination: SocketAddr::new(addresses.1?, numbers.2?),
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.or_else(|_| bytes.try_into().map(|octets: [u8; 16]| IpAddr::V6(Ipv6Addr::from(octets)))).ok()
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// Appends an attribute that contains what `inside` writes.
fn nest(out: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<(), String> {
    let mut inner = Vec::new();
    inside(&mut inner)?;
    wire::put(out, kind | NESTED, &inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(source: &str, destination: &str) -> Flow {
        let (source, destination) = (source.parse().expect("a source"), destination.parse().expect("a destination"));
        Flow { protocol: Protocol::Udp, source, destination, reply_source: destination, zone: 7, id: 0xdead_beef }
    }

    /// What names a flow lacks only the reply to be read back as the flow.
    #[test]
    fn names_what_it_reads() {
        for wanted in [sample("10.0.0.1:40000", "10.96.0.10:53"), sample("[fd00::1]:40000", "[fd00:10::a]:53")] {
            let mut bytes = name(&wanted).expect("one family");
            assert!(flow(Attributes(&bytes)).is_none(), "without a reply");
            let back = Flow { source: wanted.destination, destination: wanted.source, ..wanted };
            let reply = name(&back).expect("one family");
            let reply = Attributes(&reply).get(flow_attribute::ORIGINAL).expect("a tuple").payload.to_vec();
            wire::put(&mut bytes, flow_attribute::REPLY | NESTED, &reply).expect("short");
            assert_eq!(flow(Attributes(&bytes)), Some(wanted));
        }
    }

    /// A request that names no flow would remove all of them.
    #[test]
    fn never_names_half_a_flow() {
        let mixed = sample("10.0.0.1:40000", "[fd00:10::a]:53");
        assert!(name(&mixed).expect_err("two families").contains("[fd00:10::a]:53"));
    }

    #[test]
    fn reads_nothing_from_damaged_or_foreign_flows() {
        let mut bytes = name(&sample("10.0.0.1:40000", "10.96.0.10:53")).expect("one family");
        let tuple = Attributes(&bytes).get(flow_attribute::ORIGINAL).expect("a tuple").payload.to_vec();
        wire::put(&mut bytes, flow_attribute::REPLY | NESTED, &tuple).expect("short");
        assert!(flow(Attributes(&bytes)).is_some());
        for end in 0..bytes.len() {
            assert_eq!(flow(Attributes(&bytes[..end])), None, "{end} bytes");
        }
        let at = bytes.windows(8).position(|part| part == [5, 0, 1, 0, 17, 0, 0, 0]).expect("the protocol's number");
        bytes[at + 4] = 1;
        assert_eq!(flow(Attributes(&bytes)), None, "ICMP");
    }
}
