//! The file of cases that `weir policy test` runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::super::scene::Text;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Cases {
    /// Manifests of every case, before its own.
    #[serde(default)]
    manifests: Vec<Manifest>,
    /// The node that asks, where a case names none.
    #[serde(default)]
    node: String,
    /// Its zone.
    #[serde(default)]
    zone: String,
    /// Settings, where a case gives none.
    #[serde(default)]
    settings: Value,
    /// The cases.
    pub(super) cases: Vec<Case>,
}

/// One case: a cluster, and what a policy should make of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Case {
    /// What it shows.
    pub(super) name: String,
    #[serde(default)]
    manifests: Vec<Manifest>,
    node: Option<String>,
    zone: Option<String>,
    settings: Option<Value>,
    /// What must come out, port by port.
    pub(super) expect: Vec<Expected>,
}

/// A manifest: a path, counted from the file of cases, or the object itself.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Manifest {
    Path(PathBuf),
    Object(Value),
}

/// What should become of the ports of a Service; what it does not say may be anything.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expected {
    /// `namespace/name`; without a namespace, `default`.
    pub(super) service: String,
    /// Name of the port, or its number when it has none; every port when absent.
    pub(super) port: Option<PortName>,
    /// `IPv4` or `IPv6`; both when absent.
    pub(super) family: Option<String>,
    /// `cluster`, `local`, `reject` or `drop`.
    pub(super) internal: Option<String>,
    /// The same for clients from outside.
    pub(super) external: Option<String>,
    /// The cluster-wide list.
    pub(super) cluster: Option<ExpectedList>,
    /// The list of endpoints on this node.
    pub(super) local: Option<ExpectedList>,
    /// A part of the reason.
    pub(super) reason: Option<String>,
    /// The stable word of the failure that must happen; where this is absent, none may.
    pub(super) failure: Option<String>,
    /// A part of what the failure says.
    pub(super) message: Option<String>,
}

/// A port, as people write it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum PortName {
    Number(u16),
    Name(String),
}

/// How connections should spread.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExpectedList {
    /// `random`, `round-robin`, `source-hash` or `flow-hash`.
    pub(super) index: Option<String>,
    /// Seconds a client keeps its endpoint.
    pub(super) affinity_seconds: Option<u32>,
    /// The endpoints of the list, in any order: addresses, with or without a port.
    pub(super) endpoints: Option<Vec<String>>,
    /// Endpoint → its share in per cent; the list has these endpoints and no others.
    pub(super) shares: Option<BTreeMap<String, f64>>,
}

/// What a case asks about.
pub(super) struct Question {
    pub(super) paths: Vec<PathBuf>,
    pub(super) texts: Vec<Text>,
    pub(super) node: String,
    pub(super) zone: String,
    /// JSON; empty for none.
    pub(super) settings: String,
}

impl Cases {
    /// Reads a file of cases.
    ///
    /// # Errors
    /// When it cannot be read, or has another shape; line, column and field are named.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cases {}", path.display()))?;
        serde_saphyr::from_str(&text).map_err(|error| {
            anyhow::anyhow!("cases {}: {}", path.display(), weir_source::manifests::explain(&error, 0))
        })
    }

    /// What `case` asks about; paths count from `folder`.
    pub(super) fn question(&self, case: &Case, folder: &Path) -> Question {
        let (mut paths, mut texts) = (Vec::new(), Vec::new());
        for (at, manifest) in (1..).zip(self.manifests.iter().chain(&case.manifests)) {
            match manifest {
                Manifest::Path(path) => paths.push(folder.join(path)),
                // The ending tells how the text is to be read.
                Manifest::Object(object) => texts.push((format!("manifest-{at}.json").into(), object.to_string())),
            }
        }
        let settings = case.settings.as_ref().unwrap_or(&self.settings);
        Question {
            paths,
            texts,
            node: case.node.clone().unwrap_or_else(|| self.node.clone()),
            zone: case.zone.clone().unwrap_or_else(|| self.zone.clone()),
            settings: match settings {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            },
        }
    }
}
