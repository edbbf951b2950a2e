//! What keeps a policy from doing harm by what it uses up, and by what it says.
#![allow(clippy::expect_used, reason = "tests panic")]

mod budget;
mod quarantine;
mod support;
