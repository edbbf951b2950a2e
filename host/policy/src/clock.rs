//! The clock behind deadlines: it ticks while policies run, and sleeps while none does.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Time between two ticks.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Owns the thread that ticks; the thread ends with it.
#[derive(Debug)]
pub(crate) struct Clock(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    ended: bool,
}

impl Shared {
    /// The state; a panic elsewhere cannot leave it half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    /// A clock that calls `tick` once each [`TICK`] while anything runs.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn new(tick: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let clock = Self(shared.clone());
        thread::Builder::new().name("policy-clock".to_owned()).spawn(move || {
            loop {
                let idle = |state: &mut State| state.running == 0 && !state.ended;
                let state = shared.changed.wait_while(shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
                if state.ended {
                    return;
                }
                drop(state);
                thread::sleep(TICK);
                tick();
            }
        })?;
        Ok(clock)
    }

    /// Lets the clock tick for as long as the result lives.
    pub(crate) fn run(&self) -> Running {
        self.0.lock().running += 1;
        self.0.changed.notify_one();
        Running(self.0.clone())
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_one();
    }
}

/// Something that runs against the clock.
#[derive(Debug)]
pub(crate) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    fn wait_until(done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(30), "waited too long");
            thread::sleep(TICK / 4);
        }
    }

    #[test]
    fn it_ticks_only_while_something_runs_and_ends_with_its_owner() {
        let ticks = Arc::new(AtomicU32::new(0));
        let seen = ticks.clone();
        let tick = move || {
            seen.fetch_add(1, Ordering::Relaxed);
        };
        let clock = Clock::new(tick).expect("a thread");
        let now = || ticks.load(Ordering::Relaxed);
        thread::sleep(TICK * 5);
        assert_eq!(now(), 0, "nothing has run yet");
        let (one, other) = (clock.run(), clock.run());
        drop(one);
        wait_until(|| now() >= 3);
        drop(other);
        let stopped = now();
        thread::sleep(TICK * 20);
        assert!(now() <= stopped + 1, "{} ticks after the last call", now() - stopped);
        drop(clock);
        wait_until(|| Arc::strong_count(&ticks) == 1);
    }
}
