//! What counting connections by endpoint costs at 10 000 new connections a second, and while nobody asks: real TCP
//! connections over loopback through Weir's rules, in a namespace made for it. Client and servers are one thread, the
//! other counts. Both are in the figures, and with them all that the kernel does for them.
//!
//! Rounds with and without counting take turns, so that other load of the machine meets both.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use weir::follow::load::LoadFollower;
use weir_benches::{catalog, cluster, pipeline};
use weir_model::{Loads, Protocol};
use weir_netlink::Kernel;

const SERVICES: usize = 100;
const RATE: u32 = 10_000;
/// Connections of a round: less than a second of them.
const CONNECTIONS: u32 = 8_000;
/// Pairs of rounds.
const ROUNDS: usize = 4;
/// How long the follower may take to begin and to count the last connection.
const SOON: Duration = Duration::from_secs(10);
/// The first endpoint of the benches' clusters, and their port.
const FIRST: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 0);
const PORT: u16 = 8080;

/// A round, or the sum of several.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Of this process, user and system.
    processor: Duration,
    wall: Duration,
    /// The median time in connect().
    connect: Duration,
}

fn main() -> Result<()> {
    // The namespace comes first, while there is a single thread; it goes with the process.
    if let Err(error) = weir_testbed::enter() {
        eprintln!("not run: {error}");
        return Ok(());
    }
    // Every endpoint's address is this host's own, and so is the client's: it counts as a pod and is not masqueraded.
    let network =
        ["link set lo up", "addr add 11.255.0.1/8 dev lo", "route add local 10.96.0.0/16 dev lo src 11.255.0.1"];
    for line in network {
        ensure!(Command::new("ip").args(line.split(' ')).status()?.success(), "ip {line}");
    }
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "9000 65000").context("source ports")?;
    let catalog = catalog();
    let mut pipeline = pipeline(&catalog, Kernel::open()?);
    pipeline.apply(cluster(SERVICES, 1));
    pipeline.sync().context("the rules")?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;

    let follower = LoadFollower::new();
    round(&listener, CONNECTIONS / 4)?;
    let (mut idle, mut counting) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        idle.push(round(&listener, CONNECTIONS)?);
        follower.set_wanted(true);
        until(|| follower.dumps() > 0)?;
        counting.push(round(&listener, CONNECTIONS)?);
        until(|| begun(&follower) == CONNECTIONS).with_context(|| format!("{} are counted", begun(&follower)))?;
        follower.set_wanted(false);
    }
    println!("{CONNECTIONS} connections a round, {RATE} a second wanted, {ROUNDS} rounds; the best of each");
    println!("{:>22} {:>14} {:>12} {:>14}", "", "µs/connection", "connections/s", "connect() µs");
    let [idle, counting] = [("nobody asks", idle), ("counting", counting)].map(|(what, rounds)| {
        let best = rounds.into_iter().min_by_key(|cost| cost.processor).unwrap_or_default();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let each = micros(best.processor) / f64::from(CONNECTIONS);
        let rate = f64::from(CONNECTIONS) / best.wall.as_secs_f64();
        println!("{what:>22} {each:>14.1} {rate:>12.0} {:>14.1}", micros(best.connect));
        each
    });
    println!("a counted connection costs {:.2} times one that is not counted,", counting / idle);
    let share = (counting - idle) * f64::from(RATE) / 1e6;
    println!("and counting takes {:.1} % of one processor at {RATE} new connections a second", share * 100.0);
    Ok(())
}

/// Connections that began, of all endpoints.
fn begun(follower: &LoadFollower) -> u32 {
    // An endpoint each, with a free number between two.
    (0..2 * SERVICES)
        .map(|number| {
            let number = u32::try_from(number).expect("few");
            let address = Ipv4Addr::from(u32::from(FIRST) + number);
            follower.load(Protocol::Tcp, address.into(), PORT).begun
        })
        .sum()
}

fn until(holds: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !holds() {
        ensure!(start.elapsed() < SOON, "not within {SOON:?}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Makes `count` connections at [`RATE`], or as fast as the machine can.
fn round(listener: &TcpListener, count: u32) -> Result<Cost> {
    let (start, before) = (Instant::now(), processor()?);
    let mut connects = Vec::with_capacity(count as usize);
    for number in 0..count {
        let due = start + Duration::from_secs(1) * number / RATE;
        let wait = due.saturating_duration_since(Instant::now());
        // A shorter sleep would cost more than it waits.
        if wait > Duration::from_millis(1) {
            sleep(wait);
        }
        let service = u8::try_from(number as usize % SERVICES).context("few Services")?;
        let begin = Instant::now();
        let mut client = TcpStream::connect(SocketAddr::from(([10, 96, 0, service], 80)))?;
        connects.push(begin.elapsed());
        let (mut server, _) = listener.accept()?;
        client.write_all(b"x")?;
        server.read_exact(&mut [0])?;
    }
    connects.sort_unstable();
    Ok(Cost { processor: processor()? - before, wall: start.elapsed(), connect: connects[connects.len() / 2] })
}

/// What this process has used so far.
fn processor() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}
