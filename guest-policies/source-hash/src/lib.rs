//! Balancer: by a hash of the client's address. Every node picks the same endpoint for a client, without remembering it.
//!
//! IPVS' `sh`. A ring of another size sends most clients elsewhere: where that hurts, take `maglev`. Weights of
//! EndpointSlices count. Settings:
//!
//! ```json
//! { "include-port": true }
//! ```
//!
//! With `include-port` the client's port counts as well (IPVS: `sh-port`), so that the connections of one client spread.

use kit::{Answer, Balancer, IndexFunction, Members, Settings, Share};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Hash {
    include_port: bool,
}

impl Settings for Hash {}

struct SourceHash;

impl Balancer for SourceHash {
    type Settings = Hash;

    const NAME: &str = "source-hash";
    const SUMMARY: &str = "The endpoint follows from the client's address, the same on every node.";

    fn spread(settings: &Hash, members: &Members<'_>) -> Answer {
        let index = if settings.include_port { IndexFunction::FlowHash } else { IndexFunction::SourceHash };
        let weights = members.weights();
        let equal = weights.iter().all(|weight| *weight == weights[0]);
        Answer::new(index, if equal { Share::Equal } else { Share::Weights(weights.to_vec()) })
    }
}

kit::policy!(SourceHash);
