use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use weir::follow::localhost_ports::LocalhostPorts;
use weir_model::Family;
use weir_testbed::{Call, Failure, Tally};
use weir_tests::lab::{BACKEND_PORT, Backend, Service, chi_square, chi_square_limit, web};

use crate::followed::{Followed, eventually};

const PORT: u16 = 30_080;
const LOOPBACK: [&str; 2] = ["127.0.0.1:30080", "[::1]:30080"];
/// Connections per measured distribution.
const CALLS: usize = 1000;
/// A pod where nobody listens on the backends' port, until a test does.
const NOBODY: Backend = Backend::new(0);

fn up(services: &[Service]) -> Followed<LocalhostPorts> {
    Followed::up(LocalhostPorts::new(Family::ALL.to_vec()), services)
}

/// `web` with node ports.
fn exposed() -> Service {
    web().node_port(PORT)
}

fn target(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Calls from the node itself.
fn call(followed: &Followed<LocalhostPorts>, count: usize, text: &str) -> Tally {
    Tally::repeat(followed.node(), count, Call::tcp(target(text)))
}

/// One call, and the backend that answered or why none did.
fn outcome(followed: &Followed<LocalhostPorts>, text: &str) -> Result<String, Failure> {
    Call::tcp(target(text)).make_on(followed.node()).map(|answer| answer.backend)
}

fn refused<T>() -> Result<T, Failure> {
    Err(Failure::Refused)
}

/// The backends that answered; every call must have got an answer.
fn answering(tally: &Tally) -> Vec<&str> {
    assert_eq!(tally.failed(), 0, "{tally:?}");
    tally.answers.keys().map(String::as_str).collect()
}

pub(crate) fn connections_spread_by_weight() {
    let weighted = |weights: [u32; 3]| {
        let backends =
            Backend::ALL.map(|backend| Backend { weight: weights[usize::from(backend.number) - 1], ..backend });
        exposed().policy("weighted").on(&backends)
    };
    for (service, weights) in [(exposed(), [1, 1, 1]), (weighted([1, 2, 5]), [1, 2, 5])] {
        let followed = up(&[service]);
        for text in LOOPBACK {
            let tally = call(&followed, CALLS, text);
            assert_eq!(tally.failed(), 0, "{tally:?}");
            let seen = ["backend-1", "backend-2", "backend-3"].map(|backend| tally.answers_of(backend));
            let statistic = chi_square(&seen, &weights);
            assert!(statistic < chi_square_limit(3), "{text}: {seen:?} is not {weights:?}: chi-square {statistic:.1}");
        }
    }
}

pub(crate) fn only_asked_families_listen() {
    let followed = Followed::up(LocalhostPorts::new(vec![Family::V6]), &[exposed()]);
    assert_eq!(outcome(&followed, LOOPBACK[0]), refused());
    assert!(outcome(&followed, LOOPBACK[1]).is_ok());
    let followed = Followed::up(LocalhostPorts::new(Vec::new()), &[exposed()]);
    assert_eq!(outcome(&followed, LOOPBACK[1]), refused());
}

pub(crate) fn external_local_stays_on_the_node() {
    let mut followed = up(&[exposed().external_local()]);
    for text in LOOPBACK {
        assert_eq!(answering(&call(&followed, 60, text)), ["backend-1", "backend-2"], "{text}");
    }
    followed.apply(&[exposed().external_local().on(&[Backend::new(3)])]);
    for text in LOOPBACK {
        eventually(&refused(), || outcome(&followed, text));
    }
}

pub(crate) fn no_endpoint_is_refused() {
    let mut followed = up(&[exposed().on(&[])]);
    let start = Instant::now();
    for text in LOOPBACK {
        assert_eq!(outcome(&followed, text), refused());
    }
    assert!(start.elapsed() < Duration::from_millis(500), "at once, not after {:?}", start.elapsed());
    followed.apply(&[exposed().on(&[Backend::new(2)])]);
    for text in LOOPBACK {
        assert_eq!(outcome(&followed, text), Ok("backend-2".to_owned()));
    }
    followed.apply(&[]);
    for text in LOOPBACK {
        eventually(&refused(), || outcome(&followed, text));
    }
}

pub(crate) fn affinity_keeps_one_endpoint_for_all() {
    let mut followed = up(&[exposed().affinity(3600)]);
    for text in LOOPBACK {
        let tally = call(&followed, 60, text);
        let [first] = answering(&tally)[..] else { panic!("{tally:?}") };
        // It stays while others go, and its own end moves everybody.
        let number: u8 = first.strip_prefix("backend-").unwrap().parse().unwrap();
        followed.apply(&[exposed().affinity(3600).on(&[Backend::new(number), Backend::new(number % 3 + 1)])]);
        assert_eq!(answering(&call(&followed, 30, text)), [first], "{text}");
        followed.apply(&[exposed().affinity(3600).on(&[Backend::new(number % 3 + 1)])]);
        assert_eq!(answering(&call(&followed, 30, text)), [format!("backend-{}", number % 3 + 1)], "{text}");
        followed.apply(&[exposed().affinity(3600)]);
    }
}

pub(crate) fn another_endpoint_serves_when_one_refuses() {
    for service in [exposed(), exposed().affinity(3600)] {
        let followed = up(&[service.on(&[NOBODY, Backend::new(1)])]);
        for text in LOOPBACK {
            assert_eq!(answering(&call(&followed, 60, text)), ["backend-1"], "{text}");
        }
    }
}

pub(crate) fn when_all_refuse_the_client_is_reset() {
    let followed = up(&[exposed().on(&[NOBODY])]);
    for text in LOOPBACK {
        assert_eq!(outcome(&followed, text), Err(Failure::Reset));
    }
}

/// A testbed whose only endpoint is `listener`.
fn with_own_endpoint() -> (Followed<LocalhostPorts>, TcpListener) {
    let followed = up(&[exposed().on(&[NOBODY])]);
    let listener = followed.lab.client().run(|| TcpListener::bind(("::", BACKEND_PORT))).unwrap();
    (followed, listener)
}

/// A connection from the node to loopback, and its other end.
fn connected(followed: &Followed<LocalhostPorts>, listener: &TcpListener, text: &str) -> (TcpStream, TcpStream) {
    let address = target(text);
    let client = followed.node().run(|| TcpStream::connect(address)).unwrap();
    let (endpoint, _) = listener.accept().unwrap();
    for stream in [&client, &endpoint] {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    (client, endpoint)
}

pub(crate) fn half_closed_connections_go_on() {
    let (followed, listener) = with_own_endpoint();
    for text in LOOPBACK {
        let (mut client, mut endpoint) = connected(&followed, &listener, text);
        // More than any buffer on the way.
        let question = vec![7; 4 << 20];
        let asking = std::thread::spawn(move || {
            client.write_all(&question).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).map(|_| answer)
        });
        let mut received = Vec::new();
        endpoint.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 4 << 20);
        endpoint.write_all(b"after the end").unwrap();
        drop(endpoint);
        assert_eq!(asking.join().unwrap().unwrap(), "after the end");
    }
}

/// Connections outlive the readiness of their endpoint, as those in the kernel do, but not the Service.
pub(crate) fn the_end_of_the_service_ends_its_connections() {
    let (mut followed, listener) = with_own_endpoint();
    for text in LOOPBACK {
        let (mut client, mut endpoint) = connected(&followed, &listener, text);
        followed.apply(&[exposed().on(&[])]);
        eventually(&refused(), || outcome(&followed, text));
        client.write_all(b"still here").unwrap();
        let mut buffer = [0; 10];
        endpoint.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"still here");
        followed.apply(&[]);
        for stream in [&mut client, &mut endpoint] {
            let end = stream.read(&mut buffer).map_err(|error| error.kind());
            assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
        }
        followed.apply(&[exposed().on(&[NOBODY])]);
    }
}

pub(crate) fn a_busy_port_is_taken_once_it_is_free() {
    let mut followed = up(&[]);
    let squatter = followed.node().run(|| TcpListener::bind(("127.0.0.1", PORT))).unwrap();
    followed.apply(&[exposed().on(&[Backend::new(3)])]);
    assert_eq!(outcome(&followed, LOOPBACK[1]), Ok("backend-3".to_owned()), "the other family is not held up");
    drop(squatter);
    eventually(&Ok("backend-3".to_owned()), || outcome(&followed, LOOPBACK[0]));
}

/// Nobody listens, so the kernel itself refuses.
pub(crate) fn udp_is_not_served() {
    let followed = up(&[exposed()]);
    for text in LOOPBACK {
        assert_eq!(Call::udp(target(text)).make_on(followed.node()), refused());
    }
}
