//! Sums by endpoint, and rates.

use std::time::Duration;

use indexmap::IndexMap;
use weir_model::Load;

use super::{Changes, Endpoint};

/// An endpoint without open connections is forgotten so long after its last one began, its sum of connections
/// included. One that is gone gets none any more.
pub const IDLE: Duration = Duration::from_secs(600);

/// The rate is that of the last half minute, in slots of this length: short enough to follow a change of load, long
/// enough for one connection every few seconds to be a rate and not a flicker.
const SLOT: Duration = Duration::from_secs(5);
const SLOTS: usize = 6;

/// The load of every endpoint that has any. Times count from any fixed moment.
#[derive(Debug, Default)]
pub struct Tallies {
    by_endpoint: IndexMap<Endpoint, Tally>,
    /// When it was last looked for endpoints to forget.
    swept: Duration,
}

#[derive(Debug, Default)]
struct Tally {
    active: u32,
    begun: u32,
    /// Connections begun in a slot of time, by the slot's number modulo [`SLOTS`].
    slots: [u32; SLOTS],
    /// The last slot with any.
    newest: u64,
    /// When the last one began, or closed.
    last: Duration,
}

impl Tallies {
    /// Adds what happened until `now`, and forgets endpoints that have been idle for [`IDLE`].
    pub fn apply(&mut self, changes: &Changes, now: Duration) {
        for (endpoint, change) in changes {
            let tally = self.by_endpoint.entry(*endpoint).or_default();
            tally.active = tally.active.saturating_add_signed(change.active);
            tally.begun = tally.begun.saturating_add(change.begun);
            tally.last = now;
            if change.begun > 0 {
                let slot = number(now);
                for stale in tally.newest + 1..=slot.min(tally.newest + SLOTS as u64) {
                    tally.slots[index(stale)] = 0;
                }
                tally.newest = tally.newest.max(slot);
                tally.slots[index(tally.newest)] = tally.slots[index(tally.newest)].saturating_add(change.begun);
            }
        }
        if now.saturating_sub(self.swept) >= IDLE / 10 {
            self.swept = now;
            self.by_endpoint.retain(|_, tally| tally.active > 0 || now.saturating_sub(tally.last) < IDLE);
        }
    }

    /// The load of `endpoint` at `now`.
    #[must_use]
    pub fn load(&self, endpoint: &Endpoint, now: Duration) -> Load {
        let Some(tally) = self.by_endpoint.get(endpoint) else { return Load::default() };
        Load { active: tally.active, begun: tally.begun, per_minute: tally.per_minute(now) }
    }

    /// Endpoints with a load.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_endpoint.len()
    }

    /// Whether nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_endpoint.is_empty()
    }
}

impl Tally {
    /// New connections a minute, from the present slot and the five before it. It reaches the full rate half a minute
    /// after a load began.
    fn per_minute(&self, now: Duration) -> u32 {
        let present = number(now).max(self.newest);
        let oldest = present.saturating_sub(SLOTS as u64 - 1);
        // Numbers from before the last one with any are kept; those after it had none.
        let kept = self.newest.saturating_sub(SLOTS as u64 - 1)..=self.newest;
        let begun: u64 = kept.filter(|slot| *slot >= oldest).map(|slot| u64::from(self.slots[index(slot)])).sum();
        let covered = SLOT.as_millis() * (SLOTS as u128 - 1) + now.as_millis() % SLOT.as_millis();
        u32::try_from(u128::from(begun) * 60_000 / covered).unwrap_or(u32::MAX)
    }
}

fn number(time: Duration) -> u64 {
    time.as_secs() / SLOT.as_secs()
}

fn index(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).expect("less than the number of slots")
}

#[cfg(test)]
mod tests {
    use weir_model::Protocol;

    use super::*;
    use crate::load::Change;

    const MINUTE: u64 = 60;

    fn endpoint(number: u8) -> Endpoint {
        Endpoint { protocol: Protocol::Tcp, address: ([10, 244, 0, number], 8080).into() }
    }

    fn change(number: u8, active: i32, begun: u32) -> Changes {
        Changes::from([(endpoint(number), Change { active, begun })])
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_steady_rate_is_told_within_half_a_minute_and_forgotten_as_fast() {
        let mut tallies = Tallies::default();
        for second in 0..2 * MINUTE {
            tallies.apply(&change(1, 0, 7), s(second));
            let told = tallies.load(&endpoint(1), s(second) + Duration::from_millis(999)).per_minute;
            if second >= 30 {
                assert!((419..=430).contains(&told), "{told} after {second} s");
            } else {
                assert!(told <= 430, "{told} after {second} s");
            }
        }
        assert_eq!(tallies.load(&endpoint(1), s(2 * MINUTE + 30)).per_minute, 0);
        assert_eq!(tallies.load(&endpoint(1), s(2 * MINUTE + 30)).begun, 840);
    }

    #[test]
    fn a_pause_leaves_no_old_numbers_in_the_ring() {
        for pause in 0..100 {
            let mut tallies = Tallies::default();
            tallies.apply(&change(1, 0, 1000), s(12));
            tallies.apply(&change(1, 0, 1), s(12 + pause));
            let told = tallies.load(&endpoint(1), s(12 + pause)).per_minute;
            // The slot of second 12 is in the window until second 40.
            assert_eq!(told > 1000, 12 + pause < 40, "{told} after a pause of {pause} s");
            assert!(told > 0, "{pause}");
        }
    }

    #[test]
    fn equal_input_gives_equal_numbers() {
        let run = || {
            let mut tallies = Tallies::default();
            for second in 0..50 {
                tallies.apply(&change(1, i32::from(second % 3 == 0), 3), s(second));
            }
            tallies.load(&endpoint(1), s(51))
        };
        assert_eq!(run(), run());
        assert_eq!((run().active, run().begun), (17, 150));
    }

    #[test]
    fn only_endpoints_without_connections_are_forgotten() {
        let mut tallies = Tallies::default();
        tallies.apply(&change(1, 1, 1), s(0));
        tallies.apply(&change(2, 0, 1), s(0));
        tallies.apply(&Changes::new(), IDLE - s(1));
        assert_eq!(tallies.len(), 2);
        tallies.apply(&Changes::new(), IDLE + IDLE / 10);
        assert_eq!(tallies.len(), 1);
        assert_eq!(tallies.load(&endpoint(1), IDLE * 2).active, 1);
        assert_eq!(tallies.load(&endpoint(2), IDLE * 2), Load::default());
    }
}
