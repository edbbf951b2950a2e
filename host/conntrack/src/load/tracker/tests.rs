#![allow(clippy::expect_used, reason = "tests panic")]

use weir_model::Protocol;

use super::*;

/// Flow `id` to the endpoint with this number.
fn flow(id: u32, endpoint: u8) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        source: ([10, 244, 0, 9], 4000).into(),
        destination: ([10, 96, 0, 10], 80).into(),
        reply_source: ([10, 244, 0, endpoint], 8080).into(),
        zone: 0,
        id,
    }
}

/// Active and begun of the endpoint with this number, as the changes add up.
#[derive(Default)]
struct Sums(BTreeMap<Endpoint, (i32, u32)>);

impl Sums {
    fn of(&mut self, tracker: &mut Tracker, number: u8) -> (i32, u32) {
        for (endpoint, change) in tracker.take_changes() {
            let sum = self.0.entry(endpoint).or_default();
            *sum = (sum.0 + change.active, sum.1 + change.begun);
        }
        let endpoint = Endpoint { protocol: Protocol::Tcp, address: flow(0, number).reply_source };
        self.0.get(&endpoint).copied().unwrap_or_default()
    }
}

fn dump(tracker: &mut Tracker, flows: &[(Flow, State)], how: Dump) {
    tracker.begin_dump();
    flows.iter().for_each(|(flow, state)| tracker.dumped(flow, *state));
    tracker.end_dump(how);
}

#[test]
fn a_connection_is_active_from_its_begin_to_its_close() {
    let (mut tracker, mut sums) = (Tracker::default(), Sums::default());
    tracker.observe(&flow(1, 1), State::Began);
    tracker.observe(&flow(2, 1), State::Began);
    tracker.observe(&flow(3, 2), State::Began);
    assert_eq!((sums.of(&mut tracker, 1), sums.of(&mut tracker, 2)), ((2, 2), (1, 1)));
    tracker.observe(&flow(1, 1), State::Closed);
    assert_eq!(sums.of(&mut tracker, 1), (1, 2));
    // Closed again (reset after the close), and gone: nothing is counted twice.
    tracker.observe(&flow(1, 1), State::Closed);
    tracker.observe(&flow(1, 1), State::Gone);
    assert_eq!(sums.of(&mut tracker, 1), (1, 2));
    // One that never was closed, such as UDP, ends with its entry.
    tracker.observe(&flow(2, 1), State::Gone);
    tracker.observe(&flow(3, 2), State::Gone);
    assert_eq!((sums.of(&mut tracker, 1), sums.of(&mut tracker, 2)), ((0, 2), (0, 1)));
    assert!(tracker.is_empty() && tracker.endpoints.is_empty());
}

#[test]
fn what_was_there_before_is_active_but_did_not_begin() {
    let (mut tracker, mut sums) = (Tracker::default(), Sums::default());
    dump(&mut tracker, &[(flow(1, 1), State::Open), (flow(2, 1), State::Closed)], Dump::Complete);
    assert_eq!(sums.of(&mut tracker, 1), (1, 0));
    // It began between the subscription and the dump, which showed it before its event was read.
    tracker.observe(&flow(1, 1), State::Began);
    assert_eq!(sums.of(&mut tracker, 1), (1, 1));
    tracker.observe(&flow(2, 1), State::Began);
    assert_eq!(sums.of(&mut tracker, 1), (1, 2), "its close was in the dump, and does not reopen");
}

#[test]
fn a_dump_makes_up_for_lost_events() {
    let (mut tracker, mut sums) = (Tracker::default(), Sums::default());
    dump(&mut tracker, &[], Dump::Complete);
    (1..=4).for_each(|id| tracker.observe(&flow(id, 1), State::Began));
    // Lost: 1 closed, 2 gone, 5 began, 6 began and closed.
    let now = [(1, State::Closed), (3, State::Open), (4, State::Open), (5, State::Open), (6, State::Closed)];
    let now = now.map(|(id, state)| (flow(id, 1), state));
    dump(&mut tracker, &now[..3], Dump::Partial);
    assert_eq!(sums.of(&mut tracker, 1), (3, 4), "a partial dump ends nothing");
    dump(&mut tracker, &[&now[..], &now[..]].concat(), Dump::Complete);
    assert_eq!(sums.of(&mut tracker, 1), (3, 6));
    assert_eq!(tracker.len(), 5);
    dump(&mut tracker, &[], Dump::Complete);
    assert_eq!(sums.of(&mut tracker, 1), (0, 6));
    assert!(tracker.is_empty() && tracker.endpoints.is_empty());
}

#[test]
fn flows_that_share_a_number_are_told_apart() {
    let (mut tracker, mut sums) = (Tracker::default(), Sums::default());
    let mut other = flow(1, 1);
    other.source.set_port(4001);
    tracker.observe(&flow(1, 1), State::Began);
    tracker.observe(&other, State::Began);
    tracker.observe(&other, State::Gone);
    assert_eq!(sums.of(&mut tracker, 1), (1, 2));
}
