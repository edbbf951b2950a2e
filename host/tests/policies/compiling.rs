use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use weir::policies::Delivery;
use weir::policies::compiler::{Aside, Compiler, LARGE};
use weir_model::IndexFunction::{Random, RoundRobin};
use weir_policy::{Artifact, CacheError, CodeCache, Engine, Limits};

use crate::daemon::{Daemon, artifact, built_in, stamped};

/// A directory that vanishes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-code-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    /// Every file of code in it.
    fn code(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.join("code")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("readable") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_none() {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn program() -> Aside {
    Aside::Program(env!("CARGO_BIN_EXE_weir").into())
}

fn mine(component: Vec<u8>) -> Artifact {
    Artifact { name: "mine".to_owned(), component, ..Artifact::default() }
}

/// One with more bytes than are compiled in this process: nonsense in custom sections makes it large.
fn large(component: &[u8]) -> Vec<u8> {
    let data = vec![7; LARGE];
    let size = data.len() + 2;
    // LEB128 of a number below 2^28.
    let size: Vec<u8> = (0..4).map(|at| ((size >> (7 * at)) & 0x7f) as u8 | if at < 3 { 0x80 } else { 0 }).collect();
    [component, &[0], &size, &[1, b'x'], &data].concat()
}

fn opened(directory: &Directory) -> (CodeCache, Compiler) {
    let cache = CodeCache::open(&directory.0).expect("a directory");
    let engine = Engine::with_cache(Limits::default(), Some(&cache)).expect("an engine");
    (cache.clone(), Compiler::new(engine, Some(cache), program()))
}

#[test]
fn what_was_compiled_once_is_found_after_a_restart() {
    let directory = Directory::new("restart");
    let component = built_in("weighted");
    let (cache, compiler) = opened(&directory);
    compiler.load(mine(component.clone()), &[]).expect("a policy");
    assert_eq!((cache.hits(), cache.misses(), directory.code().len()), (0, 1, 1));
    let mode = fs::metadata(&directory.0).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "made for this user alone");
    let (cache, compiler) = opened(&directory);
    compiler.load(mine(component), &[]).expect("a policy");
    assert_eq!((cache.hits(), cache.misses()), (1, 0));
}

#[test]
fn code_that_is_not_what_was_written_is_never_run() {
    let directory = Directory::new("damage");
    let component = built_in("weighted");
    let (_, compiler) = opened(&directory);
    compiler.load(mine(component.clone()), &[]).expect("a policy");
    let file = directory.code().remove(0);
    let whole = fs::read(&file).expect("readable");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], b""] {
        fs::write(&file, damaged).expect("written");
        let (cache, compiler) = opened(&directory);
        assert!(directory.code().is_empty(), "it is removed before anything is loaded");
        compiler.load(mine(component.clone()), &[]).expect("a policy");
        assert_eq!((cache.hits(), cache.misses()), (0, 1));
    }
    // Checksums that are gone, or nonsense, vouch for nothing.
    for checksums in [&b"\xff\xfe"[..], b"", b"no such thing\n"] {
        fs::write(directory.0.join("checksums"), checksums).expect("written");
        let (cache, compiler) = opened(&directory);
        compiler.load(mine(component.clone()), &[]).expect("a policy");
        assert_eq!((cache.hits(), cache.misses()), (0, 1));
    }
    // A file that a process left half-written must not keep others from being written.
    fs::write(file.with_extension("wip-atomic-write-mod"), b"half").expect("written");
    fs::remove_file(&file).expect("removed");
    let (cache, compiler) = opened(&directory);
    compiler.load(mine(component), &[]).expect("a policy");
    assert_eq!((cache.misses(), directory.code().len()), (1, 1));
}

#[test]
fn a_directory_others_can_write_to_is_refused() {
    let directory = Directory::new("exposed");
    for mode in [0o720, 0o702, 0o777] {
        let _ = fs::remove_dir_all(&directory.0);
        fs::create_dir(&directory.0).expect("made");
        fs::set_permissions(&directory.0, fs::Permissions::from_mode(mode)).expect("set");
        let refused = CodeCache::open(&directory.0).expect_err("exposed");
        assert!(matches!(&refused, CacheError::Exposed { .. }), "{mode:o}: {refused}");
        assert!(refused.to_string().contains("machine code"), "{refused}");
    }
    fs::remove_dir(&directory.0).expect("removed");
    fs::write(&directory.0, b"a file").expect("written");
    assert!(matches!(CodeCache::open(&directory.0), Err(CacheError::Exposed { .. })));
    fs::remove_file(&directory.0).expect("removed");
    assert!(matches!(CodeCache::open(&directory.0.join("no/such")), Err(CacheError::Access { .. })));
}

#[test]
fn a_large_component_is_compiled_in_a_process_of_its_own() {
    let directory = Directory::new("large");
    let component = large(&built_in("round-robin"));
    let (cache, compiler) = opened(&directory);
    compiler.load(mine(component.clone()), &[]).expect("a policy");
    assert_eq!((cache.hits(), cache.misses()), (1, 0), "somebody else compiled it");
    let (cache, compiler) = opened(&directory);
    compiler.load(mine(component), &[]).expect("a policy");
    assert_eq!((cache.hits(), cache.misses()), (1, 0));
    // What it says of one that does not compile is what is told.
    let mut broken = large(&built_in("round-robin"));
    broken[40] ^= 0xff;
    let bad = compiler.load(mine(broken), &[]).expect_err("broken");
    assert!(bad.reason == "compile" && bad.why.starts_with("the component does not compile: "), "{bad:?}");
}

/// Without a directory for compiled policies, one of its own serves, and nothing is left behind.
#[test]
fn without_a_directory_large_components_are_compiled_aside_all_the_same() {
    let daemon = Daemon::start_with(1, true, program());
    daemon.deliver(Delivery::Listed);
    daemon.wait_for(Random);
    daemon.deliver(artifact("mine", large(&built_in("round-robin"))));
    daemon.wait_for(RoundRobin);
    daemon.deliver(artifact("mine", stamped(&large(&built_in("random")), 1)));
    daemon.wait_for(Random);
}

#[test]
fn a_private_directory_is_gone_when_the_code_is_loaded() {
    let ours = || {
        let entries = fs::read_dir(std::env::temp_dir()).expect("readable").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("weir-code-") && !name.starts_with("weir-code-test")).collect::<Vec<_>>()
    };
    let before = ours();
    let engine = Engine::new(Limits::default()).expect("an engine");
    let compiler = Compiler::new(engine, None, program());
    compiler.load(mine(large(&built_in("round-robin"))), &[]).expect("a policy");
    let start = std::time::Instant::now();
    // Other tests have such directories for a moment, too.
    while ours().iter().any(|name| !before.contains(name)) {
        assert!(start.elapsed() < crate::daemon::PATIENCE, "{:?}", ours());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn one_that_cannot_be_compiled_within_bounds_is_refused() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let compiler = Compiler::new(engine, None, program()).within(16 << 20, 60);
    let bad = compiler.load(mine(large(&built_in("round-robin"))), &[]).expect_err("no room");
    assert_eq!(bad.reason, "compile-limit", "{bad:?}");
    assert!(bad.why.contains("16 MiB of address space"), "{bad:?}");
}

/// A program that cannot be started, or does not know what it is asked, is done without.
#[test]
fn without_that_process_it_is_compiled_here() {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let compiler = Compiler::new(engine, None, Aside::Program("/no/such/program".into()));
    compiler.load(mine(large(&built_in("round-robin"))), &[]).expect("a policy");
}
