//! The fixed stock of objects: which sets exist and what their elements look like.
//!
//! The sets are an enum, not names made at run time, because the stock never grows with the cluster: a
//! Service owns elements in these sets and nothing else.

use weir_model::Family;

/// Name of Weir's table in both families.
pub const TABLE: &str = "weir";

/// Netfilter hook of a base chain. Weir's are of type nat: they see the first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Packets that come in, before routing.
    Prerouting,
    /// Packets this node sends.
    Output,
    /// Packets about to leave.
    Postrouting,
}

impl Hook {
    /// Its number in the kernel (`enum nf_inet_hooks`).
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }

    /// Its name in nft syntax.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

/// Where a base chain of type nat hangs. Its policy is always accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseChain {
    /// The hook.
    pub hook: Hook,
    /// Lower runs earlier.
    pub priority: i32,
}

/// One component of a set key, as the kernel stores it: every component fills whole 32-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Address of the table's family, network order: 4 or 16 bytes.
    Address,
    /// IP protocol number: 1 byte and 3 of padding.
    Protocol,
    /// Port, network order: 2 bytes and 2 of padding.
    Port,
    /// Slot number, host order: 4 bytes. What `numgen` and `jhash` write.
    Slot,
    /// Class or endpoint number, host order: 4 bytes. What `meta priority` holds, nft type `classid`.
    ClassId,
    /// A network of the table's family, always the last component: its first address, then the length of its
    /// prefix, host order, 4 bytes. The kernel stores first and last address instead.
    Network,
}

impl FieldKind {
    /// Bytes it fills.
    #[must_use]
    pub fn len(self, family: Family) -> usize {
        match (self, family) {
            (Self::Address, Family::V6) => 16,
            (Self::Network, family) => Self::Address.len(family) + 4,
            _ => 4,
        }
    }
}

/// What a set maps its keys to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Nothing: a set.
    None,
    /// An address and a port (padded as in keys): where to send the connection.
    Target,
    /// A class or endpoint number.
    ClassId,
    /// `goto` a chain.
    Verdict,
}

impl DataKind {
    /// Bytes of the data; 0 for sets and for verdict maps, whose data are chain names.
    #[must_use]
    pub fn len(self, family: Family) -> usize {
        match self {
            Self::None | Self::Verdict => 0,
            Self::Target => FieldKind::Address.len(family) + 4,
            Self::ClassId => 4,
        }
    }
}

/// A set or map of the fixed stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetName {
    /// Active ClusterIPs.
    ClusterIps,
    /// Addresses of this node that accept node ports.
    NodeportAddresses,
    /// Frontend → class: how its connections are spread. A node port has the unspecified address here and in
    /// every other set, because its rules mask the destination away.
    Frontends,
    /// Frontend with `externalTrafficPolicy: Local` → class for pods and for this node.
    ShortCuts,
    /// Class → its chain.
    Classes,
    /// The same for short cuts; apart, so that the kernel's loop check sees none.
    ShortCutClasses,
    /// Class that ends in a refusal → the chain that refuses. Fixed.
    Refusals,
    /// Frontend and slot → endpoint.
    Slots,
    /// Frontend and slot → endpoint number, for ports with affinity.
    AffinitySlots,
    /// Frontend and what stands in `meta priority` → endpoint: endpoint numbers of ports with affinity, and slots whose
    /// turn it is in round robin. Endpoint numbers have their top bit set, slots never.
    Endpoints,
    /// Frontend and client → endpoint number. Written by the kernel on the packet path, with a timeout; Weir
    /// declares it and never touches an element.
    Affinity,
    /// Endpoints on this node reaching themselves through a Service.
    Hairpin,
    /// Addresses of load balancers and external IPs.
    ExternalIps,
    /// Frontends that only some clients may use.
    Guarded,
    /// Those clients: frontend and network.
    SourceRanges,
}

impl SetName {
    /// The whole stock, in the order it is printed and declared in.
    pub const ALL: [Self; 15] = [
        Self::ClusterIps,
        Self::NodeportAddresses,
        Self::Frontends,
        Self::ShortCuts,
        Self::Classes,
        Self::ShortCutClasses,
        Self::Refusals,
        Self::Slots,
        Self::AffinitySlots,
        Self::Endpoints,
        Self::Affinity,
        Self::Hairpin,
        Self::ExternalIps,
        Self::Guarded,
        Self::SourceRanges,
    ];

    /// Its name in the kernel.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::NodeportAddresses => "nodeport-addresses",
            Self::Frontends => "frontends",
            Self::ShortCuts => "short-cuts",
            Self::Classes => "classes",
            Self::ShortCutClasses => "short-cut-classes",
            Self::Refusals => "refusals",
            Self::Slots => "slots",
            Self::AffinitySlots => "affinity-slots",
            Self::Endpoints => "endpoints",
            Self::Affinity => "affinity",
            Self::Hairpin => "hairpin",
            Self::ExternalIps => "external-ips",
            Self::Guarded => "guarded",
            Self::SourceRanges => "source-ranges",
        }
    }

    /// The set with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// The components of its key.
    #[must_use]
    pub fn key(self) -> &'static [FieldKind] {
        use FieldKind::{Address, ClassId, Network, Port, Protocol, Slot};
        match self {
            Self::ClusterIps | Self::NodeportAddresses | Self::ExternalIps => &[Address],
            Self::Frontends | Self::ShortCuts | Self::Guarded => &[Address, Protocol, Port],
            Self::Classes | Self::ShortCutClasses | Self::Refusals => &[ClassId],
            Self::Slots | Self::AffinitySlots => &[Address, Protocol, Port, Slot],
            Self::Endpoints => &[Address, Protocol, Port, ClassId],
            Self::Affinity => &[Address, Protocol, Port, Address],
            Self::Hairpin => &[Address, Address, Protocol, Port],
            Self::SourceRanges => &[Address, Protocol, Port, Network],
        }
    }

    /// What it maps to.
    #[must_use]
    pub fn data(self) -> DataKind {
        match self {
            Self::ClusterIps
            | Self::NodeportAddresses
            | Self::Hairpin
            | Self::ExternalIps
            | Self::Guarded
            | Self::SourceRanges => DataKind::None,
            Self::Frontends | Self::ShortCuts | Self::AffinitySlots | Self::Affinity => DataKind::ClassId,
            Self::Classes | Self::ShortCutClasses | Self::Refusals => DataKind::Verdict,
            Self::Slots | Self::Endpoints => DataKind::Target,
        }
    }

    /// Whether the packet path fills it (flags `dynamic,timeout`).
    #[must_use]
    pub fn is_dynamic(self) -> bool {
        self == Self::Affinity
    }

    /// Whether its keys are networks, for which the kernel keeps a search tree (`flags interval`). A commit that
    /// changes such a set copies it, so only what few Services use may be one.
    #[must_use]
    pub fn is_interval(self) -> bool {
        self.key().contains(&FieldKind::Network)
    }

    /// Whether several ports may want the same element, so that it goes only with the last of them.
    #[must_use]
    pub fn is_shared(self) -> bool {
        matches!(self, Self::ClusterIps | Self::Hairpin | Self::ExternalIps)
    }

    /// Bytes of a key.
    #[must_use]
    pub fn key_len(self, family: Family) -> usize {
        self.key().iter().map(|field| field.len(family)).sum()
    }

    /// Bytes of the data; see [`DataKind::len`].
    #[must_use]
    pub fn data_len(self, family: Family) -> usize {
        self.data().len(family)
    }
}
