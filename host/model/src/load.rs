//! What this node counts of endpoints.

use std::net::IpAddr;

use crate::{Endpoint, Port, Protocol};

/// Connections through this node to an endpoint, whichever Service they came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that are open now.
    pub active: u32,
    /// Connections begun since counting began.
    pub begun: u32,
    /// New connections a minute, lately.
    pub per_minute: u32,
}

/// Knows the load of endpoints.
pub trait Loads {
    /// The load of the endpoint at that place; zeros for one nobody counts.
    fn load(&self, protocol: Protocol, address: IpAddr, port: u16) -> Load;

    /// The loads of the endpoints of `port`, in their order: whoever has to lock something does so once.
    fn of(&self, port: &Port) -> Vec<Load> {
        let load = |endpoint: &Endpoint| self.load(port.key.protocol, endpoint.address, endpoint.port);
        port.endpoints.iter().map(load).collect()
    }
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLoads;

impl Loads for NoLoads {
    fn load(&self, _: Protocol, _: IpAddr, _: u16) -> Load {
        Load::default()
    }
}
