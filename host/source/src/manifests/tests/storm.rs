//! What happens to files while they are watched: F46 of the fault list.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, channel};

use super::*;
use crate::{Manifests, Selection, watch};

/// Longest an event may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than files must be quiet before they are read.
const QUIET: Duration = Duration::from_millis(400);

/// A watched path and what it says.
struct Watched(Receiver<Event>);

impl Watched {
    fn new(path: impl AsRef<Path>) -> Self {
        let (sender, receiver) = channel(64);
        watch(vec![path.as_ref().to_owned()], Selection::default(), sender, tokio::sync::mpsc::channel(1).0)
            .expect("a thread");
        Self(receiver)
    }

    /// The next event.
    fn next(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.try_recv() {
                Ok(event) => return brief(&event),
                Err(TryRecvError::Empty) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
                Err(error) => panic!("no event: {error}"),
            }
        }
    }

    /// Nothing is said for a while.
    fn silence(&mut self) {
        sleep(QUIET);
        match self.0.try_recv() {
            Err(TryRecvError::Empty) => {}
            other => panic!("silence was expected: {other:?}"),
        }
    }
}

#[test]
fn complete_list_first_then_only_changes() {
    let directory = Directory::new();
    directory.write("web.yaml", &format!("{}---\n{}", service("web", 80), slice("web-1", "web", "10.1.0.1")));
    directory.write("other.yaml", &service("other", 80));
    let mut watched = Watched::new(&directory);
    assert_eq!(watched.next(), "all [other:80 web:80] [web-1]");

    directory.write("web.yaml", &format!("{}---\n{}", service("web", 80), slice("web-1", "web", "10.1.0.2")));
    assert_eq!(watched.next(), "slice web-1 10.1.0.2");
    directory
        .write("web.yaml", &format!("# a comment\n{}---\n{}", service("web", 80), slice("web-1", "web", "10.1.0.2")));
    watched.silence();
    fs::remove_file(directory.path("web.yaml")).expect("removed");
    assert_eq!([watched.next(), watched.next()], ["slice gone web-1", "service gone web"]);
    watched.silence();
}

#[test]
fn atomic_rename() {
    let directory = Directory::new();
    directory.write("web.yaml", &service("web", 80));
    let mut watched = Watched::new(&directory);
    assert_eq!(watched.next(), "all [web:80] []");
    for port in 81..84 {
        directory.write(".web.yaml.tmp", &service("web", port));
        fs::rename(directory.path(".web.yaml.tmp"), directory.path("web.yaml")).expect("renamed");
        assert_eq!(watched.next(), format!("service web:{port}"));
    }
    // The object moves to another file: nothing changed.
    fs::rename(directory.path("web.yaml"), directory.path("moved.yaml")).expect("renamed");
    watched.silence();
}

/// How the kubelet updates a mounted ConfigMap: a new directory, and a rename over the symlink `..data`.
#[test]
fn data_symlink_swap() {
    let directory = Directory::new();
    let publish = |version: u16, port: u16| {
        let name = format!("..2026_11_{version:02}");
        fs::create_dir(directory.path(&name)).expect("made");
        directory.write(&format!("{name}/web.yaml"), &service("web", port));
        symlink(&name, directory.path("..data_tmp")).expect("linked");
        fs::rename(directory.path("..data_tmp"), directory.path("..data")).expect("renamed");
    };
    publish(1, 80);
    symlink("..data/web.yaml", directory.path("web.yaml")).expect("linked");
    let mut watched = Watched::new(&directory);
    assert_eq!(watched.next(), "all [web:80] []");
    publish(2, 81);
    fs::remove_dir_all(directory.path("..2026_11_01")).expect("removed");
    assert_eq!(watched.next(), "service web:81");
    watched.silence();
}

#[test]
fn a_half_written_file_loses_nothing() {
    let directory = Directory::new();
    let text = format!("{}---\n{}---\n{}", service("a", 1), service("b", 2), slice("b-1", "b", "10.1.0.1"));
    directory.write("all.yaml", &text);
    let mut watched = Watched::new(&directory);
    assert_eq!(watched.next(), "all [a:1 b:2] [b-1]");

    // Emptied, then in two pieces with a pause: the middle of the second document is no valid Service.
    let new = text.replace("port: 2", "port: 22");
    let cut = new.find("port: 22").expect("there");
    let mut file = File::create(directory.path("all.yaml")).expect("emptied");
    watched.silence();
    file.write_all(&new.as_bytes()[..cut]).expect("written");
    file.flush().expect("written");
    watched.silence();
    file.write_all(&new.as_bytes()[cut..]).expect("written");
    drop(file);
    assert_eq!(watched.next(), "service b:22");
    watched.silence();
}

#[test]
fn a_file_that_goes_bad_keeps_its_last_good_version() {
    let directory = Directory::new();
    directory.write("all.yaml", &format!("{}---\n{}", service("a", 1), service("b", 2)));
    let mut watched = Watched::new(&directory);
    assert_eq!(watched.next(), "all [a:1 b:2] []");

    // What can be read counts; what cannot, or is missing from a bad file, stays.
    directory.write("all.yaml", &format!("{}---\n{{", service("a", 11)));
    assert_eq!(watched.next(), "service a:11");
    directory.write("all.yaml", "}");
    watched.silence();
    directory.write("all.yaml", &service("a", 12));
    assert_eq!([watched.next(), watched.next()], ["service a:12", "service gone b"]);

    directory.write("all.yaml", "}");
    watched.silence();
    fs::remove_file(directory.path("all.yaml")).expect("removed");
    assert_eq!(watched.next(), "service gone a");
}

#[test]
fn problems_are_told_once() {
    let directory = Directory::new();
    directory.write("a.yaml", &service("a", 0));
    let mut manifests = Manifests::new(vec![directory.0.clone()], Selection::default());
    assert_eq!(manifests.refresh().problems.len(), 1);
    // Fresh files are read again, and say the same again.
    for _ in 0..3 {
        assert_eq!(manifests.refresh(), crate::manifests::Changes::default());
    }
    directory.write("a.yaml", &service("a", 1));
    let changes = manifests.refresh();
    assert_eq!((changes.problems.len(), changes.events.len()), (0, 1));
    directory.write("a.yaml", &service("a", 0));
    let changes = manifests.refresh();
    assert_eq!((changes.problems.len(), changes.events.len()), (1, 0), "told anew, and the last good version stays");
}

/// Two changes within one tick of the clock leave the same time stamp and length.
#[test]
fn changes_faster_than_time_stamps_are_seen() {
    let directory = Directory::new();
    let mut manifests = Manifests::new(vec![directory.0.clone()], Selection::default());
    manifests.refresh();
    for round in 0..500 {
        let port = 1000 + round;
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(directory.path("a.yaml")).expect("opened");
        file.write_all(service("a", port).as_bytes()).expect("written");
        let events: Vec<String> = manifests.refresh().events.iter().map(brief).collect();
        assert_eq!(events, [format!("service a:{port}")]);
    }
}

#[test]
fn a_directory_may_come_late_go_away_and_come_back() {
    let directory = Directory::new();
    let path = directory.path("deep/manifests");
    let mut watched = Watched::new(&path);
    watched.silence();
    fs::create_dir_all(&path).expect("made");
    assert_eq!(watched.next(), "all [] []");
    directory.write("deep/manifests/a.yaml", &service("a", 1));
    assert_eq!(watched.next(), "service a:1");

    // Moved away as a whole: not the same as deleting the files.
    fs::rename(&path, directory.path("away")).expect("renamed");
    watched.silence();
    fs::create_dir(&path).expect("made");
    assert_eq!(watched.next(), "service gone a");
    directory.write("deep/manifests/b.yaml", &service("b", 1));
    assert_eq!(watched.next(), "service b:1");

    // A directory below, with a file from the start.
    fs::create_dir(directory.path("new")).expect("made");
    directory.write("new/c.yaml", &service("c", 1));
    fs::rename(directory.path("new"), path.join("new")).expect("renamed");
    assert_eq!(watched.next(), "service c:1");
    directory.write("deep/manifests/new/c.yaml", &service("c", 2));
    assert_eq!(watched.next(), "service c:2");
    fs::remove_dir_all(path.join("new")).expect("removed");
    assert_eq!(watched.next(), "service gone c");
}

#[test]
fn a_named_file_is_followed_through_removal() {
    let directory = Directory::new();
    directory.write("a.yaml", &service("a", 1));
    let mut watched = Watched::new(directory.path("a.yaml"));
    assert_eq!(watched.next(), "all [a:1] []");
    fs::remove_file(directory.path("a.yaml")).expect("removed");
    assert_eq!(watched.next(), "service gone a");
    directory.write("a.yaml", &service("a", 2));
    assert_eq!(watched.next(), "service a:2");
}

#[test]
fn the_loser_of_a_name_takes_over() {
    let directory = Directory::new();
    directory.write("a.yaml", &service("web", 1));
    directory.write("b.yaml", &service("web", 2));
    let mut watched = Watched::new(&directory);
    assert_eq!(watched.next(), "all [web:1] []");
    directory.write("b.yaml", &service("web", 3));
    watched.silence();
    fs::remove_file(directory.path("a.yaml")).expect("removed");
    assert_eq!(watched.next(), "service web:3");
}

/// After any amount of change the sum of all events is what a fresh look finds.
#[test]
fn events_add_up_in_a_storm() {
    let directory = Directory::new();
    let mut watched = Watched::new(&directory);
    watched.next();
    let mut seen: std::collections::BTreeMap<String, Event> = std::collections::BTreeMap::new();
    for round in 0..400_u16 {
        let name = format!("f{}.yaml", round % 7);
        match round % 5 {
            0 => directory.write(&name, "broken: {"),
            1 => drop(fs::remove_file(directory.path(&name))),
            2 => {
                directory.write(".tmp", &service(&format!("s{}", round % 7), round + 1));
                fs::rename(directory.path(".tmp"), directory.path(&name)).expect("renamed");
            }
            _ => directory
                .write(&name, &slice(&format!("e{}", round % 3), "web", &format!("10.1.0.{}", round % 200 + 1))),
        }
        if round % 50 == 0 {
            sleep(Duration::from_millis(60));
        }
    }
    // Every file ends up whole, so that the end does not depend on what was seen on the way.
    for number in 0..7 {
        directory.write(&format!("f{number}.yaml"), &service(&format!("s{number}"), 7000 + number));
    }
    let expected: Vec<String> = (0..7).map(|number| format!("service s{number}:{}", 7000 + number)).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        while let Ok(event) = watched.0.try_recv() {
            match &event {
                Event::Service(spec) => drop(seen.insert(format!("service {}", spec.key), event)),
                Event::Slice(spec) => drop(seen.insert(format!("slice {}", spec.key), event)),
                Event::ServiceGone(key) => {
                    assert!(seen.remove(&format!("service {key}")).is_some(), "{key} was never there");
                }
                Event::SliceGone(key) => {
                    assert!(seen.remove(&format!("slice {key}")).is_some(), "{key} was never there");
                }
                Event::Node(_) | Event::ServiceCidrs(_) => panic!("there is none"),
                Event::Replace { .. } | Event::Listed => panic!("the complete list comes once"),
            }
        }
        let sum: Vec<String> = seen.values().map(brief).collect();
        if sum == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{sum:?}");
        sleep(Duration::from_millis(20));
    }
}

/// Looks that meet a directory in the middle of being moved away, or back.
#[test]
fn a_directory_that_keeps_moving_loses_nothing() {
    let directory = Directory::new();
    let (here, away) = (directory.path("here"), directory.path("away"));
    fs::create_dir(&here).expect("a directory");
    for number in 0..20 {
        directory.write(&format!("here/{number}.yaml"), &service(&format!("service-{number}"), 80));
    }
    let mut manifests = Manifests::new(vec![here.clone()], Selection::default());
    assert_eq!(manifests.refresh().events.len(), 1, "a complete list");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let mut moves = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&here, &away).expect("moved away");
                std::thread::yield_now();
                fs::rename(&away, &here).expect("moved back");
                // Half of the time it rests for about as long as a look takes.
                sleep(Duration::from_micros(u64::from(moves % 2) * 200));
                moves += 1;
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            let events = manifests.refresh().events;
            if !events.is_empty() {
                stop.store(true, Ordering::Relaxed);
                panic!("no file changed, but {:?}", events.iter().map(brief).collect::<Vec<_>>());
            }
        }
        stop.store(true, Ordering::Relaxed);
        mover.join().expect("it moved until the end");
    });
    fs::remove_file(here.join("7.yaml")).expect("removed");
    assert_eq!(manifests.refresh().events.iter().map(brief).collect::<Vec<_>>(), ["service gone service-7"]);
}
