//! A load that runs in the background while something changes, and counts what the change broke.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::call::parse;
use crate::{Call, Failure, Host, Tally, Transport};

/// Threads that share a connection probe's rate, so that one call that waits for its timeout does not stop the others.
const WORKERS: u32 = 4;

/// What a [`Probe`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// Every call, counted; for a flow, every datagram.
    pub tally: Tally,
    /// The longest time between two answers.
    pub longest_gap: Duration,
    /// How long each answered call took, in the order of [`Tally::order`].
    pub latencies: Vec<Duration>,
}

/// Calls at a steady rate until it is stopped. Dropped without [`Probe::stop`], it ends too.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Vec<Done>>>,
}

/// A call that was made.
#[derive(Debug)]
struct Done {
    begun: Instant,
    ended: Instant,
    outcome: Outcome,
}

type Outcome = Result<crate::Answer, Failure>;

impl Probe {
    /// Makes `call` from `host`, `rate` times a second, each time as a new connection (or UDP socket).
    ///
    /// # Panics
    /// When `rate` is 0.
    #[must_use]
    pub fn connections(host: &Host, call: Call, rate: u32) -> Self {
        Self::by_workers(host, call, rate, WORKERS)
    }

    /// The same with so many threads, each of which waits for its call to end: for backends that take long, more than
    /// `rate` times the seconds they take.
    ///
    /// # Panics
    /// When `rate` is 0.
    #[must_use]
    pub fn by_workers(host: &Host, call: Call, rate: u32, workers: u32) -> Self {
        assert!(rate > 0, "a probe needs a rate");
        let stop = Arc::new(AtomicBool::new(false));
        let period = Duration::from_secs(1) * workers / rate;
        let workers = (0..workers)
            .map(|worker| {
                let (stop, start) = (Arc::clone(&stop), Instant::now() + period * worker / workers);
                host.spawn(move || on_schedule(&stop, start, period, |_| call.make()))
            })
            .collect();
        Self { stop, workers }
    }

    /// Sends `rate` datagrams a second from `host` over one socket, so over one conntrack entry; each must be answered
    /// within the call's timeout.
    ///
    /// # Errors
    /// When the socket cannot be made.
    ///
    /// # Panics
    /// When `rate` is 0 or `call` is not by UDP.
    pub fn flow(host: &Host, call: Call, rate: u32) -> Result<Self, Failure> {
        assert!(rate > 0, "a probe needs a rate");
        assert_eq!(call.transport, Transport::Udp, "a flow is UDP");
        let socket = host.run(|| call.udp_socket())?;
        let stop = Arc::new(AtomicBool::new(false));
        let period = Duration::from_secs(1) / rate;
        let worker = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                on_schedule(&stop, Instant::now(), period, |number| echo(&socket, number, call.timeout))
            })
        };
        Ok(Self { stop, workers: vec![worker] })
    }

    /// Ends the probe and reports.
    #[must_use]
    pub fn stop(mut self) -> ProbeReport {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcomes: Vec<_> =
            self.workers.drain(..).flat_map(|worker| worker.join().expect("a prober does not panic")).collect();
        outcomes.sort_by_key(|done| done.ended);
        let mut report = ProbeReport::default();
        let mut last = None;
        for Done { begun, ended, outcome } in outcomes {
            if outcome.is_ok() {
                report.longest_gap = report.longest_gap.max(ended - last.unwrap_or(ended));
                report.latencies.push(ended - begun);
                last = Some(ended);
            }
            report.tally.add(outcome);
        }
        report
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl ProbeReport {
    /// Calls without an answer, by reason.
    #[must_use]
    pub fn failures(&self) -> &BTreeMap<Failure, u64> {
        &self.tally.failures
    }
}

/// Does `work` at `start`, `start + period`, … and notes when each was done. What was missed is not made up for: a
/// probe that hung must not look like one that ran.
fn on_schedule(stop: &AtomicBool, start: Instant, period: Duration, mut work: impl FnMut(u64) -> Outcome) -> Vec<Done> {
    let mut outcomes = Vec::new();
    let mut next = start;
    for number in 0.. {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let outcome = work(number);
        outcomes.push(Done { begun, ended: Instant::now(), outcome });
        next = (next + period).max(Instant::now());
    }
    outcomes
}

/// One datagram with a number, and the answer to exactly this one: late answers to earlier ones are passed over.
fn echo(socket: &UdpSocket, number: u64, timeout: Duration) -> Outcome {
    let token = number.to_string();
    socket.send(token.as_bytes())?;
    let deadline = Instant::now() + timeout;
    let mut buffer = [0; 512];
    loop {
        let length = socket.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.split_whitespace().nth(2) == Some(token.as_str()) {
            return parse(&text).ok_or(Failure::NoAnswer(text));
        }
        if Instant::now() > deadline {
            return Err(Failure::TimedOut);
        }
    }
}
