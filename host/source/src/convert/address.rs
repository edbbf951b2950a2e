//! IP addresses as Kubernetes reads them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::FieldProblem;

/// An address anything may be reached at: a cluster IP or a load balancer's. The unspecified address means
/// "every address of this node" to the data plane, so a Service must not have it.
pub(super) fn frontend(field: impl fmt::Display, text: &str) -> Result<IpAddr, FieldProblem> {
    let problem = |message: String| FieldProblem::new(field.to_string(), message);
    let address = parse(text).ok_or_else(|| problem(format!("{text:?} is not an IP address")))?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(problem(format!("{address} cannot be the address of a Service")));
    }
    Ok(address)
}

/// An address somebody chose by hand: an external IP or an endpoint. The API server refuses the same ones
/// (`ValidateNonSpecialIP`), lest a Service take over a node's own loopback or metadata address.
pub(super) fn ordinary(field: impl fmt::Display, text: &str) -> Result<IpAddr, FieldProblem> {
    let address = frontend(&field, text)?;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local || address.is_loopback() {
        let what = if link_local { "link-local" } else { "loopback" };
        return Err(FieldProblem::new(
            field.to_string(),
            format!("{address} is a {what} address, which is not allowed here"),
        ));
    }
    Ok(address)
}

/// Reads an address as Go's `ParseIPSloppy` does: leading zeros are decimal, and an IPv4 address wrapped into
/// IPv6 is an IPv4 address.
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok().or_else(|| match text.rsplit_once(':') {
        None => decimal(text).map(IpAddr::V4),
        Some((head, tail)) => format!("{head}:{}", decimal(tail)?).parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    })?;
    Some(address.to_canonical())
}

/// Reads a range of addresses as kube-proxy does: blanks around it do not count, the address leniently, and
/// without the bits beyond its length.
pub(super) fn range(text: &str) -> Option<IpNet> {
    let (address, length) = text.trim().split_once('/')?;
    IpNet::new(parse(address)?, length.parse().ok()?).ok().map(|net| net.trunc())
}

/// Four decimal numbers, zeros in front allowed.
fn decimal(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}
