//! What keeps a policy from doing harm by what it uses up, and by what it says.
#![allow(clippy::expect_used, reason = "tests panic")]

mod bad_guests;
mod budget;
mod damaged;
mod limits;
mod quarantine;
mod reload;
mod support;
mod wasi;
