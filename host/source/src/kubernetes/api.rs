//! What is asked of the API server, and what it answers: pages of lists, and watches.
//!
//! Answers are taken apart only as far as necessary: objects stay text until they are read one by one, so that a bad one
//! cannot spoil its neighbours, and a page costs its text and nothing more.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::AccessError;

/// The longest line of a watch. The API server's own limit for an object is 3 MiB (`MaxRequestBodyBytes`).
const LONGEST_LINE: usize = 64 << 20;

/// How much of an answer that is an error is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;

/// Code of an answer to a `resourceVersion` or `continue` that is too old.
const GONE: u16 = 410;

/// Why there is no list, or why a watch ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// There are no credentials.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// An answer with an error, as the status of an answer or as an event of a watch.
    #[error("the API server answers {code}: {message}")]
    Status {
        /// As in HTTP.
        code: u16,
        /// In the API server's words.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Nothing came in time.
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    /// The connection failed or ended too early.
    #[error("{0}")]
    Transport(String),
    /// The answer is not what was asked for.
    #[error("the answer cannot be read: {0}")]
    Garbled(String),
}

impl Failure {
    /// Whether the API server itself said so: it can be reached.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Status { .. })
    }

    /// Whether a watch can be taken up where it ended. It cannot where the API server refuses that very request, or
    /// where what it said was not understood.
    pub(super) fn is_resumable(&self) -> bool {
        match self {
            Self::Access(_) | Self::Silent(_) | Self::Transport(_) => true,
            Self::Status { code, .. } => matches!(code, 401 | 429 | 503),
            Self::Garbled(_) => false,
        }
    }

    /// Whether new credentials or a new connection may help.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::Status { code: 401, .. } | Self::Silent(_) | Self::Transport(_))
    }

    /// Whether the API server does not have what was asked for, or keeps it from us.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Status { code: 403 | 404, .. })
    }

    /// How long the API server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The API server's own account of an error (`metav1.Status`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    code: Option<u16>,
    message: Option<String>,
    reason: Option<String>,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    retry_after_seconds: Option<u64>,
}

impl Status {
    /// As a failure with `code` where the status has none.
    fn into_failure(self, code: u16, retry_after: Option<Duration>) -> Failure {
        let asked = self.details.and_then(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        let code = match self.code {
            Some(code) if code != 0 => code,
            _ if self.reason.as_deref() == Some("Expired") => GONE,
            _ => code,
        };
        Failure::Status {
            code,
            message: self.message.or(self.reason).unwrap_or_else(|| "no reason given".to_owned()),
            retry_after: retry_after.or(asked.map(Duration::from_secs)),
        }
    }
}

/// A page of a list, whole, as text.
#[derive(Debug)]
pub(super) struct Page(Vec<u8>);

/// What a page says.
#[derive(Debug, Deserialize)]
pub(super) struct List<'a> {
    #[serde(default)]
    pub(super) metadata: ListMetadata,
    /// The objects.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

/// What a page says of the list it belongs to.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    /// What the whole list is as of.
    pub(super) resource_version: String,
    /// Leads to the next page; empty on the last.
    #[serde(rename = "continue")]
    token: Option<String>,
}

impl Page {
    /// Asks for a page.
    pub(super) async fn get(client: &Client, path: &str, patience: Duration) -> Result<Self, Failure> {
        let mut body = open(client, path, patience).await?;
        let mut text = Vec::new();
        while piece(&mut body, &mut text, patience).await? {}
        Ok(Self(text))
    }

    /// What it says.
    pub(super) fn read(&self) -> Result<List<'_>, Failure> {
        let list: List<'_> = serde_json::from_slice(&self.0).map_err(|error| Failure::Garbled(error.to_string()))?;
        if list.metadata.resource_version.is_empty() {
            return Err(Failure::Garbled("a list without metadata.resourceVersion".to_owned()));
        }
        Ok(list)
    }
}

impl<'a> List<'a> {
    /// The text of each object.
    pub(super) fn objects(&self) -> impl Iterator<Item = &'a str> {
        self.items.iter().flatten().map(|item| item.get())
    }

    /// What to ask the next page with; `None` when this is the last.
    pub(super) fn token(&self) -> Option<&str> {
        self.metadata.token.as_deref().filter(|token| !token.is_empty())
    }
}

/// A watch, line by line.
#[derive(Debug)]
pub(super) struct Watch {
    body: Body,
    /// What came and was not handed out yet.
    pending: Vec<u8>,
    /// How much of `pending` is known to hold no end of a line.
    searched: usize,
}

/// One event of a watch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told<'a> {
    /// An object appeared or changed.
    Applied(&'a str),
    /// An object is gone; the text is its last version.
    Deleted(&'a str),
    /// Nothing happened; the object holds nothing but how far we are.
    Bookmark(&'a str),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Watch {
    /// Asks for a watch.
    pub(super) async fn open(client: &Client, path: &str, patience: Duration) -> Result<Self, Failure> {
        let body = open(client, path, patience).await?;
        Ok(Self { body, pending: Vec::new(), searched: 0 })
    }

    /// The next line; `None` when the API server ended the watch in good order. Nothing is lost when the future is
    /// dropped.
    pub(super) async fn line(&mut self, silence: Duration) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let new = &self.pending[self.searched..];
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(self.searched + at + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.pending, rest)));
            }
            self.searched = self.pending.len();
            if self.searched > LONGEST_LINE {
                return Err(Failure::Garbled(format!("a line of more than {LONGEST_LINE} bytes")));
            }
            if !piece(&mut self.body, &mut self.pending, silence).await? {
                // Half a line at the end is a watch that was cut, not one that ended.
                let whole = self.pending.iter().all(u8::is_ascii_whitespace);
                return if whole { Ok(None) } else { Err(Failure::Transport("cut in the middle of an event".into())) };
            }
        }
    }
}

impl<'a> Told<'a> {
    /// Reads a line of a watch.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Failure> {
        let line: Line<'a> = serde_json::from_slice(line).map_err(|error| Failure::Garbled(error.to_string()))?;
        let object = line.object.get();
        match line.kind {
            "ADDED" | "MODIFIED" => Ok(Self::Applied(object)),
            "DELETED" => Ok(Self::Deleted(object)),
            "BOOKMARK" => Ok(Self::Bookmark(object)),
            // 500: an error the API server does not name.
            "ERROR" => Err(serde_json::from_str::<Status>(object).unwrap_or_default().into_failure(500, None)),
            other => Err(Failure::Garbled(format!("an event of type {other:?}"))),
        }
    }
}

/// Sends a GET and returns the body of a good answer.
async fn open(client: &Client, path: &str, patience: Duration) -> Result<Body, Failure> {
    let request = Request::get(path)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::empty())
        .map_err(|error| Failure::Garbled(error.to_string()))?;
    let sent = timeout(patience, client.send(request)).await.map_err(|_| Failure::Silent(patience))?;
    let response = sent.map_err(|error| Failure::Transport(chain(&error)))?;
    let code = response.status().as_u16();
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    let retry_after = response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    let (mut body, mut text) = (response.into_body(), Vec::new());
    // The code says enough where the text does not come.
    while text.len() < LONGEST_ERROR && matches!(piece(&mut body, &mut text, patience).await, Ok(true)) {}
    let status = serde_json::from_slice(&text).unwrap_or_else(|_| Status {
        message: Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|text| !text.is_empty()),
        ..Status::default()
    });
    // The code of the answer counts, whatever the text says.
    Err(Status { code: Some(code), ..status }.into_failure(code, retry_after))
}

/// Adds what comes next to `text`. Returns whether the body goes on.
async fn piece(body: &mut Body, text: &mut Vec<u8>, patience: Duration) -> Result<bool, Failure> {
    match timeout(patience, body.frame()).await.map_err(|_| Failure::Silent(patience))? {
        None => Ok(false),
        Some(Ok(frame)) => {
            if let Some(data) = frame.data_ref() {
                text.extend_from_slice(data);
            }
            Ok(true)
        }
        Some(Err(error)) => Err(Failure::Transport(chain(&error))),
    }
}

/// An error with all that led to it: the outermost one often says next to nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_event_is_a_failure_with_its_code() {
        let line = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        let failure = Told::read(line).expect_err("an error");
        assert!(matches!(failure, Failure::Status { code: GONE, .. }) && !failure.is_resumable(), "{failure}");
        let nameless = Told::read(br#"{"type":"ERROR","object":{"reason":"Expired"}}"#).expect_err("an error");
        assert!(matches!(nameless, Failure::Status { code: GONE, .. }), "{nameless}");
        let busy = br#"{"type":"ERROR","object":{"code":429,"details":{"retryAfterSeconds":7}}}"#;
        let busy = Told::read(busy).expect_err("an error");
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(7)));
        assert!(matches!(Told::read(br#"{"type":"ERROR","object":3}"#), Err(Failure::Status { code: 500, .. })));
    }

    #[test]
    fn objects_stay_text() {
        let line = br#"{"type":"ADDED","object":{"spec": [1 , 2]}}"#;
        assert_eq!(Told::read(line).expect("an event"), Told::Applied(r#"{"spec": [1 , 2]}"#));
        assert!(matches!(Told::read(b"{half"), Err(Failure::Garbled(_))));
        assert!(matches!(Told::read(br#"{"type":"WHAT","object":{}}"#), Err(Failure::Garbled(_))));
    }

    #[test]
    fn a_list_says_what_it_is_as_of() {
        let page = Page(br#"{"metadata":{"resourceVersion":"7","continue":""},"items":null}"#.to_vec());
        let list = page.read().expect("a list");
        assert_eq!((list.objects().count(), list.token()), (0, None));
        let page = Page(br#"{"metadata":{"resourceVersion":"7","continue":"x"},"items":[{"a":1},[]]}"#.to_vec());
        let list = page.read().expect("a list");
        assert_eq!((list.objects().collect::<Vec<_>>(), list.token()), (vec![r#"{"a":1}"#, "[]"], Some("x")));
        assert!(matches!(Page(br#"{"items":[]}"#.to_vec()).read(), Err(Failure::Garbled(_))));
    }
}
