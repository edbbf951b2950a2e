//! What a connection pays: its first packet, and the packets after it.

mod contenders;
mod traffic;

use anyhow::{Context, Result};
use weir_benches::peer::Restore;

use self::contenders::{Contender, Service, Town};
use crate::figure::{Figure, Plot, Section, Table, median, percentile, short, short_or_dash};
use crate::section::Scale;

/// What one contender came to, over all rounds.
#[derive(Clone, Debug, Default)]
struct Found {
    /// Every connect(), in microseconds.
    connects: Vec<f64>,
    /// Connections a second, round by round.
    rates: Vec<f64>,
    /// Median of a round's connects less that of the same round's floor.
    above_floor: Vec<f64>,
    /// Nanoseconds to send a packet of an established flow, round by round.
    packets: Vec<f64>,
}

/// Measures.
///
/// # Errors
/// When a contender cannot be loaded, or a connection fails.
pub(crate) fn measure(scale: Scale) -> Result<Section> {
    let mut section = Section::new(
        "Packets",
        "TCP connect() from a client pod through the node's namespace to an endpoint behind it, in microseconds: one system call \
         in which the kernel takes the SYN through every rule and back. Contenders take turns in the same namespaces, round by round, \
         one thread, nothing else on the wire; the floor is a single static `dnat` rule. \
         iptables' layout is a list of Services, in which the called one stands in the middle. *Above the floor* is the median over the \
         rounds of the difference to the floor of the same round. A packet of an established flow: one UDP send() after the first \
         answer.",
    );
    // Many short turns: what else the machine does changes within seconds.
    let rounds = scale.pick(1, 10, 50);
    let connects = scale.pick(20, 250, 400);
    let town = Town::build()?;

    let mut table = Table::new(
        "Services in the cluster, one endpoint each, `random`:",
        &["Services", "contender", "p50", "p99", "above the floor, µs", "connections/s", "packet of a flow, ns"],
    );
    let mut plot = Plot::new("connect", "connect() to a Service, p50", "Services", "µs");
    let mut ours_by_size = Vec::new();
    let sizes = scale.pick([1, 10, 20, 30], [1, 1_000, 10_000, 30_000], [1, 1_000, 10_000, 30_000]);
    for services in sizes {
        let effort = Effort { services, rounds, connects };
        let found = compare(&town, &Service::default(), Contender::of(services, scale), effort, &mut section)?;
        let p50: Vec<f64> = found.iter().map(|(_, found)| median(&found.connects)).collect();
        for ((contender, found), p50) in found.iter().zip(&p50) {
            row(&mut table, &services.to_string(), *contender, found);
            plot.point(contender.name(), services as f64, Some(*p50));
            section.raw.push(raw(services, &Service::default(), *contender, found));
        }
        let of = |wanted: Contender| found.iter().find(|(contender, _)| *contender == wanted).map(|(_, found)| found);
        let (ours, floor) = (of(Contender::Weir).context("Weir ran")?, of(Contender::Floor).context("the floor ran")?);
        let (connect, above) = (median(&ours.connects), median(&ours.above_floor));
        let name = |what: &str| format!("data-plane/{what}/{services}");
        let peer = of(Contender::Peer);
        let peers = peer.map(|peer| median(&peer.connects));
        // "At most the peer's": both medians, with the difference taken round by round.
        section.figures.push(Figure::new(name("connect-p50"), connect, "µs").beside(peers));
        if let Some(listed) = of(Contender::Iptables) {
            let beside = Figure::new(name("connect-beside-iptables"), connect, "µs");
            section.figures.push(beside.beside(Some(median(&listed.connects))));
        }
        if let Some(peer) = peer {
            let more = above - median(&peer.above_floor);
            section.figures.push(Figure::new(name("connect-above-1.37"), more, "µs").budget(0.0));
        }
        let share = above / median(&floor.connects) * 100.0;
        section.figures.push(Figure::new(name("connect-above-floor"), share, "%").budget(3.0));
        let rate = Figure::new(name("connections"), median(&ours.rates), "connections/s");
        section.figures.push(rate.beside(peer.map(|peer| median(&peer.rates))));
        let packet = Figure::new(name("established-packet"), median(&ours.packets), "ns");
        section.figures.push(packet.beside(peer.map(|peer| median(&peer.packets))));
        ours_by_size.push(share);
    }
    // Flat: what many Services cost more than one does.
    if let ([first, .., last], [one, .., many]) = (ours_by_size.as_slice(), sizes) {
        section.figures.push(Figure::new(format!("data-plane/growth/{one}-{many}"), last - first, "%").budget(3.0));
    }
    section.tables.push(table);
    section.plots.push(plot);

    let mut table = Table::new(
        &format!(
            "{} Services; the one that is called, by index function, affinity and endpoints. The peer has `random` only:",
            sizes[1]
        ),
        &["called Service", "contender", "p50", "p99", "above the floor, µs", "connections/s", "packet of a flow, ns"],
    );
    // There are many of them.
    let rounds = scale.pick(1, 2, 8);
    for service in Service::variants().into_iter().take(scale.pick(2, usize::MAX, usize::MAX)) {
        let effort = Effort { services: sizes[1], rounds, connects };
        for (contender, found) in compare(&town, &service, Contender::serving(&service), effort, &mut section)? {
            if contender != Contender::Floor {
                row(&mut table, &service.name(), contender, &found);
            }
            section.raw.push(raw(sizes[1], &service, contender, &found));
        }
    }
    section.tables.push(table);
    if let Err(why) = Restore::installed() {
        section.notes.push(format!("iptables' layout was not measured: {why}."));
    }
    Ok(section)
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Services in the cluster.
    services: usize,
    /// Turns of each contender that count.
    rounds: usize,
    /// Connections of each turn.
    connects: usize,
}

/// Rounds of each contender in turn; who begins moves on from round to round. Who cannot be loaded is a note.
fn compare(
    town: &Town,
    service: &Service,
    mut contenders: Vec<Contender>,
    Effort { services, rounds, connects }: Effort,
    section: &mut Section,
) -> Result<Vec<(Contender, Found)>> {
    let list = service.list(services);
    let left_out = town.load_peers(&list, &mut contenders).with_context(|| format!("{services} Services"))?;
    section.notes.extend(left_out.into_iter().map(|(contender, why)| {
        let (peer, service) = (contender.name(), service.name());
        format!("{peer} was not measured with {services} Services ({service}): {why}.")
    }));
    let mut found: Vec<(Contender, Found)> =
        contenders.iter().map(|&contender| (contender, Found::default())).collect();
    // The first round warms up.
    for round in 0..=rounds {
        let mut medians = vec![0.0; contenders.len()];
        for step in 0..contenders.len() {
            let at = (round + step) % contenders.len();
            town.wake(contenders[at], &list)?;
            let (mut samples, rate) = town.connect(connects)?;
            let packet = town.flow()?;
            town.sleep(contenders[at])?;
            medians[at] = percentile(&mut samples, 0.5);
            if round > 0 {
                let found = &mut found[at].1;
                found.connects.extend(samples);
                found.rates.push(rate);
                found.packets.push(packet);
            }
        }
        let floor = contenders.iter().position(|contender| *contender == Contender::Floor).map(|at| medians[at]);
        if let (Some(floor), true) = (floor, round > 0) {
            for (at, (_, found)) in found.iter_mut().enumerate() {
                found.above_floor.push(medians[at] - floor);
            }
        }
    }
    town.unload_peers(&contenders)?;
    Ok(found)
}

fn row(table: &mut Table, what: &str, contender: Contender, found: &Found) {
    let mut connects = found.connects.clone();
    let (p50, p99) = (percentile(&mut connects, 0.5), percentile(&mut connects, 0.99));
    let above = (contender != Contender::Floor).then(|| median(&found.above_floor));
    table.row([
        what.to_owned(),
        contender.name().to_owned(),
        short(p50),
        short(p99),
        short_or_dash(above),
        short(median(&found.rates)),
        short(median(&found.packets)),
    ]);
}

fn raw(services: usize, service: &Service, contender: Contender, found: &Found) -> serde_json::Value {
    serde_json::json!({"services": services, "called": service.name(), "contender": contender.name(),
        "connect_us": found.connects, "connections_per_s": found.rates, "above_floor_us": found.above_floor,
        "packet_ns": found.packets})
}
