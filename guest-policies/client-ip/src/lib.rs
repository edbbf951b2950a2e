//! Balancer: random, and a client keeps the endpoint its first connection got.
//!
//! The affinity of `sessionAffinity: ClientIP` for Services that do not ask for it themselves. Settings:
//!
//! ```json
//! { "timeout-seconds": 600 }
//! ```
//!
//! `timeout-seconds` (1 to 86400) is how long a client is remembered after its last new connection. Without it the
//! Service's own figure counts, and where there is none, Kubernetes' default of three hours.

use kit::{Answer, Balancer, IndexFunction, Members, Problem, Settings, Share};
use serde::Deserialize;

/// Default of `sessionAffinityConfig.clientIP.timeoutSeconds` in the Kubernetes API.
const DEFAULT_SECONDS: u32 = 10_800;

/// Largest value the Kubernetes API takes for it.
const MAX_SECONDS: u32 = 86_400;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Timeout {
    timeout_seconds: Option<u32>,
}

impl Settings for Timeout {
    fn problem(&self) -> Option<Problem> {
        Self::within("timeout-seconds", self.timeout_seconds?, 1, MAX_SECONDS)
    }
}

struct ClientIp;

impl Balancer for ClientIp {
    type Settings = Timeout;

    const NAME: &str = "client-ip";
    const SUMMARY: &str = "A random endpoint for a client's first connection, and the same one for the rest.";

    fn spread(settings: &Timeout, members: &Members<'_>) -> Answer {
        let seconds = match (settings.timeout_seconds, members.ring().affinity_seconds) {
            (Some(seconds), _) => seconds,
            (None, 0) => DEFAULT_SECONDS,
            (None, seconds) => seconds,
        };
        Answer { affinity_seconds: Some(seconds), ..Answer::new(IndexFunction::Random, Share::Equal) }
    }
}

kit::policy!(ClientIp);
