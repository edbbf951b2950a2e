//! The peer: kube-proxy's layouts of the same Services, as text for `nft -f` and for `iptables-restore`, and those tools
//! themselves.
//!
//! What is written is what kube-proxy 1.35 and 1.37 write for ClusterIP Services (`pkg/proxy/nftables/proxier.go` and
//! `pkg/proxy/iptables/proxier.go`): base chains, sets and fixed rules, and for each port a chain, its rules and its
//! elements. kube-proxy's own work before that, walking all Services and listing what is there, is left out, in its
//! favour.

mod iptables;
mod layout;
mod loading;
mod nft;
mod restore;

pub use iptables::Iptables;
pub use layout::{Layout, Version};
pub use loading::Loaded;
pub use nft::{load, update};
pub use restore::Restore;
