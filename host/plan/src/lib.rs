//! What each frontend of this node does with each class of client.
//!
//! In come the model's ports with the decisions of the policies, and the facts of this node; out comes one
//! [`PortPlan`] a port. Pure: no I/O, no clock, and two equal inputs give equal plans.
#![forbid(unsafe_code)]

mod build;
mod claims;
mod node;
mod port_plan;

pub use build::{Rejection, build};
pub use claims::{Claims, FrontendKey};
pub use node::{LocalPods, NodeFacts, NodePortAddresses};
pub use port_plan::{Frontend, FrontendAddress, FrontendKind, PlanRing, PortPlan, Target, Treatment};
