//! `/livez`, `/readyz` and `/healthz`.

use std::sync::Arc;
use std::time::SystemTime;

use hyper::StatusCode;
use jiff::Timestamp;
use serde::Serialize;

use super::http::{Page, Pages};
use crate::health::ProxyHealth;
use crate::metrics::Metrics;

/// What the health address serves.
pub(super) struct HealthPages {
    pub(super) health: ProxyHealth,
    pub(super) metrics: Arc<Metrics>,
}

/// The body, field by field as kube-proxy has it (`proxy_health.go`, KEP-3836).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// Now while all is well, because nothing waits; else when it last was.
    last_updated: Timestamp,
    current_time: Timestamp,
    node_eligible: bool,
}

impl HealthPages {
    /// The answer and whether it is a good one.
    fn answer(&self, good: bool) -> Page {
        let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        let last_updated = self.health.behind_for().map_or(now, |behind| now.checked_sub(behind).unwrap_or(now));
        let body = Body { last_updated, current_time: now, node_eligible: self.health.is_eligible() };
        let body = serde_json::to_string(&body).expect("times and booleans are JSON");
        Page::json(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
    }
}

impl Pages for HealthPages {
    const FIELD: &'static str = "healthzBindAddress";

    async fn page(&self, path: &str) -> Page {
        let (path, good) = match path {
            // What restarts the daemon must not depend on what becomes of the node.
            "/livez" => ("/livez", self.health.is_healthy()),
            "/readyz" => ("/readyz", self.health.is_ready()),
            "/healthz" => ("/healthz", self.health.is_healthy() && self.health.is_eligible()),
            _ => return Page::missing(),
        };
        let page = self.answer(good);
        self.metrics.answered(path, page.status.as_u16());
        page
    }
}
