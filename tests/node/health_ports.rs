use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use weir::follow::health_ports::HealthPorts;
use weir::health::ProxyHealth;
use weir_model::Conditions;
use weir_testbed::Host;
use weir_tests::lab::{Backend, Service, web};

use crate::followed::{Followed, eventually};

const PORT: u16 = 32_000;
const OTHER: u16 = 32_001;
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// What a load balancer reads.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    weight: Option<String>,
    body: serde_json::Value,
}

fn answer(status: u16, service: &str, endpoints: usize, healthy: bool) -> Answer {
    let body = serde_json::json!({
        "service": {"namespace": "default", "name": service},
        "localEndpoints": endpoints,
        "serviceProxyHealthy": healthy,
    });
    Answer { status, weight: Some(endpoints.to_string()), body }
}

/// `web` as a load balancer's Service with `externalTrafficPolicy: Local`.
fn checked(port: u16) -> Service {
    let mut service = web().load_balancer(["192.0.2.5", "2001:db8:1b::5"]).external_local();
    service.spec.health_check_node_port = port;
    service
}

fn up(services: &[Service]) -> Followed<HealthPorts> {
    Followed::up(HealthPorts::new(ProxyHealth::default()), services)
}

fn connect(host: &Host, ip: &str, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::new(ip.parse().unwrap(), port);
    let stream = host.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// The whole answer to a `GET` of some path.
fn fetch(host: &Host, ip: &str, port: u16) -> std::io::Result<String> {
    let mut stream = connect(host, ip, port)?;
    stream.write_all(b"GET /any/path HTTP/1.1\r\nHost: node\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// What is asked for in a `GET`, read; or why there is none.
fn get(host: &Host, ip: &str, port: u16) -> Result<Answer, ErrorKind> {
    let text = fetch(host, ip, port).map_err(|error| error.kind())?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    assert_eq!(header("content-type").as_deref(), Some("application/json"), "{text}");
    assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"), "{text}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let weight = header("x-load-balancing-endpoint-weight");
    Ok(Answer { status, weight, body: serde_json::from_str(body).unwrap() })
}

pub(crate) fn answers_as_kube_proxy_does_in_both_families() {
    let mut followed = up(&[]);
    // One listener for both, even where sockets are for IPv6 alone by default.
    followed.node().run(|| std::fs::write("/proc/sys/net/ipv6/bindv6only", "1")).unwrap();
    followed.apply(&[checked(PORT)]);
    for ip in LOOPBACK.iter().chain(&["192.168.0.2", "2001:db8::1"]) {
        assert_eq!(get(followed.node(), ip, PORT), Ok(answer(200, "web", 2, true)), "{ip}");
    }
    assert_eq!(get(followed.lab.outside(), "192.168.0.2", PORT), Ok(answer(200, "web", 2, true)));
    followed.apply(&[checked(PORT).on(&[Backend::new(2), Backend::new(3)])]);
    for ip in LOOPBACK {
        assert_eq!(get(followed.node(), ip, PORT), Ok(answer(200, "web", 1, true)), "{ip}");
    }
    followed.apply(&[checked(PORT).on(&[Backend::new(3)])]);
    for ip in LOOPBACK {
        assert_eq!(get(followed.node(), ip, PORT), Ok(answer(503, "web", 0, true)), "{ip}");
    }
}

/// `web` has two ports, and a third only makes more endpoints of the same addresses. A Service of one family is
/// checked through the other as well.
pub(crate) fn counts_each_address_once() {
    let mut single = checked(PORT).tcp(443);
    single.spec.cluster_ips.truncate(1);
    let followed = up(&[single]);
    for ip in LOOPBACK {
        assert_eq!(get(followed.node(), ip, PORT), Ok(answer(200, "web", 2, true)), "{ip}");
    }
}

pub(crate) fn should_fail_health_check_node_port_if_there_are_only_terminating_endpoints() {
    let mut followed = up(&[checked(PORT)]);
    assert_eq!(get(followed.node(), "127.0.0.1", PORT).unwrap().status, 200);
    let terminating = Conditions::SERVING | Conditions::TERMINATING;
    followed.apply(&[checked(PORT).in_state(terminating)]);
    for ip in LOOPBACK {
        assert_eq!(get(followed.node(), ip, PORT), Ok(answer(503, "web", 0, true)), "{ip}");
    }
    followed.apply(&[checked(PORT).in_state(Conditions::default())]);
    assert_eq!(get(followed.node(), "::1", PORT), Ok(answer(503, "web", 0, true)));
    followed.apply(&[checked(PORT)]);
    assert_eq!(get(followed.node(), "::1", PORT), Ok(answer(200, "web", 2, true)));
}

pub(crate) fn an_unhealthy_proxy_says_so() {
    let health = ProxyHealth::new(Duration::from_millis(50));
    let followed = Followed::up(HealthPorts::new(health.clone()), &[checked(PORT)]);
    assert_eq!(get(followed.node(), "127.0.0.1", PORT), Ok(answer(200, "web", 2, true)));
    health.failed();
    eventually(&Ok(answer(503, "web", 2, false)), || get(followed.node(), "127.0.0.1", PORT));
    health.synced();
    assert_eq!(get(followed.node(), "::1", PORT), Ok(answer(200, "web", 2, true)));
}

pub(crate) fn the_port_follows_the_service() {
    let mut followed = up(&[checked(PORT)]);
    let refused = Err(ErrorKind::ConnectionRefused);
    assert!(get(followed.node(), "127.0.0.1", PORT).is_ok());
    followed.apply(&[checked(OTHER)]);
    assert_eq!(get(followed.node(), "::1", OTHER), Ok(answer(200, "web", 2, true)));
    eventually(&refused, || get(followed.node(), "127.0.0.1", PORT));
    // A type without health checks has no such port any more; the source says 0 then.
    followed.apply(&[checked(0)]);
    eventually(&refused, || get(followed.node(), "127.0.0.1", OTHER));
    followed.apply(&[checked(PORT)]);
    assert!(get(followed.node(), "127.0.0.1", PORT).is_ok());
    followed.apply(&[]);
    for ip in LOOPBACK {
        eventually(&refused, || get(followed.node(), ip, PORT));
    }
}

pub(crate) fn a_busy_port_is_taken_once_it_is_free() {
    let mut followed = up(&[]);
    let squatter = followed.node().run(|| TcpListener::bind(("0.0.0.0", PORT))).unwrap();
    let neighbour = named("neighbour", 20, OTHER);
    followed.apply(&[checked(PORT), neighbour]);
    assert_eq!(get(followed.node(), "::1", OTHER).unwrap().status, 200, "others are not held up");
    assert_eq!(get(followed.node(), "::1", PORT), Err(ErrorKind::ConnectionRefused));
    // It changes while it waits.
    followed.apply(&[checked(PORT).on(&[Backend::new(1)])]);
    drop(squatter);
    eventually(&Ok(answer(200, "web", 1, true)), || get(followed.node(), "127.0.0.1", PORT));
    assert_eq!(get(followed.node(), "::1", PORT), Ok(answer(200, "web", 1, true)));
}

/// Another Service like `web`, created so many seconds after 1970.
fn named(name: &str, created: i64, port: u16) -> Service {
    let octet = name.len() + 20;
    let mut service = Service::new(name, [&format!("10.96.0.{octet}"), &format!("fd00:10:96::{octet}")]).tcp(80);
    service = service.load_balancer([&format!("192.0.2.{octet}")]).external_local();
    service.spec.created = Some(created);
    service.spec.health_check_node_port = port;
    service
}

pub(crate) fn the_older_service_keeps_a_port() {
    let mut followed = up(&[named("younger", 20, PORT)]);
    let whose = |followed: &Followed<HealthPorts>| {
        get(followed.node(), "127.0.0.1", PORT).unwrap().body["service"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(whose(&followed), "younger");
    followed.apply(&[named("younger", 20, PORT), named("old", 10, PORT)]);
    assert_eq!(whose(&followed), "old");
    followed.apply(&[named("younger", 20, PORT), named("same", 20, PORT)]);
    assert_eq!(whose(&followed), "same", "of the same age, so by name");
    followed.apply(&[named("younger", 20, PORT)]);
    assert_eq!(whose(&followed), "younger");
}

/// Whoever connects and says nothing, or never comes to an end, is cut off; others are served meanwhile.
pub(crate) fn a_silent_client_does_not_stay() {
    let followed = up(&[checked(PORT)]);
    let start = Instant::now();
    let mut silent = connect(followed.node(), "127.0.0.1", PORT).unwrap();
    let mut endless = connect(followed.node(), "127.0.0.1", PORT).unwrap();
    endless.write_all(b"GET / HTTP/1.1\r\nX-Long: ").unwrap();
    assert_eq!(get(followed.node(), "127.0.0.1", PORT).unwrap().status, 200);
    let mut rest = Vec::new();
    // How the end looks does not matter, that it comes does.
    let _ = silent.read_to_end(&mut rest);
    let _ = endless.read_to_end(&mut rest);
    assert!(start.elapsed() < Duration::from_secs(12), "after {:?}", start.elapsed());
}
