//! Guests that do wrong, for tests: real components, compiled from guest-policies/bad. What each one does
//! stands in its own source.
#![forbid(unsafe_code)]

/// Looks up what it does not ask for, and tells what it got as its reason.
pub const BLIND: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-blind.wasm"));
/// Traps or never ends when it checks the settings `"trap"` or `"spin"`; else it balances well.
pub const CHECK_FAILS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-check-fails.wasm"));
/// Says that it cannot.
pub const DECLARED_ERROR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-declared-error.wasm"));
/// Never says what it is.
pub const DESCRIBE_SPIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-describe-spin.wasm"));
/// Traps when it is asked what it is.
pub const DESCRIBE_TRAP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-describe-trap.wasm"));
/// Sees ages, and lets endpoints that have been ready for 10 to 60 seconds serve alone.
pub const FICKLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-fickle.wasm"));
/// Answers nonsense, of the kind its settings name; without settings it answers well. Plays both roles.
pub const GARBAGE_ANSWER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-garbage-answer.wasm"));
/// Takes all the handles it can get.
pub const HANDLE_HOG: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-handle-hog.wasm"));
/// Wants a host function that Weir does not have.
pub const HOST_IMPORT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-host-import.wasm"));
/// Takes all the memory it can get.
pub const MEMORY_HOG: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-memory-hog.wasm"));
/// Speaks version 0.2 of the contract.
pub const NEXT_VERSION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-next-version.wasm"));
/// Never returns.
pub const SPIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-spin.wasm"));
/// Calls itself without end.
pub const STACK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-stack.wasm"));
/// Traps on rings with the settings `trap`; all others it balances well, by round robin.
pub const TRAP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-trap.wasm"));
/// Wants a clock.
pub const WASI_IMPORT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-wasi-import.wasm"));
/// Tries everything WASI has, and tells what came of it.
pub const WASI_PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-wasi-probe.wasm"));
/// Exports something that is no policy.
pub const WRONG_WORLD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bad-wrong-world.wasm"));
