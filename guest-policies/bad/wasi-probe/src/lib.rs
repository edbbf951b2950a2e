//! Tries everything WASI has, and tells what came of it as the reason of its answer. Balances well all the while.

wit_bindgen::generate!({
    inline: r#"
        package example:probe;
        world probe {
            include weir:policy/balancer-only@0.2.0;
            import wasi:cli/environment@0.2.3;
            import wasi:cli/stdin@0.2.3;
            import wasi:cli/stdout@0.2.3;
            import wasi:clocks/monotonic-clock@0.2.3;
            import wasi:clocks/wall-clock@0.2.3;
            import wasi:filesystem/preopens@0.2.3;
            import wasi:random/random@0.2.3;
            import wasi:sockets/instance-network@0.2.3;
            import wasi:sockets/ip-name-lookup@0.2.3;
            import wasi:sockets/tcp-create-socket@0.2.3;
        }
    "#,
    path: ["wit", "../../../wit"],
    world: "example:probe/probe",
    generate_all,
});

use exports::weir::policy::balancer::{Columns, Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use wasi::cli::{environment, stdin, stdout};
use wasi::clocks::{monotonic_clock, wall_clock};
use wasi::filesystem::preopens;
use wasi::io::streams::StreamError;
use wasi::random::random;
use wasi::sockets::{instance_network, ip_name_lookup, network, tcp_create_socket};
use weir::policy::snapshot::View;

/// An hour, in nanoseconds.
const HOUR: u64 = 3600 * 1_000_000_000;

struct Probe;

bad_about::about!(Probe);

impl Guest for Probe {
    fn balance(_: &View, rings: Vec<Ring>, _: Columns) -> Result<Vec<Spread>, PolicyError> {
        let seen = probe();
        Ok(rings.into_iter().map(|ring| spread(ring, &seen)).collect())
    }
}

fn probe() -> String {
    let printed = stdout::get_stdout().blocking_write_and_flush(b"hello from the probe\n").is_ok();
    let read = match stdin::get_stdin().blocking_read(1) {
        Ok(bytes) => format!("{} bytes", bytes.len()),
        Err(StreamError::Closed) => "closed".to_owned(),
        Err(StreamError::LastOperationFailed(_)) => "failed".to_owned(),
    };
    monotonic_clock::subscribe_duration(HOUR).block();
    let tcp = tcp_create_socket::create_tcp_socket(network::IpAddressFamily::Ipv4);
    let tcp = tcp.map_or_else(|error| error.name(), |_| "works");
    let names = ip_name_lookup::resolve_addresses(&instance_network::instance_network(), "localhost");
    let names = names.map_or_else(|error| error.name(), |_| "work");
    let wall = wall_clock::now();
    format!(
        "printed {printed}, stdin {read}, {} variables, {} arguments, {} directories, tcp {tcp}, names {names}, \
         clocks {} {}.{}, random {:016x}",
        environment::get_environment().len(),
        environment::get_arguments().len(),
        preopens::get_directories().len(),
        monotonic_clock::now(),
        wall.seconds,
        wall.nanoseconds,
        random::get_random_u64() ^ u64::from(random::get_random_bytes(1)[0]),
    )
}

fn spread(ring: Ring, seen: &str) -> Spread {
    Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share: Share::Equal,
        affinity_seconds: ring.affinity_seconds,
        again_seconds: 0,
        reason: seen.to_owned(),
    }
}

export!(Probe);
