//! What holds for every ruleset, whatever its text.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use weir_model::{Event, ServiceSpec};
use weir_nft::{Ruleset, text};
use weir_source::{Loaded, Manifests, Selection};

use crate::case::{examples, files, folder};
use crate::difference;
use crate::render::{self, Node, Rendering};

/// A law, and how it is called.
pub(crate) type Law = fn() -> anyhow::Result<()>;

/// All laws.
pub(crate) const ALL: &[(&str, Law)] = &[
    ("copies of Services add no chain but round robin's", copies_add_no_chain),
    ("ExternalName and headless Services add nothing", nothing_for_dns_alone),
    ("the order of files does not matter", order_of_files),
    ("the order of events does not matter", order_of_events),
];

/// The balancer whose chains hold a counter, and so belong to one port each.
const ROUND_ROBIN: &str = "round-robin";

/// # Errors
/// When a chain bears the name of a Service port, which is for the counter of round robin alone.
pub(crate) fn chains_are_shared(ruleset: &Ruleset) -> anyhow::Result<()> {
    for chain in chains(ruleset) {
        // Names of ports are `namespace/name:port`; nothing else in a chain's name has a slash.
        anyhow::ensure!(!chain.contains('/') || chain.contains(ROUND_ROBIN), "chain {chain} belongs to a Service");
    }
    Ok(())
}

/// Chains as the text names them, with the family before the name.
fn chains(ruleset: &Ruleset) -> BTreeSet<String> {
    let (mut chains, mut table) = (BTreeSet::new(), String::new());
    for line in text::ruleset(ruleset).lines() {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {").to_owned();
        } else if let Some(name) = line.trim_start().strip_prefix("chain ") {
            chains.insert(format!("{table} {}", name.trim_end_matches(" {")));
        }
    }
    chains
}

/// Every example nine times more, under other names and addresses.
fn copies_add_no_chain() -> anyhow::Result<()> {
    const COPIES: u8 = 9;
    let Loaded { services, slices, .. } = Manifests::load(&[examples()], &Selection::default());
    let mut pipeline = node()?.pipeline()?;
    pipeline.apply(Event::Replace { services: services.clone(), slices: slices.clone() });
    render::sync(&mut pipeline)?;
    let before = pipeline.installed().ruleset();
    let (chains_before, frontends_before) = (chains(&before), elements(&before));

    for copy in 1..=COPIES {
        services.iter().for_each(|spec| pipeline.apply(Event::Service(copied(spec, copy))));
        for slice in &slices {
            let mut slice = slice.clone();
            slice.key.name = format!("{}-copy-{copy}", slice.key.name);
            slice.service.name = format!("{}-copy-{copy}", slice.service.name);
            pipeline.apply(Event::Slice(slice));
        }
    }
    let outcome = render::sync(&mut pipeline)?;
    anyhow::ensure!(outcome.rejections.is_empty(), "copies collide: {}", outcome.rejections[0]);
    let after = pipeline.installed().ruleset();
    let grown = elements(&after);
    anyhow::ensure!(
        grown > 5 * frontends_before,
        "{frontends_before} elements became {grown}: the copies are not there"
    );

    let new: Vec<_> = chains(&after).difference(&chains_before).cloned().collect();
    let odd: Vec<_> = new.iter().filter(|chain| !chain.contains(ROUND_ROBIN)).collect();
    anyhow::ensure!(odd.is_empty(), "{COPIES} copies of the same Services add the chains {odd:?}");
    let turns = services.iter().filter(|spec| spec.policy.as_deref() == Some(ROUND_ROBIN)).count();
    let (wanted, got) = (turns * usize::from(COPIES), new.len());
    anyhow::ensure!(turns > 0 && wanted == got, "{wanted} counters are needed, {got} chains were made: {new:?}");
    Ok(())
}

/// The same Service under another name, other addresses and other node ports.
fn copied(spec: &ServiceSpec, copy: u8) -> ServiceSpec {
    let mut spec = spec.clone();
    spec.key.name = format!("{}-copy-{copy}", spec.key.name);
    for address in spec.cluster_ips.iter_mut().chain(&mut spec.external_ips).chain(&mut spec.load_balancer_ips) {
        *address = match *address {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() + (u32::from(copy) << 16)).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() + (u128::from(copy) << 16)).into()),
        };
    }
    for port in spec.ports.iter_mut().filter(|port| port.node_port != 0) {
        port.node_port += 7 * u16::from(copy);
    }
    spec
}

/// Elements in all sets and maps.
fn elements(ruleset: &Ruleset) -> usize {
    ruleset.tables.values().flat_map(|table| table.sets.values()).map(|set| set.content.len()).sum()
}

fn nothing_for_dns_alone() -> anyhow::Result<()> {
    let node = node()?;
    let empty = Rendering::of(&node, &[])?.text();
    let all = Rendering::of(&node, &files(&examples(), "yaml")?)?.text();
    let quiet: Vec<PathBuf> = ["externalname.yaml", "headless.yaml"].iter().map(|name| examples().join(name)).collect();
    for file in &quiet {
        let loaded = Manifests::load(std::slice::from_ref(file), &Selection::default());
        anyhow::ensure!(loaded.services.len() == 1, "{} should hold one Service", file.display());
        same(
            "no Service",
            &empty,
            &file.display().to_string(),
            &Rendering::of(&node, std::slice::from_ref(file))?.text(),
        )?;
    }
    let mut others = files(&examples(), "yaml")?;
    others.retain(|file| !quiet.contains(file));
    same("all examples", &all, "all but those two", &Rendering::of(&node, &others)?.text())
}

fn order_of_files() -> anyhow::Result<()> {
    let node = node()?;
    let mut paths = files(&examples(), "yaml")?;
    let forward = Rendering::of(&node, &paths)?.text();
    same("the files", &forward, "their folder", &Rendering::of(&node, &[examples()])?.text())?;
    for turn in 1..paths.len() {
        paths.rotate_left(1);
        same("the files", &forward, &format!("rotated by {turn}"), &Rendering::of(&node, &paths)?.text())?;
    }
    paths.reverse();
    same("the files", &forward, "reversed", &Rendering::of(&node, &paths)?.text())
}

/// Objects one by one, forwards and backwards, with one sync at the end and with one after each.
fn order_of_events() -> anyhow::Result<()> {
    let node = node()?;
    let expected = Rendering::of(&node, &[examples()])?.text();
    for (backwards, each) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut events = render::events(Manifests::load(&[examples()], &Selection::default()));
        if backwards {
            events.reverse();
        }
        let mut pipeline = node.pipeline()?;
        for event in events {
            pipeline.apply(event);
            if each {
                render::sync(&mut pipeline)?;
            }
        }
        render::sync(&mut pipeline)?;
        let order = format!("backwards: {backwards}, a sync after each: {each}");
        same("all at once", &expected, &order, &text::ruleset(&pipeline.installed().ruleset()))?;
    }
    Ok(())
}

fn node() -> anyhow::Result<Node> {
    Node::load(&folder().join("node.yaml"))
}

fn same(one: &str, expected: &str, other: &str, seen: &str) -> anyhow::Result<()> {
    anyhow::ensure!(expected == seen, "{one} (-) and {other} (+) differ:\n{}", difference::between(expected, seen));
    Ok(())
}
