//! Requests into answers.

use std::io;
use std::sync::Arc;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::cluster::{Cluster, Path, path_of};
use super::request::Target;
use super::selector::Selector;
use super::{discovery, protobuf, watch};

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A refusal: code and message.
type Refusal = (u16, String);

/// Answers one request. Fails only when the client goes away in the middle.
pub(super) async fn answer(cluster: Arc<Cluster>, request: Request<Incoming>) -> hyper::Result<Answer> {
    let target = Target::parse(request.uri().path(), request.uri().query());
    let noted = target.as_ref().map(|target| {
        let asked = target.asked(request.method());
        cluster.state().ask(asked)
    });
    thaw(&cluster).await;
    let answer = match refuse(&cluster, &request, target.as_ref()) {
        Some(refusal) => refusal,
        None => match target {
            None => match discovery::answer(request.uri().path()) {
                Some(value) => whole(200, &value),
                None => status(404, "the server could not find the requested resource"),
            },
            Some(target) => objects(&cluster, request, &target).await?,
        },
    };
    if let Some(noted) = noted {
        cluster.state().answered(noted, answer.status().as_u16());
    }
    Ok(answer)
}

/// Waits while the server is frozen.
async fn thaw(cluster: &Cluster) {
    let mut changes = cluster.changes();
    while cluster.state().faults.frozen {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn refuse(cluster: &Cluster, request: &Request<Incoming>, target: Option<&Target>) -> Option<Answer> {
    let state = cluster.state();
    let faults = &state.faults;
    if let Some(token) = &faults.token {
        let wanted = format!("Bearer {token}");
        if request.headers().get(AUTHORIZATION).is_none_or(|given| given.as_bytes() != wanted.as_bytes()) {
            return Some(status(401, "Unauthorized"));
        }
    }
    if let Some((code, retry_after)) = faults.refuse {
        let mut answer = status(code, "refused on purpose");
        answer.headers_mut().extend(retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
        return Some(answer);
    }
    let code = faults.refuse_resource.get(target?.resource.plural)?;
    Some(status(*code, "this kind is refused on purpose"))
}

async fn objects(cluster: &Arc<Cluster>, request: Request<Incoming>, target: &Target) -> hyper::Result<Answer> {
    let method = request.method().clone();
    if method == Method::GET {
        return Ok(read(cluster, target).await.unwrap_or_else(|(code, message)| status(code, &message)));
    }
    let content = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content = content.to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let done = write(cluster, target, &method, &content, &body);
    cluster.announce();
    Ok(done.unwrap_or_else(|(code, message)| status(code, &message)))
}

async fn read(cluster: &Arc<Cluster>, target: &Target) -> Result<Answer, Refusal> {
    let query = |name: &str| target.query.get(name).map(String::as_str);
    let selector = Selector::parse(query("labelSelector"), query("fieldSelector")).map_err(|message| (400, message))?;
    if target.is_watch() {
        return Ok(answer_with(200, watch::begin(cluster, target, selector)?));
    }
    if !target.name.is_empty() {
        let state = cluster.state();
        let object = state.objects.get(&path(target)).ok_or_else(|| not_found(target))?;
        return Ok(whole(200, object));
    }
    let delay = cluster.state().faults.list_delay.get(target.resource.plural).copied();
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    list(cluster, target, &selector)
}

/// One page of a list. All pages of a list are as of its beginning.
fn list(cluster: &Cluster, target: &Target, selector: &Selector) -> Result<Answer, Refusal> {
    let mut state = cluster.state();
    let limit = target.query.get("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0);
    let token = target.query.get("continue").filter(|token| !token.is_empty());
    let (number, offset) = match token {
        Some(token) => {
            let (number, offset) = token.split_once('-').ok_or((400, "no such continue token".to_owned()))?;
            let number: u64 = number.parse().map_err(|_| (400, "no such continue token".to_owned()))?;
            (number, offset.parse().map_err(|_| (400, "no such continue token".to_owned()))?)
        }
        None => {
            let here = |path: &Path| {
                path.0 == target.resource.plural && (target.namespace.is_empty() || path.1 == target.namespace)
            };
            let selected = state.objects.iter().filter(|(path, object)| here(path) && selector.matches(object));
            let objects = selected.map(|(_, object)| object.clone()).collect();
            let (number, revision) = (state.next_snapshot, state.revision);
            state.next_snapshot += 1;
            state.snapshots.insert(number, (revision, objects));
            (number, 0)
        }
    };
    let (revision, objects) =
        state.snapshots.get(&number).ok_or((410, "the provided continue parameter is too old".to_owned()))?;
    let page: Vec<&Value> = objects.iter().skip(offset).take(limit.unwrap_or(usize::MAX)).map(|one| &**one).collect();
    let next = offset + page.len();
    let more = next < objects.len();
    let metadata = json!({
        "resourceVersion": revision.to_string(),
        "continue": if more { format!("{number}-{next}") } else { String::new() },
    });
    let list = json!({
        "kind": format!("{}List", target.resource.kind), "apiVersion": target.resource.api_version(),
        "metadata": metadata, "items": page,
    });
    if !more {
        state.snapshots.remove(&number);
    }
    Ok(whole(200, &list))
}

fn write(cluster: &Cluster, target: &Target, method: &Method, content: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let mut state = cluster.state();
    if *method == Method::DELETE {
        let last = state.delete(&path(target)).ok_or_else(|| not_found(target))?;
        return Ok(whole(200, &last));
    }
    let sent = parse(body)?;
    let before = state.objects.get(&path(target)).cloned();
    match *method {
        Method::POST => {
            let mut sent = sent;
            complete(&mut sent, target);
            if sent.pointer("/metadata/name").is_none()
                && let Some(prefix) = sent.pointer("/metadata/generateName").and_then(Value::as_str)
            {
                // Unique, as the revision is.
                let name = format!("{prefix}{:05x}", state.revision);
                super::cluster::member(&mut sent, "metadata").insert("name".to_owned(), json!(name));
            }
            let path = path_of(target.resource, &sent).ok_or((422, "metadata.name: Required value".to_owned()))?;
            if state.objects.contains_key(&path) {
                return Err((409, format!("{} {:?} already exists", target.resource.plural, path.2)));
            }
            Ok(whole(201, &state.put(&path, sent)))
        }
        Method::PUT => {
            let before = before.ok_or_else(|| not_found(target))?;
            let given =
                sent.pointer("/metadata/resourceVersion").and_then(Value::as_str).filter(|text| !text.is_empty());
            let current = before.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            if given.is_some() && given != current {
                return Err((409, "the object has been modified; please apply your changes to it".to_owned()));
            }
            Ok(whole(200, &state.put(&path(target), sent)))
        }
        Method::PATCH => {
            let applies = content.starts_with("application/apply-patch");
            let merges = ["application/merge-patch+json", "application/strategic-merge-patch+json"];
            if !applies && !merges.iter().any(|merge| content.starts_with(merge)) {
                return Err((415, format!("patches of type {content:?} are not served")));
            }
            let (code, mut object) = match before {
                Some(before) => (200, (*before).clone()),
                None if applies => (201, json!({})),
                None => return Err(not_found(target)),
            };
            if applies {
                let manager = target.query.get("fieldManager").cloned().unwrap_or_default();
                if let Some(last) = state.applied.insert((path(target), manager), sent.clone()) {
                    drop_unapplied(&mut object, &last, &sent);
                }
            }
            merge(&mut object, sent);
            complete(&mut object, target);
            Ok(whole(code, &state.put(&path(target), object)))
        }
        _ => Err((405, format!("{method} is not served"))),
    }
}

fn parse(body: &[u8]) -> Result<Value, Refusal> {
    if protobuf::is(body) {
        return protobuf::config_map(body).ok_or((415, "of protobuf only ConfigMaps are served".to_owned()));
    }
    // Server-side apply speaks YAML, of which JSON is a part.
    let text = std::str::from_utf8(body).map_err(|error| (400, error.to_string()))?;
    serde_saphyr::from_str(text).map_err(|error| (400, error.to_string()))
}

fn path(target: &Target) -> Path {
    (target.resource.plural, target.namespace.clone(), target.name.clone())
}

/// What the path says already may be missing in the object.
fn complete(object: &mut Value, target: &Target) {
    if let Some(fields) = object.as_object_mut() {
        fields.entry("kind").or_insert_with(|| json!(target.resource.kind));
        fields.entry("apiVersion").or_insert_with(|| json!(target.resource.api_version()));
    }
    if !target.namespace.is_empty() {
        super::cluster::member(object, "metadata").insert("namespace".to_owned(), json!(target.namespace));
    }
}

/// JSON merge patch (RFC 7396). Strategic ones are taken for it: their lists replace.
fn merge(object: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *object = patch };
    if !object.is_object() {
        *object = json!({});
    }
    let Some(fields) = object.as_object_mut() else { return };
    for (name, value) in patch {
        if name.starts_with('$') {
            continue;
        }
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Removes the fields that their manager applied `last` time and does not apply now.
fn drop_unapplied(object: &mut Value, last: &Value, now: &Value) {
    let (Some(object), Some(last)) = (object.as_object_mut(), last.as_object()) else { return };
    for (name, last) in last {
        match (object.get_mut(name), now.get(name)) {
            (Some(field), Some(now)) => drop_unapplied(field, last, now),
            (Some(_), None) => drop(object.remove(name)),
            (None, _) => {}
        }
    }
}

fn not_found(target: &Target) -> Refusal {
    (404, format!("{} {:?} not found", target.resource.plural, target.name))
}

fn status(code: u16, message: &str) -> Answer {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "AlreadyExists",
        410 => "Expired",
        415 => "UnsupportedMediaType",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "BadRequest",
    };
    let value = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    whole(code, &value)
}

fn whole(code: u16, value: &Value) -> Answer {
    answer_with(code, Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}))
}

fn answer_with(code: u16, body: impl hyper::body::Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Answer {
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
