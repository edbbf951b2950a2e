//! Configuration files: any number of them, with documents of Weir's own kind and of kube-proxy's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, options};
use weir_source::manifests::{documents, explain};

use super::kube_proxy::{self, KubeProxyConfiguration, Translated};
use super::layer::Layer;
use super::mode::{self, Mode};
use super::{API_VERSION, Config, KIND};

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--proxy-mode`.
    pub mode: Option<String>,
    /// Every other setting with a flag of its own.
    pub layer: Layer,
}

/// A configuration, and what the operator should know of how it came about.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The settings that count.
    pub config: Config,
    /// Sentences; each names file, document and field.
    pub notes: Vec<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the configuration {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A document is not YAML of the right shape.
    #[error("configuration {place}: {why}")]
    Document {
        /// File and document.
        place: String,
        /// What is wrong, with line, column and field.
        why: String,
    },
    /// A field holds something that makes no sense.
    #[error("configuration {place}: {field}: {why}")]
    Field {
        /// File and document, or the command line.
        place: String,
        /// The field, as it is called there.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// Reads configuration files and puts them together with the command line.
///
/// Of two documents of one kind the later wins, field by field, where it says something. Weir's own documents win over
/// kube-proxy's, wherever they stand, and the command line wins over both.
///
/// # Errors
/// See [`ConfigError`].
pub fn read(files: &[PathBuf], flags: &Flags) -> Result<Loaded, ConfigError> {
    let command_line = || "on the command line".to_owned();
    let wrong_flag = |(field, why)| ConfigError::Field { place: command_line(), field, why };
    let mode = flags.mode.as_deref().map(Mode::read).transpose().map_err(|why| wrong_flag(("--proxy-mode", why)))?;
    let mut found = Found { mode, ..Found::default() };
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Read { path: file.clone(), error })?;
        for (number, (before, document)) in (1..).zip(documents(&text)) {
            found.take(file, number, before, document)?;
        }
    }
    if mode == Some(Mode::Ipvs) && !found.has_kube_proxy {
        found.notes.extend(mode::ipvs("", &mut found.kube_proxy));
    }
    found.merge(&flags.layer, &command_line())
}

/// What the files say.
#[derive(Default)]
struct Found {
    mode: Option<Mode>,
    has_kube_proxy: bool,
    kube_proxy: Layer,
    own: Layer,
    notes: Vec<String>,
    /// Which document said a field last.
    places: BTreeMap<String, String>,
}

impl Found {
    fn take(&mut self, file: &Path, number: usize, before: u64, text: &str) -> Result<(), ConfigError> {
        let place = format!("{}, document {number}", file.display());
        let wrong = |why| ConfigError::Document { place: place.clone(), why };
        let document: Value = parse(text, before).map_err(wrong)?;
        let word = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
        match (word("apiVersion"), word("kind")) {
            (kube_proxy::API_VERSION, kube_proxy::KIND) => {
                let typed: KubeProxyConfiguration = parse(text, before).map_err(wrong)?;
                let Translated { layer, notes } = typed
                    .translate(self.mode, &document)
                    .map_err(|(field, why)| ConfigError::Field { place: place.clone(), field, why })?;
                self.has_kube_proxy = true;
                self.kube_proxy.cover(&layer);
                self.notes.extend(notes.into_iter().map(|note| format!("{place}: {note}")));
                for (field, _) in layer.fields() {
                    // Weir's own word counts, so a complaint about the field is not about this document.
                    let own = self.own.fields().iter().any(|(known, _)| *known == field);
                    if !own {
                        self.places.insert(field, place.clone());
                    }
                }
            }
            ("" | API_VERSION, "" | KIND) => {
                let _: Config = parse(text, before).map_err(wrong)?;
                let Value::Object(object) = document else { return Err(wrong("it is no object".to_owned())) };
                let layer = Layer::of(object);
                self.own.cover(&layer);
                let fields = layer.fields().into_iter().map(|(field, _)| (field, place.clone()));
                self.places.extend(fields);
            }
            (version, kind) => {
                let known = format!("{API_VERSION} {KIND} and {} {}", kube_proxy::API_VERSION, kube_proxy::KIND);
                return Err(wrong(format!("apiVersion {version:?}, kind {kind:?} is not known; there are {known}")));
            }
        }
        Ok(())
    }

    fn merge(mut self, flags: &Layer, command_line: &str) -> Result<Loaded, ConfigError> {
        for (field, theirs) in self.kube_proxy.fields() {
            let own = self.own.fields().into_iter().find(|(known, _)| *known == field).map(|(_, value)| value.clone());
            if let Some(own) = own.filter(|own| own != theirs) {
                let note = format!("{field}: {own} of the {KIND} counts, not {theirs} of the {}", kube_proxy::KIND);
                self.notes.push(note);
            }
        }
        let mut all = self.kube_proxy.clone();
        all.cover(&self.own);
        all.cover(flags);
        self.places.extend(flags.fields().into_iter().map(|(field, _)| (field, command_line.to_owned())));
        let place = |field: &str| {
            let said = self.places.iter().find(|(path, _)| path.split('.').eq(field.split('.')));
            let anywhere = || self.places.values().next().cloned();
            said.map(|(_, place)| place.clone()).or_else(anywhere).unwrap_or_default()
        };
        // Every layer was checked against the type before.
        let config: Config = serde_json::from_value(all.into_value())
            .map_err(|error| ConfigError::Document { place: command_line.to_owned(), why: error.to_string() })?;
        config.check().map_err(|(field, why)| ConfigError::Field { place: place(field), field, why })?;
        Ok(Loaded { config, notes: self.notes })
    }
}

/// One document. Errors name line and column of the file.
fn parse<T: DeserializeOwned>(text: &str, before: u64) -> Result<T, String> {
    let options = options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(&error, before))
}
