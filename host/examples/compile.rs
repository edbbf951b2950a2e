//! What loading one component costs this process, in time and memory:
//! `cargo run --release --package weir --example compile -- FILE here|aside [CACHE]`.
//! `aside` wants the program `weir` beside the folder of this one.
#![allow(clippy::expect_used, reason = "an example")]

use std::path::PathBuf;
use std::time::Instant;

use weir::policies::compiler::{Aside, Compiler};
use weir_policy::{Artifact, CodeCache, Engine, Limits};

/// Kilobytes of that kind, such as `VmRSS`, of this process.
fn memory(kind: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect("a line");
    line.trim_start_matches(':').trim().to_owned()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("a file");
    let program = std::env::current_exe().expect("a path");
    let beside = || program.ancestors().nth(2).expect("a folder").join("weir");
    let aside = match arguments.next().as_deref() {
        Some("aside") => Aside::Program(beside()),
        _ => Aside::Never,
    };
    let cache = arguments.next().map(|path| CodeCache::open(&PathBuf::from(path)).expect("a directory"));
    let component = std::fs::read(file).expect("a component");
    let engine = Engine::with_cache(Limits::default(), cache.as_ref()).expect("an engine");
    let compiler = Compiler::new(engine, cache, aside);
    let before = memory("VmRSS");
    let start = Instant::now();
    let artifact = Artifact { name: "mine".to_owned(), component, ..Artifact::default() };
    let policy = compiler.load(artifact, &[]).expect("a policy");
    let took = start.elapsed();
    println!(
        "{} in {took:?}; memory before {before}, after {}, peak {}",
        policy.name(),
        memory("VmRSS"),
        memory("VmHWM")
    );
}
