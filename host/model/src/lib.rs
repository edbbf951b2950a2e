//! The cluster as this node needs it.
//!
//! In come [`Event`]s from a source, in any order; out go resolved [`Port`]s and the set of Services that
//! changed since the last look ([`Store::take_dirty`]). The crate holds no Kubernetes API type and does no
//! I/O; equal events give equal state, whatever order they came in.
#![forbid(unsafe_code)]

mod by_number;
mod decision;
mod endpoint;
mod event;
mod ids;
pub mod ipvs;
mod load;
mod service;
mod slices;
mod store;

pub use by_number::{ByNumber, NumberHasher};
pub use decision::{Backend, Decision, IndexFunction, MAX_SLOTS, Origin, Ring, Route};
pub use endpoint::{Conditions, Endpoint, backend_id};
pub use event::{EndpointSpec, Event, NodeSpec, ServicePortSpec, ServiceSpec, SliceKey, SlicePort, SliceSpec};
pub use ids::{NameId, Names, ServiceId};
pub use load::{Load, Loads, NoLoads};
pub use service::{
    Family, NodeIdentity, ObjectKey, Port, PortKey, Protocol, Service, ServiceKind, ServicePort, TrafficPolicy,
};
pub use store::{Store, Trigger};
