//! Elements of one set as one flat block of memory: no allocation an element, and the netlink encoder copies
//! straight from it.

use std::net::IpAddr;

use ipnet::IpNet;
use weir_model::{Family, Protocol};

use crate::SetName;

/// The bytes of one key or one datum, in the kernel's layout (see [`crate::FieldKind`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElementKey {
    bytes: [u8; Self::CAPACITY],
    len: u8,
}

impl Default for ElementKey {
    fn default() -> Self {
        Self { bytes: [0; Self::CAPACITY], len: 0 }
    }
}

impl ElementKey {
    /// Room for the longest key: two IPv6 addresses, a protocol, a port and the length of a prefix.
    const CAPACITY: usize = 44;

    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A key or datum with exactly those bytes.
    ///
    /// # Panics
    /// With more bytes than any set's key has: a programming error.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::new().push(bytes)
    }

    fn push(mut self, bytes: &[u8]) -> Self {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += u8::try_from(bytes.len()).expect("a component is at most 16 bytes");
        self
    }

    /// Appends an address.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.push(&v4.octets()),
            IpAddr::V6(v6) => self.push(&v6.octets()),
        }
    }

    /// Appends a protocol.
    #[must_use]
    pub fn protocol(self, protocol: Protocol) -> Self {
        self.push(&[protocol.number(), 0, 0, 0])
    }

    /// Appends a port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.push(&[high, low, 0, 0])
    }

    /// Appends a network.
    #[must_use]
    pub fn network(self, net: IpNet) -> Self {
        self.address(net.network()).number(net.prefix_len().into())
    }

    /// Appends a slot, class or endpoint number.
    #[must_use]
    pub fn number(self, number: u32) -> Self {
        self.push(&number.to_ne_bytes())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Elements of one set or data map. Not for verdict maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements {
    key_len: usize,
    data_len: usize,
    bytes: Vec<u8>,
}

impl Elements {
    /// None yet, of that set's shape.
    #[must_use]
    pub fn new(set: SetName, family: Family) -> Self {
        Self { key_len: set.key_len(family), data_len: set.data_len(family), bytes: Vec::new() }
    }

    /// Keys only, of that set's shape: what a deletion names.
    #[must_use]
    pub fn keys_of(set: SetName, family: Family) -> Self {
        Self { key_len: set.key_len(family), data_len: 0, bytes: Vec::new() }
    }

    /// Appends one element.
    ///
    /// # Panics
    /// When key or data do not have the set's length: a programming error.
    pub fn push(&mut self, key: &[u8], data: &[u8]) {
        assert_eq!((key.len(), data.len()), (self.key_len, self.data_len), "element does not fit the set");
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(data);
    }

    /// Bytes of a key.
    #[must_use]
    pub fn key_len(&self) -> usize {
        self.key_len
    }

    /// Bytes of the data.
    #[must_use]
    pub fn data_len(&self) -> usize {
        self.data_len
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / (self.key_len + self.data_len)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether one of the networks these elements end in contains `address`, behind a frontend of those bytes.
    #[must_use]
    pub fn covers(&self, frontend: &[u8], address: IpAddr) -> bool {
        self.iter().any(|(key, _)| {
            let network = key.strip_prefix(frontend).and_then(network_of);
            network.is_some_and(|network| network.contains(&address))
        })
    }

    /// Every element as (key, data), in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + '_ {
        self.starting_at(0)
    }

    /// The same from a position on; nothing behind the last. Whoever skips that many walks over each.
    pub fn starting_at(&self, first: usize) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + '_ {
        let stride = self.key_len + self.data_len;
        let bytes = self.bytes.get(first * stride..).unwrap_or_default();
        bytes.chunks_exact(stride).map(|element| element.split_at(self.key_len))
    }

    /// The element at that position.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let stride = self.key_len + self.data_len;
        self.bytes.get(index * stride..(index + 1) * stride).map(|element| element.split_at(self.key_len))
    }

    /// The data of `key`. The elements must be sorted.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<&[u8]> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let (at, data) = self.get(middle)?;
            match at.cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(data),
            }
        }
        None
    }

    /// Sorts by key and drops repeated elements.
    pub fn sort(&mut self) {
        let stride = self.key_len + self.data_len;
        let mut order: Vec<&[u8]> = self.bytes.chunks_exact(stride).collect();
        if order.is_sorted_by(|a, b| a < b) {
            return;
        }
        order.sort_unstable();
        order.dedup();
        self.bytes = order.concat();
    }

    /// Makes room for that many more.
    pub fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional * (self.key_len + self.data_len));
    }
}

/// The network in the bytes of a [`crate::FieldKind::Network`].
#[must_use]
pub fn network_of(bytes: &[u8]) -> Option<IpNet> {
    let (address, prefix) = bytes.split_last_chunk::<4>()?;
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    IpNet::new(address, u8::try_from(u32::from_ne_bytes(*prefix)).ok()?).ok()
}
