//! How busy endpoints are, as this node sees it.

use std::net::IpAddr;

use crate::Protocol;

/// The connections through this node to one endpoint (address, port, protocol), whichever Service they came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that are open now.
    pub active: u32,
    /// Connections that began since counting began.
    pub begun: u32,
    /// New connections a minute, lately.
    pub per_minute: u32,
}

/// Who knows the load of endpoints.
pub trait Loads {
    /// The load of the endpoint at `address` and `port`; zeros where nothing is known.
    fn load(&self, protocol: Protocol, address: IpAddr, port: u16) -> Load;
}

/// Knows nothing: every load is zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLoads;

impl Loads for NoLoads {
    fn load(&self, _: Protocol, _: IpAddr, _: u16) -> Load {
        Load::default()
    }
}
