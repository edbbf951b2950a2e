//! Keys that end in a network: address and prefix length with us, first and last key in the kernel.

use weir_model::Family;
use weir_nft::{ElementKey, FieldKind, network_of};

/// First and last key of `key`, whose last component is a network.
///
/// # Errors
/// When its bytes are no network.
pub(super) fn bounds(key: &[u8], family: Family) -> Result<(ElementKey, ElementKey), String> {
    let no_network = || "a key of a set of networks ends in no network".to_owned();
    let at = key.len().checked_sub(FieldKind::Network.len(family)).ok_or_else(no_network)?;
    let (before, network) = key.split_at(at);
    let network = network_of(network).ok_or_else(no_network)?;
    let before = ElementKey::from_bytes(before);
    Ok((before.address(network.network()), before.address(network.broadcast())))
}

/// The key with that first and last key; `None` when what lies between them is not one network.
pub(super) fn key(first: &[u8], last: &[u8], family: Family) -> Option<ElementKey> {
    let at = first.len().checked_sub(FieldKind::Address.len(family))?;
    let ((before, low), (before_last, high)) = (first.split_at(at), last.split_at_checked(at)?);
    let differing = low.iter().zip(high).map(|(low, high)| (low ^ high).count_ones()).sum::<u32>();
    let prefix = u8::try_from(low.len() * 8).ok()?.checked_sub(u8::try_from(differing).ok()?)?;
    let network = network_of(&[low, &u32::from(prefix).to_ne_bytes()].concat())?;
    let key = ElementKey::from_bytes(before).network(network);
    // Whatever is no network of that length does not come back the same.
    let same = before == before_last
        && bounds(key.as_bytes(), family).ok()? == (ElementKey::from_bytes(first), ElementKey::from_bytes(last));
    (same && network == network.trunc()).then_some(key)
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    fn network(text: &str) -> ElementKey {
        let net: IpNet = text.parse().expect("a network");
        let frontend = ElementKey::new().address(net.addr()).protocol(weir_model::Protocol::Tcp).port(80);
        frontend.network(net)
    }

    #[test]
    fn networks_come_back_as_they_were() {
        for text in
            ["203.0.113.0/24", "203.0.113.7/32", "0.0.0.0/0", "203.0.113.128/25", "2001:db8::/33", "::/0", "::1/128"]
        {
            let key = network(text);
            let family = if text.contains(':') { Family::V6 } else { Family::V4 };
            let (first, last) = bounds(key.as_bytes(), family).expect("a network");
            assert_eq!(super::key(first.as_bytes(), last.as_bytes(), family), Some(key), "{text}");
        }
    }

    #[test]
    fn other_ranges_are_foreign() {
        let (low, high) = (network("203.0.113.1/32"), network("203.0.113.2/32"));
        let ends = |key: &ElementKey| bounds(key.as_bytes(), Family::V4).expect("a network").0;
        assert_eq!(key(ends(&low).as_bytes(), ends(&high).as_bytes(), Family::V4), None);
        assert_eq!(key(ends(&low).as_bytes(), &[], Family::V4), None);
        let other = ends(&network("198.51.100.1/32"));
        assert_eq!(key(ends(&low).as_bytes(), other.as_bytes(), Family::V4), None);
    }
}
