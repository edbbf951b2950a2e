//! Work in pieces, on several threads where there is more than one.

use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Has `work` done on each of `pieces`, and returns what came of them, in their order.
///
/// A single piece is worked on here, and costs no more than a call. Where there are more, other threads help: as many as
/// the machine has processors for, and no more than `most` with this one. They end before this returns.
pub(super) fn on_threads<J: Send, R: Send>(
    most: usize,
    pieces: impl Iterator<Item = J> + Send,
    work: impl Fn(J) -> R + Sync,
) -> Vec<R> {
    let mut pieces = pieces.enumerate().peekable();
    let first = pieces.next();
    let more = pieces.peek().is_some();
    let queue = Mutex::new(pieces);
    let rest = || {
        let next = || lock(&queue).next();
        std::iter::from_fn(next).map(|(at, piece)| (at, work(piece))).collect::<Vec<(usize, R)>>()
    };
    let mut done = thread::scope(|scope| {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let others = if more && most > 1 { processors().min(most) - 1 } else { 0 };
        let helper = |_| thread::Builder::new().name("decider".to_owned()).spawn_scoped(scope, rest);
        // Where no thread is to be had, there is one fewer.
        let helpers: Vec<_> = (0..others).filter_map(|other| helper(other).ok()).collect();
        let mut done: Vec<(usize, R)> = first.into_iter().map(|(at, piece)| (at, work(piece))).collect();
        done.append(&mut rest());
        for helper in helpers {
            done.append(&mut helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A panic elsewhere leaves no half a change behind these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::panic::catch_unwind;
    use std::time::Duration;

    use super::*;

    /// What comes of so many pieces, and the threads that worked on them.
    fn run(most: usize, pieces: u32) -> (Vec<u32>, BTreeSet<String>) {
        let work = |piece: u32| {
            // Long enough for a thread to start.
            thread::sleep(Duration::from_millis(u64::from(5 + piece % 3)));
            (piece * 10, format!("{:?}", thread::current().id()))
        };
        on_threads(most, 0..pieces, work).into_iter().unzip()
    }

    #[test]
    fn every_piece_is_worked_on_once_and_results_keep_their_order() {
        for pieces in [0, 1, 2, 3, 17] {
            let expected: Vec<u32> = (0..pieces).map(|piece| piece * 10).collect();
            assert_eq!(run(3, pieces).0, expected);
        }
    }

    #[test]
    fn one_piece_stays_here_and_many_are_shared() {
        let here = BTreeSet::from([format!("{:?}", thread::current().id())]);
        assert_eq!((run(3, 1).1, run(1, 5).1), (here.clone(), here.clone()));
        let processors = thread::available_parallelism().map_or(1, usize::from).min(3);
        let threads = run(3, 30).1;
        assert!(threads.is_superset(&here) && threads.len() == processors, "{} threads", threads.len());
    }

    #[test]
    fn a_panic_in_a_piece_is_not_lost() {
        assert!(catch_unwind(|| on_threads(3, 0..9, |piece: u32| assert!(piece != 4, "piece 4"))).is_err());
    }
}
