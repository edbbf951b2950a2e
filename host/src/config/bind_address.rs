//! Where the daemon listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// An address to listen on, or none. As text: `IP:PORT`, `IP` for the usual `PORT`, `:PORT` for all addresses, or
/// nothing at all, which means not to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress<const PORT: u16>(pub Option<SocketAddr>);

impl<const PORT: u16> BindAddress<PORT> {
    /// That address, on the usual port.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(Some(SocketAddr::new(address, PORT)))
    }
}

impl<const PORT: u16> FromStr for BindAddress<PORT> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::of(address));
        }
        let any = text.strip_prefix(':').and_then(|port| port.parse().ok());
        let any = any.map(|port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
        let address = any.map_or_else(|| text.parse().map_err(|_| format!("{text:?} is no IP:PORT")), Ok)?;
        Ok(Self(Some(address)))
    }
}

impl<const PORT: u16> fmt::Display for BindAddress<PORT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

impl<'de, const PORT: u16> Deserialize<'de> for BindAddress<PORT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<const PORT: u16> Serialize for BindAddress<PORT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
