use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use weir::follow::Follower;
use weir_testbed::Host;
use weir_tests::lab::{Lab, Service};

/// How long anything on the testbed may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A testbed whose Services somebody follows.
pub(crate) struct Followed<F> {
    pub(crate) lab: Lab,
    follower: F,
    // Its threads are in the node's namespace. Dropped last: listeners live on it.
    runtime: Runtime,
}

impl<F: Follower> Followed<F> {
    /// A lab with `follower`, and `services` programmed.
    pub(crate) fn up(follower: F, services: &[Service]) -> Self {
        let lab = Lab::up(&[]).unwrap();
        let runtime = runtime(lab.node().kernel());
        let mut followed = Self { lab, follower, runtime };
        followed.apply(services);
        followed
    }

    /// Makes `services` all there are.
    pub(crate) fn apply(&mut self, services: &[Service]) {
        let outcome = self.lab.apply(services).unwrap();
        let (synced, runtime, follower) = (self.lab.synced(&outcome), &self.runtime, &mut self.follower);
        self.lab.node().kernel().run(|| {
            let _inside = runtime.enter();
            follower.synced(&synced);
        });
    }

    /// The node itself.
    pub(crate) fn node(&self) -> &Host {
        self.lab.node().kernel()
    }
}

/// A runtime whose I/O happens in the namespace of `host`.
pub(crate) fn runtime(host: &Host) -> Runtime {
    host.run(|| Builder::new_multi_thread().worker_threads(1).enable_all().build()).unwrap()
}

/// Asks again and again until the answer is `expected`.
pub(crate) fn eventually<T: PartialEq + std::fmt::Debug>(expected: &T, ask: impl Fn() -> T) {
    let start = Instant::now();
    loop {
        let seen = ask();
        if seen == *expected {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "still {seen:?}, not {expected:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
