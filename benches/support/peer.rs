//! The peer: kube-proxy's nftables layout of the same Services, as text for `nft -f`, and `nft` itself.
//!
//! What is written is what kube-proxy 1.35 and 1.37 write for ClusterIP Services (`pkg/proxy/nftables/proxier.go`):
//! base chains, sets and fixed rules, and for each port a chain, its rules and its elements. kube-proxy's own work
//! before that, walking all Services and listing what is there, is left out, in its favour.

mod layout;
mod nft;

pub use layout::{Layout, Version};
pub use nft::{Loaded, load, update};
