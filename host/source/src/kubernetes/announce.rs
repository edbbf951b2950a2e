//! Events in the cluster: what an operator should find with `kubectl describe`.
//!
//! Events are a courtesy. They are limited in number, never waited for, and one that cannot be posted is dropped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as ApiEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};
use weir_model::ObjectKey;

use super::Access;
use super::access::Connection;

/// Events that may be posted at once (client-go's spam filter: a burst of 25 for each object; here for all together).
const BURST: u32 = 25;
/// After the burst: one in that time.
const REFILL: Duration = Duration::from_secs(10);
/// The same thing about the same object is not said again within that time.
const REPEAT: Duration = Duration::from_secs(600);
/// Things that are remembered as said.
const REMEMBERED: usize = 1024;
/// Longest note, in bytes (the API server: `noteLengthLimit`).
const NOTE_MAX: usize = 1024;
/// How long posting may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Who says it.
const CONTROLLER: &str = "weir.proxy/node";
/// Where Events about objects without a namespace go.
const DEFAULT_NAMESPACE: &str = "default";

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// This node.
    Node(String),
    /// A Service.
    Service(ObjectKey),
    /// A ConfigMap.
    ConfigMap(ObjectKey),
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// About what.
    pub subject: Subject,
    /// Whether somebody should look at it.
    pub warning: bool,
    /// One word in CamelCase, for programs.
    pub reason: &'static str,
    /// A sentence, for people.
    pub note: String,
}

/// Posts what comes as Events of `node`, until nobody sends any more.
pub async fn announce(access: Access, node: String, mut notices: mpsc::Receiver<Notice>) {
    let connection = Connection::new(access, ANSWER);
    let mut limit = Limit::new(Instant::now());
    let mut refused = false;
    while let Some(notice) = notices.recv().await {
        if !limit.allows(&notice, Instant::now()) {
            debug!(?notice, "not told to the cluster: too many or told already");
            continue;
        }
        match timeout(ANSWER, post(&connection, &node, &notice)).await {
            Ok(Ok(())) => refused = false,
            Ok(Err(why)) if !refused => {
                warn!(%why, "cannot post Events; the log has them all the same");
                refused = true;
            }
            Ok(Err(why)) => debug!(%why, "cannot post an Event"),
            Err(_) => debug!("cannot post an Event: no answer"),
        }
    }
}

async fn post(connection: &Connection, node: &str, notice: &Notice) -> Result<(), String> {
    let numbered = connection.client().await.map_err(|error| error.to_string())?;
    let event = event(node, notice);
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let posted =
        Api::<ApiEvent>::namespaced(numbered.client.clone(), &namespace).create(&PostParams::default(), &event).await;
    if let Err(error) = posted {
        // Credentials may be old, or a connection dead.
        connection.renew(&numbered).await;
        return Err(error.to_string());
    }
    Ok(())
}

fn event(node: &str, notice: &Notice) -> ApiEvent {
    let (kind, key) = match &notice.subject {
        Subject::Node(name) => ("Node", ObjectKey { namespace: String::new(), name: name.clone() }),
        Subject::Service(key) => ("Service", key.clone()),
        Subject::ConfigMap(key) => ("ConfigMap", key.clone()),
    };
    let namespace = if key.namespace.is_empty() { DEFAULT_NAMESPACE.to_owned() } else { key.namespace.clone() };
    let mut note = notice.note.clone();
    if note.len() > NOTE_MAX {
        note.truncate((0..=NOTE_MAX - 4).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0));
        note.push('…');
    }
    ApiEvent {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}.", key.name)),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(k8s_openapi::jiff::Timestamp::now())),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(node.to_owned()),
        action: Some("Proxy".to_owned()),
        reason: Some(notice.reason.to_owned()),
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
        note: Some(note),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(key.name),
            namespace: Some(key.namespace).filter(|namespace| !namespace.is_empty()),
            ..ObjectReference::default()
        }),
        ..ApiEvent::default()
    }
}

/// A bucket of allowances, and what was said lately.
struct Limit {
    left: u32,
    refilled: Instant,
    said: BTreeMap<Notice, Instant>,
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self { left: BURST, refilled: now, said: BTreeMap::new() }
    }

    fn allows(&mut self, notice: &Notice, now: Instant) -> bool {
        self.said.retain(|_, when| now.saturating_duration_since(*when) < REPEAT);
        if self.said.contains_key(notice) {
            return false;
        }
        while self.left < BURST && now.saturating_duration_since(self.refilled) >= REFILL {
            self.left += 1;
            self.refilled += REFILL;
        }
        if self.left == 0 {
            return false;
        }
        if self.left == BURST {
            self.refilled = now;
        }
        self.left -= 1;
        if self.said.len() < REMEMBERED {
            self.said.insert(notice.clone(), now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(number: usize) -> Notice {
        let key = ObjectKey { namespace: "shop".to_owned(), name: "web".to_owned() };
        Notice { subject: Subject::Service(key), warning: true, reason: "Test", note: number.to_string() }
    }

    #[test]
    fn a_flood_is_cut_and_trickles_on() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let allowed = (0..100).filter(|number| limit.allows(&notice(*number), start)).count();
        assert_eq!(allowed, BURST as usize);
        let later = start + REFILL * 3;
        assert_eq!((100..200).filter(|number| limit.allows(&notice(*number), later)).count(), 3);
    }

    #[test]
    fn nothing_is_said_twice_in_a_row() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        assert!(limit.allows(&notice(1), start));
        assert!(!limit.allows(&notice(1), start + REPEAT / 2));
        assert!(limit.allows(&notice(1), start + REPEAT * 2));
    }

    #[test]
    fn an_event_says_who_about_what() {
        let made = event("n1", &Notice { note: "ä".repeat(NOTE_MAX), ..notice(0) });
        let regarding = made.regarding.expect("about something");
        assert_eq!((regarding.kind.as_deref(), regarding.namespace.as_deref()), (Some("Service"), Some("shop")));
        assert_eq!((made.metadata.namespace.as_deref(), made.type_.as_deref()), (Some("shop"), Some("Warning")));
        let note = made.note.expect("a note");
        assert!(note.len() <= NOTE_MAX && note.ends_with('…'));
        let about_node = event("n1", &Notice { subject: Subject::Node("n1".to_owned()), ..notice(0) });
        assert_eq!(about_node.metadata.namespace.as_deref(), Some("default"));
    }
}
