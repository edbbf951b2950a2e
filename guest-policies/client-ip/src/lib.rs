//! Balancer: random, and a client keeps the endpoint its first connection got.
//!
//! The affinity of `sessionAffinity: ClientIP` for Services that do not ask for it themselves. Settings:
//!
//! ```json
//! { "timeout-seconds": 600 }
//! ```
//!
//! `timeout-seconds` (1 to 86400) is how long a client is remembered after its last new connection. Without it the
//! Service's own figure counts, and where there is none, Kubernetes' default of three hours. An endpoint whose
//! EndpointSlice gives it weight 0 gets no new clients.

use kit::schedulers::settings::{Fields, Settings};
use kit::schedulers::share;
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, label};

/// Default of `sessionAffinityConfig.clientIP.timeoutSeconds` in the Kubernetes API.
const DEFAULT_SECONDS: u32 = 10_800;

/// Largest value the Kubernetes API takes for it.
const MAX_SECONDS: u32 = 86_400;

struct Timeout(Option<u32>);

impl Settings for Timeout {
    fn read(fields: &mut Fields) -> Self {
        Self(fields.number("timeout-seconds", 1..=MAX_SECONDS))
    }
}

struct ClientIp;

impl Balancer for ClientIp {
    type Settings = Timeout;

    const LABEL: Label = label!("Random, and a client keeps the endpoint it got first.", Inputs::empty());

    fn spread(settings: &Timeout, list: &List<'_>) -> Spread {
        let of_service = Some(list.ring.affinity_seconds).filter(|seconds| *seconds > 0);
        let affinity_seconds = settings.0.or(of_service).or(Some(DEFAULT_SECONDS));
        Spread { affinity_seconds, ..Spread::new(IndexFunction::Random, share::equal(list.weights())) }
    }
}

kit::export!(ClientIp);
