//! Balancer: by a hash of the client's address. Every node picks the same endpoint for a client, without remembering it.
//!
//! IPVS' `sh`. A list of another size sends most clients elsewhere: where that hurts, take `maglev`. Weights of
//! EndpointSlices count; 0 drains. Settings:
//!
//! ```json
//! { "include-port": true }
//! ```
//!
//! With `include-port` the client's port counts as well (IPVS: `sh-port`), so that the connections of one client spread.

use kit::schedulers::settings::{Fields, Settings};
use kit::schedulers::share;
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, label};

struct Hash {
    include_port: bool,
}

impl Settings for Hash {
    fn read(fields: &mut Fields) -> Self {
        Self { include_port: fields.flag("include-port").unwrap_or(false) }
    }
}

struct SourceHash;

impl Balancer for SourceHash {
    type Settings = Hash;

    const LABEL: Label =
        label!("The endpoint follows from the client's address, the same on every node.", Inputs::empty());

    fn spread(settings: &Hash, list: &List<'_>) -> Spread {
        let index = if settings.include_port { IndexFunction::FlowHash } else { IndexFunction::SourceHash };
        Spread::new(index, share::weighted(list.weights().to_vec()))
    }
}

kit::export!(SourceHash);
