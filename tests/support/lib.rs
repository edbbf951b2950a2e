//! What the tests of the whole share: the format of conformance cases, ways to run them, and a Kubernetes API server.

pub mod api_server;
pub mod cases;
pub mod conformance;
pub mod kernel_cases;
pub mod lab;
pub mod policies;
pub mod report;
pub mod requests;
pub mod trials;
