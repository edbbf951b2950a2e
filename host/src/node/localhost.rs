//! Whether node ports are wanted on loopback.

use ipnet::IpNet;
use weir_model::Family;

use crate::config::{Config, node_port_word};

/// Whether `nodePortAddresses` asks for node ports on the loopback address of `family`: with the word `localhost`,
/// or with a CIDR inside of 127.0.0.0/8 or equal to ::1/128. A wider CIDR does not: `0.0.0.0/0` means every address
/// that the network reaches (KEP-6032, `ContainsExplicitLoopback`).
#[must_use]
pub fn wants_localhost(config: &Config, family: Family) -> bool {
    config.node_port_addresses.iter().any(|entry| entry == node_port_word::LOCALHOST || is_loopback(entry, family))
}

fn is_loopback(entry: &str, family: Family) -> bool {
    entry.parse::<IpNet>().is_ok_and(|net| {
        let least = if net.addr().is_ipv4() { 8 } else { 128 };
        Family::of(net.addr()) == family && net.addr().is_loopback() && net.prefix_len() >= least
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(entries: &[&str]) -> [bool; 2] {
        let node_port_addresses = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let config = Config { node_port_addresses, ..Config::default() };
        Family::ALL.map(|family| wants_localhost(&config, family))
    }

    #[test]
    fn only_an_explicit_wish_opens_loopback() {
        for (entries, expected) in [
            (&["primary"][..], [false, false]),
            (&["0.0.0.0/0", "::/0"], [false, false]),
            (&["126.0.0.0/7"], [false, false]),
            (&["primary", "localhost"], [true, true]),
            (&["127.0.0.0/8"], [true, false]),
            (&["127.0.0.1/32"], [true, false]),
            (&["::1/128"], [false, true]),
            (&["10.0.0.0/8", "127.0.0.1/32", "::1/128"], [true, true]),
        ] {
            assert_eq!(wanted(entries), expected, "{entries:?}");
        }
    }
}
