//! What the tests of the whole share: the format of conformance cases, and ways to run them.

pub mod cases;
pub mod conformance;
pub mod kernel_cases;
pub mod lab;
pub mod policies;
pub mod report;
pub mod requests;
