//! HTTP/1.1, as little of it as probes and scrapes need.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response, StatusCode};
use tokio::net::TcpStream;
use tracing::debug;

use crate::follow::listener::{Serve, http};

/// How long a whole connection may take: the rules of a large cluster are tens of megabytes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// Plain text, UTF-8.
const TEXT: &str = "text/plain; charset=utf-8";

impl Page {
    /// Plain text.
    pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: TEXT, body: body.into() }
    }

    /// JSON that is done already.
    pub(super) fn json(status: StatusCode, body: String) -> Self {
        Self { status, content_type: "application/json", body }
    }

    /// There is no such page.
    pub(super) fn missing() -> Self {
        Self::text(StatusCode::NOT_FOUND, "there is no such page\n")
    }

    fn response(self, with_body: bool) -> Response<String> {
        let mut response = Response::new(if with_body { self.body } else { String::new() });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// Somebody who has pages.
pub(super) trait Pages: Send + Sync + 'static {
    /// The setting that asks for the port, for logs.
    const FIELD: &'static str;

    /// What is at `path`.
    fn page(&self, path: &str) -> impl Future<Output = Page> + Send;
}

/// Pages on a port.
pub(super) struct Site<P>(pub(super) P);

impl<P: Pages> Serve for Site<P> {
    const FIELD: &'static str = P::FIELD;

    fn service(&self) -> String {
        "this node".to_owned()
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let answered = http::answer_one(stream, TIMEOUT, |request| {
            let site = Arc::clone(&self);
            async move {
                let (method, path) = (request.method(), request.uri().path());
                let page = match *method {
                    Method::GET | Method::HEAD => site.0.page(path).await,
                    _ => Page::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n"),
                };
                page.response(method != Method::HEAD)
            }
        });
        if let Err(why) = answered.await {
            debug!(field = P::FIELD, why, "a request did not end well");
        }
    }
}
