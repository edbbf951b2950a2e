#![allow(clippy::expect_used, reason = "tests panic")]

use std::sync::atomic::AtomicUsize;

use weir_conntrack::load::{Received, State};
use weir_conntrack::{Dump, Flow};

use super::*;
use crate::follow::polling::until;

/// A kernel whose events can be set from outside. It is closed when the last reader is.
#[derive(Clone, Default)]
struct Kernel(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    events: Vec<(Flow, State)>,
    flows: Vec<(Flow, State)>,
    lost: bool,
    broken: bool,
}

impl FlowEvents for Kernel {
    fn wait(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, _: usize, each: &mut dyn FnMut(&Flow, State)) -> io::Result<(usize, Received)> {
        let mut world = self.0.lock().expect("no panic");
        if std::mem::take(&mut world.broken) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        world.events.drain(..).for_each(|(flow, state)| each(&flow, state));
        Ok((0, if std::mem::take(&mut world.lost) { Received::Lost } else { Received::All }))
    }

    fn dump(&mut self, each: &mut dyn FnMut(&Flow, State)) -> io::Result<Dump> {
        self.0.lock().expect("no panic").flows.iter().for_each(|(flow, state)| each(flow, *state));
        Ok(Dump::Complete)
    }
}

fn follower(kernel: &Kernel) -> LoadFollower {
    let kernel = kernel.clone();
    LoadFollower::with(move || Ok(Box::new(kernel.clone())))
}

fn flow(id: u32) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        source: ([10, 244, 0, 9], 4000).into(),
        destination: ([10, 96, 0, 10], 80).into(),
        reply_source: ([10, 244, 0, 1], 8080).into(),
        zone: 0,
        id,
    }
}

fn sums(follower: &LoadFollower) -> (u32, u32) {
    let load = follower.load(Protocol::Tcp, [10, 244, 0, 1].into(), 8080);
    (load.active, load.begun)
}

#[test]
fn counts_only_while_somebody_asks() {
    let kernel = Kernel::default();
    let follower = follower(&kernel);
    kernel.0.lock().expect("no panic").flows = vec![(flow(1), State::Open), (flow(2), State::Closed)];
    assert_eq!(sums(&follower), (0, 0));
    follower.set_wanted(true);
    follower.set_wanted(true);
    until("no first dump", || follower.dumps() == 1);
    assert_eq!(sums(&follower), (1, 0));
    kernel.0.lock().expect("no panic").events = vec![(flow(3), State::Began), (flow(1), State::Closed)];
    until("the events are not counted", || sums(&follower) == (1, 1));
    follower.set_wanted(false);
    assert_eq!(sums(&follower), (0, 0));
    // This test, and the closure of the follower.
    until("the source stays open", || Arc::strong_count(&kernel.0) == 2);
}

#[test]
fn lost_events_are_made_up_for() {
    let kernel = Kernel::default();
    let follower = follower(&kernel);
    follower.set_wanted(true);
    until("no first dump", || follower.dumps() == 1);
    {
        let mut world = kernel.0.lock().expect("no panic");
        world.flows = vec![(flow(1), State::Open), (flow(2), State::Closed), (flow(3), State::Open)];
        world.events = vec![(flow(1), State::Began)];
        world.lost = true;
    }
    until("nothing is made up for", || sums(&follower) == (2, 3));
}

#[test]
fn a_source_that_breaks_is_opened_again() {
    let kernel = Kernel::default();
    kernel.0.lock().expect("no panic").flows = vec![(flow(1), State::Open)];
    let follower = follower(&kernel);
    follower.set_wanted(true);
    until("no first dump", || follower.dumps() == 1);
    kernel.0.lock().expect("no panic").broken = true;
    until("no second life", || follower.dumps() == 2);
    assert_eq!(sums(&follower), (1, 0));
}

#[test]
fn without_permission_every_load_is_zero() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let follower = LoadFollower::with(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Err(io::ErrorKind::PermissionDenied.into())
    });
    follower.set_wanted(true);
    until("it is not tried again", || attempts.load(Ordering::Relaxed) == 2);
    assert_eq!((sums(&follower), follower.dumps()), ((0, 0), 0));
    drop(follower);
    until("the thread stays", || Arc::strong_count(&attempts) == 1);
}
