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

wit_bindgen::generate!({ path: "../../wit/v0.1", world: "balancer-only" });

use exports::weir::policy::balancer::{Guest, IndexFunction, PolicyError, Ring, Share, Spread};
use serde::Deserialize;
use weir::policy::snapshot::View;

/// Default of `sessionAffinityConfig.clientIP.timeoutSeconds` in the Kubernetes API.
const DEFAULT_SECONDS: u32 = 10_800;

/// Largest value the Kubernetes API takes for it.
const MAX_SECONDS: u32 = 86_400;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Settings {
    timeout_seconds: Option<u32>,
}

struct ClientIp;

impl Guest for ClientIp {
    fn balance(view: &View, rings: Vec<Ring>, _ids: Vec<u32>, _weights: Vec<u32>) -> Result<Vec<Spread>, PolicyError> {
        rings.into_iter().map(|ring| spread(&ring, &view.settings(ring.id))).collect()
    }
}

fn spread(ring: &Ring, settings: &str) -> Result<Spread, PolicyError> {
    let affinity_seconds = match (parse(settings)?.timeout_seconds, ring.affinity_seconds) {
        (Some(seconds), _) => seconds,
        (None, 0) => DEFAULT_SECONDS,
        (None, seconds) => seconds,
    };
    Ok(Spread { id: ring.id, index: IndexFunction::Random, share: Share::Equal, affinity_seconds })
}

fn parse(json: &str) -> Result<Settings, PolicyError> {
    if json.is_empty() {
        return Ok(Settings::default());
    }
    let settings: Settings =
        serde_json::from_str(json).map_err(|error| PolicyError::InvalidSettings(error.to_string()))?;
    match settings.timeout_seconds {
        Some(seconds) if !(1..=MAX_SECONDS).contains(&seconds) => {
            Err(PolicyError::InvalidSettings(format!("timeout-seconds: {seconds} is not within 1 to {MAX_SECONDS}")))
        }
        _ => Ok(settings),
    }
}

export!(ClientIp);
