//! `/metrics`, `/configz`, `/proxyMode` and `/debug/`.

mod show;

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::timeout;
use weir_model::ObjectKey;

use super::http::{Page, Pages};
use super::{Question, Questions};
use crate::health::ProxyHealth;
use crate::metrics::Metrics;
use crate::policies::Board;

/// How long a sync may take before whoever asks is told to come again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the metrics address serves.
pub(super) struct DebugPages {
    pub(super) health: ProxyHealth,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Board,
    /// The configuration, as JSON.
    pub(super) settings: String,
    pub(super) questions: Questions,
}

/// The pages, for whoever looks for them.
const INDEX: &str = "/metrics\n/healthz\n/proxyMode\n/configz\n/debug/services\n/debug/plan\n/debug/rules\n\
                     /debug/transaction\n/debug/policies\n/debug/records/NAMESPACE/SERVICE\n";

/// OpenMetrics' text form.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl DebugPages {
    /// Asks the daemon's loop, and turns its answer into a page on a thread that may take its time.
    async fn ask<A: Send + 'static>(
        &self,
        question: impl FnOnce(oneshot::Sender<A>) -> Question,
        page: impl FnOnce(A) -> Page + Send + 'static,
    ) -> Page {
        let busy = |why| Page::text(StatusCode::SERVICE_UNAVAILABLE, why);
        let (to, answer) = oneshot::channel();
        match self.questions.try_send(question(to)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return busy("somebody else's question comes first; ask again\n"),
            Err(TrySendError::Closed(_)) => return busy("the daemon is ending\n"),
        }
        let Ok(Ok(answer)) = timeout(PATIENCE, answer).await else {
            return busy("the daemon is in the middle of a sync; ask again\n");
        };
        let page = tokio::task::spawn_blocking(|| page(answer)).await;
        page.unwrap_or_else(|error| Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
    }
}

impl Pages for DebugPages {
    const FIELD: &'static str = "metricsBindAddress";

    async fn page(&self, path: &str) -> Page {
        match path {
            "/" | "/debug" | "/debug/" => Page::text(StatusCode::OK, INDEX),
            "/metrics" => Page { status: StatusCode::OK, content_type: OPEN_METRICS, body: self.metrics.encode() },
            "/healthz" if self.health.is_healthy() => Page::text(StatusCode::OK, "ok"),
            "/healthz" => Page::text(StatusCode::SERVICE_UNAVAILABLE, "the rules do not follow the cluster\n"),
            "/proxyMode" => Page::text(StatusCode::OK, "nftables"),
            "/configz" => Page::json(StatusCode::OK, self.settings.clone()),
            "/debug/services" => self.ask(Question::Services, |answer| show::services(&answer)).await,
            "/debug/plan" => self.ask(Question::Plan, |answer| show::plan(&answer)).await,
            "/debug/rules" => self.ask(Question::Rules, |answer| show::rules(&answer)).await,
            "/debug/transaction" => self.ask(Question::Transaction, |answer| show::transaction(&answer)).await,
            "/debug/policies" => {
                let board = self.board.clone();
                self.ask(Question::Policies, move |answer| show::policies(&answer, &board)).await
            }
            _ => match path.strip_prefix("/debug/records/").and_then(|service| service.split_once('/')) {
                Some((namespace, name)) => {
                    let service = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
                    self.ask(|to| Question::Records(service, to), |answer| show::records(&answer)).await
                }
                None => Page::missing(),
            },
        }
    }
}
