//! Runs cases on the kernel: the fixture in namespaces, the whole pipeline over netlink, a real packet for each case,
//! and a look at where it arrives and with which source.
//!
//! Destinations are drawn at random, so a case is sent many times, each from a source port of its own, until every
//! destination has surely been met; what was seen must be exactly what is expected. Nobody answers: only first packets
//! of connections are of interest.

mod judge;
mod sockets;
mod wire;
mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir::config::Config;
use weir::pipeline::Pipeline;
use weir_model::Event;
use weir_netlink::Kernel;
use weir_nft::Installed;

use crate::cases::{Fixture, Group, PacketCase, ProtocolCase, leader};
use crate::conformance::sync;
use crate::policies;
use crate::report::Report;

use judge::{Fate, Judge};
use sockets::Sockets;
use wire::{Probe, Token};
use world::{LINKS, World};

/// Packets for each of several destinations. The chance that one of them gets none is below e⁻²⁰.
const FOR_EACH: usize = 20;
/// Packets of a case with one destination: a second one would be met.
const FOR_ONE: usize = 12;
/// Packets of a case where none arrives.
const FOR_NONE: usize = 4;
/// A packet that should be dropped and shows up nowhere for so long was dropped. The kernel forwards within
/// microseconds, in the context of the sender.
const DROPPED: Duration = Duration::from_millis(200);
/// The same for packets that should show up, on a very busy machine.
const LOST: Duration = Duration::from_secs(2);
/// Source ports of a group, each used once, so that no packet meets the conntrack entry of another.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 1024..=65_535;

/// Runs one group on the kernel, in namespaces of its own; a [`crate::report::Runner`].
///
/// # Errors
/// When the namespaces do not come up, the group makes no sense, or Weir cannot program it.
pub fn run_group(at: &str, fixture: &Fixture, group: &Group, report: &mut Report) -> Result<()> {
    let config = group.config(fixture)?;
    let world = World::up(fixture, 1 << config.masquerade_bit)?;
    let sockets = Sockets::open(&world)?;
    let mut lab = Lab { fixture, group, config, world, sockets, cluster: vec![group.cluster()?], sent: 0 };
    lab.run(at, &group.packets, report)?;
    if !group.after_slice_delete.is_empty() {
        lab.cluster.extend(group.slices_gone()?);
        lab.run(at, &group.after_slice_delete, report)?;
    }
    Ok(())
}

/// One group and all it needs.
struct Lab<'a> {
    fixture: &'a Fixture,
    group: &'a Group,
    config: Config,
    world: World,
    sockets: Sockets,
    /// What Weir is told.
    cluster: Vec<Event>,
    /// Packets sent so far: gives tokens and source ports.
    sent: Token,
}

impl Lab<'_> {
    /// Sends every packet of the list, and judges it.
    fn run(&mut self, at: &str, packets: &[PacketCase], report: &mut Report) -> Result<()> {
        let mut cases = Vec::new();
        // Programmed before anything is asked about the kernel: it may load what it needs.
        drop(self.weir()?);
        for case in packets {
            match self.cannot_be_sent(case) {
                Some(reason) => report.skip(&format!("{at} / {}", case.name), &reason),
                None => cases.push(case),
            }
        }
        let fates = if self.clients_are_remembered() { self.by_rounds(&cases)? } else { self.at_once(&cases)? };
        for (case, own) in cases.iter().zip(&fates) {
            let expectation = self.group.expectation(case);
            let judge = Judge { fixture: self.fixture, expectation: expectation.clone(), case };
            let leader = leader(packets, case)?;
            let leader = leader.and_then(|leader| cases.iter().position(|case| std::ptr::eq(*case, leader)));
            match judge.judge(own, leader.map(|leader| fates[leader].as_slice())) {
                Ok(seen) => report.pass(&format!("{at} / {}", case.name), &expectation, &seen),
                Err(text) => report.fail(format!("{at} / {}\n{text}", case.name)),
            }
        }
        Ok(())
    }

    /// Why the kernel this machine runs cannot show what becomes of `case`.
    fn cannot_be_sent(&self, case: &PacketCase) -> Option<String> {
        const SCTP_TRACKER: &str = "/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_closed";
        let is_sctp = matches!(case.proto, ProtocolCase::Sctp);
        (is_sctp && !self.world.node.run(|| Path::new(SCTP_TRACKER).exists()))
            .then(|| "this kernel's conntrack does not know SCTP, so nothing can translate it".to_owned())
    }

    fn clients_are_remembered(&self) -> bool {
        self.group.services.iter().any(|service| service.client_ip_affinity_seconds > 0)
    }

    /// All packets of all cases, one after the other.
    fn at_once(&mut self, cases: &[&PacketCase]) -> Result<Vec<Vec<Fate>>> {
        let mut sendings = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            sendings.extend(std::iter::repeat_n((at, *case), self.repetitions(case)));
        }
        let mut fates = vec![Vec::new(); cases.len()];
        self.send(&sendings, &mut fates)?;
        Ok(fates)
    }

    /// One packet of each case in turn, and again, with nobody remembered at the start of each round.
    fn by_rounds(&mut self, cases: &[&PacketCase]) -> Result<Vec<Vec<Fate>>> {
        const FORGET: &str = "flush map ip weir affinity\nflush map ip6 weir affinity\n";
        let rounds = cases.iter().map(|case| self.repetitions(case)).max().unwrap_or_default();
        let sendings: Vec<_> = cases.iter().copied().enumerate().collect();
        let mut fates = vec![Vec::new(); cases.len()];
        for _ in 0..rounds {
            // Nobody else may touch the map of a Weir that runs; and none runs now.
            self.world.node.command_with_input("nft", &["-f", "-"], FORGET).context("forget the clients")?;
            self.send(&sendings, &mut fates)?;
        }
        Ok(fates)
    }

    fn repetitions(&self, case: &PacketCase) -> usize {
        match self.group.expectation(case).destinations() {
            0 => FOR_NONE,
            1 => FOR_ONE,
            several => several * FOR_EACH,
        }
    }

    /// A Weir that has programmed the cluster. When it is dropped, the rules stay.
    fn weir(&self) -> Result<Pipeline<Kernel>> {
        let kernel = self.world.node.run(Kernel::open)?;
        let (store, facts) = self.fixture.node(&self.config);
        let mut pipeline = Pipeline::new(store, policies::decider()?, Installed::new(facts), kernel);
        self.cluster.iter().cloned().for_each(|event| pipeline.apply(event));
        sync(&mut pipeline)?;
        Ok(pipeline)
    }

    /// Sends one packet for each of the numbered cases, waits until it is known what became of each, and adds that
    /// to the fates of its case.
    fn send(&mut self, cases: &[(usize, &PacketCase)], fates: &mut [Vec<Fate>]) -> Result<()> {
        let first = self.sent;
        let mut sent: Vec<Fate> = Vec::new();
        for (_, case) in cases {
            let probe = self.probe(case)?;
            sent.push(Fate::of(probe));
            self.send_one(case, &probe)?;
            self.look(first, &mut sent)?;
        }
        let mut quiet = Instant::now();
        loop {
            let mut open = cases.iter().zip(&sent).filter(|(_, fate)| fate.is_open()).peekable();
            let nothing_left = open.peek().is_none();
            let lost = open.any(|((_, case), _)| !self.group.expectation(case).drops());
            // Asked before the last look: this thread may have been kept waiting, too.
            let late = quiet.elapsed() >= if lost { LOST } else { DROPPED };
            if self.look(first, &mut sent)? {
                quiet = Instant::now();
            } else if nothing_left || late {
                break;
            } else {
                sleep(Duration::from_millis(1));
            }
        }
        for ((at, _), fate) in cases.iter().zip(sent) {
            fates[*at].push(fate);
        }
        Ok(())
    }

    fn send_one(&self, case: &PacketCase, probe: &Probe) -> Result<()> {
        let mark = case.mark()?;
        if case.from_node(self.fixture) {
            return self.sockets.send_from_node(probe, mark);
        }
        ensure!(mark == 0, "packet {:?}: only packets of the node can have a mark", case.name);
        let pod = self.fixture.detect_local_cidr.values().iter().any(|net| net.contains(&case.src));
        let link = LINKS.iter().position(|(name, _)| *name == if pod { "pod0" } else { "eth0" });
        self.sockets.send_over(link.expect("both are links"), probe)
    }

    /// Notes what was seen of packets from token `first` on; false when that is nothing.
    fn look(&self, first: Token, sent: &mut [Fate]) -> Result<bool> {
        let seen = self.sockets.sightings()?;
        let any = !seen.is_empty();
        for sighting in seen {
            let at = sighting.token().checked_sub(first).and_then(|at| usize::try_from(at).ok());
            if let Some(fate) = at.and_then(|at| sent.get_mut(at)) {
                fate.see(sighting);
            }
        }
        Ok(any)
    }

    fn probe(&mut self, case: &PacketCase) -> Result<Probe> {
        let port = u32::from(*SOURCE_PORTS.start()) + self.sent;
        let port = u16::try_from(port).ok().filter(|port| SOURCE_PORTS.contains(port));
        let port = port.context("the group needs more packets than there are source ports")?;
        let probe = Probe {
            token: self.sent,
            protocol: case.proto.into(),
            source: SocketAddr::new(case.src, port),
            destination: SocketAddr::new(case.dst, case.port),
        };
        self.sent += 1;
        Ok(probe)
    }
}
