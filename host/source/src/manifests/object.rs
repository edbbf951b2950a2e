//! Documents into objects.

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_model::{NodeSpec, ObjectKey, ServiceSpec, SliceSpec};

use super::problem::{Place, Problem, Severity};
use crate::convert::{self, ConfigMapSpec, Converted, DEFAULT_NAMESPACE, FieldProblem, Selection};

/// Kinds that belong to no namespace.
const CLUSTER_SCOPED: [&str; 2] = ["Node", "ServiceCIDR"];

/// An object we use. Shared, because the list of a file and that of all files hold the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Service(Arc<ServiceSpec>),
    Slice(Arc<SliceSpec>),
    ConfigMap(Arc<ConfigMapSpec>),
    /// This node's.
    Node(Arc<ObjectKey>, Arc<NodeSpec>),
    ServiceCidr(Arc<ObjectKey>, Arc<Vec<IpNet>>),
}

/// An object and the number of its document.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) document: usize,
    pub(super) object: Object,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// Which objects count.
    pub(super) selection: Arc<Selection>,
    pub(super) objects: Vec<Located>,
    pub(super) problems: Vec<Problem>,
}

impl Object {
    /// Kind and name: two objects that share them are versions of one.
    pub(super) fn identity(&self) -> (&'static str, &ObjectKey) {
        match self {
            Self::Service(spec) => ("Service", &spec.key),
            Self::Slice(spec) => ("EndpointSlice", &spec.key),
            Self::ConfigMap(spec) => ("ConfigMap", &spec.key),
            Self::Node(key, _) => ("Node", key),
            Self::ServiceCidr(key, _) => ("ServiceCIDR", key),
        }
    }
}

impl Parsed {
    /// Takes in one document, or one item of a list.
    pub(super) fn take(&mut self, value: Value, mut place: Place) {
        if !value.is_object() {
            return self.problems.push(place.problem(Severity::Error, "not a Kubernetes object: a mapping is needed"));
        }
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (field("apiVersion"), field("kind"));
        place.object = Some(describe(&kind, &value));
        match (version.as_str(), kind.as_str()) {
            (_, "") => self.problems.push(place.field_problem(Severity::Error, missing("kind"))),
            ("", _) => self.problems.push(place.field_problem(Severity::Error, missing("apiVersion"))),
            ("v1", "Service") => self.service(value, &place),
            ("v1", "ConfigMap") => self.config_map(value, &place),
            ("v1", "Node") => self.node(value, &place),
            ("discovery.k8s.io/v1", "EndpointSlice") => self.slice(value, &place),
            ("networking.k8s.io/v1", "ServiceCIDR") => self.service_cidr(value, &place),
            ("v1", "List") => self.list(value, &place, None),
            ("v1", "ServiceList") => self.list(value, &place, Some("Service")),
            ("v1", "ConfigMapList") => self.list(value, &place, Some("ConfigMap")),
            ("v1", "NodeList") => self.list(value, &place, Some("Node")),
            ("discovery.k8s.io/v1", "EndpointSliceList") => self.list(value, &place, Some("EndpointSlice")),
            ("networking.k8s.io/v1", "ServiceCIDRList") => self.list(value, &place, Some("ServiceCIDR")),
            (other, "EndpointSlice") => {
                let message = format!("{other} is not supported; use discovery.k8s.io/v1");
                let problem = FieldProblem { field: "apiVersion".to_owned(), message };
                self.problems.push(place.field_problem(Severity::Error, problem));
            }
            ("v1", "Endpoints") => {
                self.problems.push(place.problem(Severity::Warning, "Endpoints are not used; write an EndpointSlice"));
            }
            _ => self.problems.push(place.problem(Severity::Note, "skipped: not a kind that is programmed")),
        }
    }

    /// Whether something of the file could not be used.
    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn list(&mut self, mut list: Value, place: &Place, kind: Option<&str>) {
        let version = list.get("apiVersion").cloned().unwrap_or_default();
        let items = match list.get_mut("items").map(Value::take) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                let problem = FieldProblem { field: "items".to_owned(), message: "a list is needed".to_owned() };
                return self.problems.push(place.field_problem(Severity::Error, problem));
            }
        };
        for (at, mut item) in items.into_iter().enumerate() {
            let place = Place { object: None, item: Some(at), ..place.clone() };
            // The items of a typed list may leave out what the list says already.
            if let (Some(kind), Some(fields)) = (kind, item.as_object_mut()) {
                fields.entry("kind").or_insert_with(|| kind.into());
                fields.entry("apiVersion").or_insert_with(|| version.clone());
            }
            if item.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) {
                self.problems.push(place.problem(Severity::Error, "a list inside a list is not supported"));
            } else {
                self.take(item, place);
            }
        }
    }

    fn service(&mut self, value: Value, place: &Place) {
        let Some(object) = self.typed::<Service>(value, place) else { return };
        let mut warnings = Vec::new();
        let converted = convert::service(&object, &self.selection, &mut warnings);
        self.add(converted, warnings, place, |spec| Object::Service(Arc::new(spec)));
    }

    fn slice(&mut self, value: Value, place: &Place) {
        let Some(object) = self.typed::<EndpointSlice>(value, place) else { return };
        let mut warnings = Vec::new();
        let converted = convert::slice(&object, &mut warnings);
        self.add(converted, warnings, place, |spec| Object::Slice(Arc::new(spec)));
    }

    fn config_map(&mut self, value: Value, place: &Place) {
        let Some(object) = self.typed::<ConfigMap>(value, place) else { return };
        let converted = convert::config_map(object).map(Converted::Taken);
        self.add(converted, Vec::new(), place, |spec| Object::ConfigMap(Arc::new(spec)));
    }

    fn node(&mut self, value: Value, place: &Place) {
        let Some(object) = self.typed::<Node>(value, place) else { return };
        let converted = cluster_key(&object.metadata).and_then(|key| {
            if key.name != self.selection.node {
                return Ok(Converted::Ignored("it is another node"));
            }
            Ok(Converted::Taken((key, convert::node(&object)?)))
        });
        self.add(converted, Vec::new(), place, |(key, spec)| Object::Node(Arc::new(key), Arc::new(spec)));
    }

    fn service_cidr(&mut self, value: Value, place: &Place) {
        let Some(object) = self.typed::<ServiceCIDR>(value, place) else { return };
        let converted =
            cluster_key(&object.metadata).and_then(|key| Ok(Converted::Taken((key, convert::service_cidr(&object)?))));
        self.add(converted, Vec::new(), place, |(key, ranges)| Object::ServiceCidr(Arc::new(key), Arc::new(ranges)));
    }

    fn typed<T: DeserializeOwned>(&mut self, value: Value, place: &Place) -> Option<T> {
        match serde_path_to_error::deserialize(value) {
            Ok(object) => Some(object),
            Err(error) => {
                let problem = FieldProblem { field: error.path().to_string(), message: error.inner().to_string() };
                self.problems.push(place.field_problem(Severity::Error, problem));
                None
            }
        }
    }

    fn add<T>(
        &mut self,
        converted: Result<Converted<T>, FieldProblem>,
        warnings: Vec<FieldProblem>,
        place: &Place,
        object: impl FnOnce(T) -> Object,
    ) {
        self.problems.extend(warnings.into_iter().map(|warning| place.field_problem(Severity::Warning, warning)));
        match converted {
            Ok(Converted::Taken(spec)) => self.objects.push(Located { document: place.document, object: object(spec) }),
            Ok(Converted::Ignored(why)) => self.problems.push(place.problem(Severity::Note, format!("skipped: {why}"))),
            Err(problem) => self.problems.push(place.field_problem(Severity::Error, problem)),
        }
    }
}

/// The name of an object that belongs to no namespace.
fn cluster_key(meta: &ObjectMeta) -> Result<ObjectKey, FieldProblem> {
    let name = meta.name.clone().filter(|name| !name.is_empty()).ok_or_else(|| missing("metadata.name"))?;
    Ok(ObjectKey { namespace: String::new(), name })
}

fn missing(field: &str) -> FieldProblem {
    FieldProblem { field: field.to_owned(), message: "required".to_owned() }
}

/// Kind, namespace and name, as far as they can be read.
fn describe(kind: &str, value: &Value) -> String {
    let meta = |name: &str| value.get("metadata").and_then(|meta| meta.get(name)).and_then(Value::as_str);
    let kind = if kind.is_empty() { "object" } else { kind };
    match meta("name") {
        Some(name) if CLUSTER_SCOPED.contains(&kind) => format!("{kind} {name}"),
        Some(name) => format!("{kind} {}/{name}", meta("namespace").unwrap_or(DEFAULT_NAMESPACE)),
        None => kind.to_owned(),
    }
}
