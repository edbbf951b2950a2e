//! The nft tool as a witness: what Weir writes reads exactly like what nft writes.

use weir_model::Family;
use weir_netlink::{Kernel, Options};
use weir_nft::{Dataplane, Ruleset};

use crate::Test;
use crate::fixture::{creation, everything};
use crate::namespace::{Needs, nft, nft_load};

pub(crate) const TESTS: &[Test] = &[
    (
        "an_ipv4_ruleset_reads_as_nft_would_have_written_it",
        Needs::Nft,
        an_ipv4_ruleset_reads_as_nft_would_have_written_it,
    ),
    (
        "an_ipv6_ruleset_reads_as_nft_would_have_written_it",
        Needs::Nft,
        an_ipv6_ruleset_reads_as_nft_would_have_written_it,
    ),
    ("weirs_own_text_says_what_is_committed", Needs::Nft, weirs_own_text_says_what_is_committed),
    ("ipv6_affinity_is_listed", Needs::Nft, ipv6_affinity_is_listed),
];

/// Nearly all of Weir's words; IPv6 is made of it.
const IPV4: &str = include_str!("ruleset.nft");

fn ipv6() -> String {
    // nft 1.0.6 aborts on affinity statements in IPv6: its register allocator has no room for the key.
    let lines = IPV4.lines().filter(|line| !line.contains("@affinity {")).collect::<Vec<_>>().join("\n");
    [
        ("table ip ", "table ip6 "),
        ("ipv4_addr", "ipv6_addr"),
        ("ip saddr", "ip6 saddr"),
        ("ip daddr", "ip6 daddr"),
        ("dnat ip ", "dnat ip6 "),
        ("10.0.0.0/8", "fd00::/8"),
        ("10.0.0.0/9", "fd00::/9"),
        ("10.1.2.0/24", "fd00:0:0:1::/64"),
        ("0.0.0.0", "::"),
        ("10.0.0.1", "fd00::1"),
        ("10.1.1.1", "fd00::11"),
    ]
    .iter()
    .fold(lines, |text, (from, to)| text.replace(from, to))
}

/// Loads `text` with nft, reads it as Weir does, removes it and writes it as Weir does.
fn written_twice(text: &str) {
    nft_load(text);
    let by_nft = nft(&["list", "ruleset"]);
    // Without ownership, which nft prints.
    let mut kernel = Kernel::open_with(Options { own_tables: false, ..Options::default() }).unwrap();
    let ruleset = kernel.dump().unwrap();
    nft(&["flush", "ruleset"]);
    kernel.commit(&creation(&ruleset)).unwrap();
    assert_eq!(kernel.dump().unwrap(), ruleset);
    let by_weir = nft(&["list", "ruleset"]);
    assert_eq!(sorted_blocks(&by_weir), sorted_blocks(&by_nft));
}

/// Chains and sets come in the order they were made in, elements in that of the hash: neither is of interest.
fn sorted_blocks(listing: &str) -> Vec<String> {
    let mut blocks: Vec<String> = listing
        .split("\n\n")
        .map(|block| match block.split_once("elements = {") {
            Some((head, elements)) => {
                let body = elements.split('}').next().unwrap();
                let mut elements: Vec<&str> = body.split(',').map(str::trim).collect();
                elements.sort_unstable();
                format!("{head} {elements:?}")
            }
            None => block.to_owned(),
        })
        .map(|block| {
            block
                .replace("table ip weir {\n", "")
                .replace("table ip6 weir {\n", "")
                .trim_end_matches(['}', '\n'])
                .to_owned()
        })
        .collect();
    blocks.sort();
    blocks
}

fn an_ipv4_ruleset_reads_as_nft_would_have_written_it() {
    written_twice(IPV4);
}

fn an_ipv6_ruleset_reads_as_nft_would_have_written_it() {
    written_twice(&ipv6());
}

/// What nft 1.0.6 cannot write it must still be able to list.
fn ipv6_affinity_is_listed() {
    let ruleset = Ruleset { tables: [(Family::V6, everything(Family::V6))].into() };
    let mut kernel = Kernel::open().unwrap();
    kernel.commit(&creation(&ruleset)).unwrap();
    let listing = nft(&["list", "ruleset"]);
    for line in [
        "delete @affinity { ip6 daddr . meta l4proto . th dport . ip6 saddr : meta priority }",
        "update @affinity { ip6 daddr . meta l4proto . th dport . ip6 saddr timeout 3h : meta priority }",
        "update @affinity { ip6 daddr & :: . meta l4proto . th dport . ip6 saddr timeout 1s : meta priority }",
    ] {
        assert!(listing.contains(line), "{line} is missing in\n{listing}");
    }
}

/// Loads Weir's text of a ruleset with nft, and commits the same ruleset: nft lists the same.
fn weirs_own_text_says_what_is_committed() {
    for family in Family::ALL {
        let mut table = everything(family);
        if family == Family::V6 {
            // nft 1.0.6 lists these, but aborts when it shall write them.
            table.chains.get_mut("affinity-3").unwrap().rules.clear();
        }
        let ruleset = Ruleset { tables: [(family, table)].into() };
        nft_load(&weir_nft::text::ruleset(&ruleset));
        let by_nft = nft(&["list", "ruleset"]);
        let mut kernel = Kernel::open_with(Options { own_tables: false, ..Options::default() }).unwrap();
        assert_eq!(kernel.dump().unwrap(), ruleset);
        nft(&["flush", "ruleset"]);
        kernel.commit(&creation(&ruleset)).unwrap();
        assert_eq!(sorted_blocks(&nft(&["list", "ruleset"])), sorted_blocks(&by_nft));
        nft(&["flush", "ruleset"]);
    }
}
