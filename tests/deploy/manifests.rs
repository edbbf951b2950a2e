use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use crate::tools::{self, Need};

/// The folders a user may apply.
pub(crate) const OVERLAYS: [&str; 5] = ["base", "trial", "replace-kube-proxy", "cleanup-weir", "cleanup-kube-proxy"];

/// One Kubernetes object, or another document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object(pub(crate) Value);

impl Object {
    /// `kind`, or nothing.
    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`, or nothing.
    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// What a JSON pointer leads to, as text; nothing where there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// What a JSON pointer leads to.
    ///
    /// # Errors
    /// When it leads nowhere.
    pub(crate) fn get(&self, pointer: &str) -> anyhow::Result<&Value> {
        self.0.pointer(pointer).with_context(|| format!("{} {}: there is no {pointer}", self.kind(), self.name()))
    }
}

/// Every document of a YAML text.
///
/// # Errors
/// When it is not YAML.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Object>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).map(Object).collect())
}

/// The folder with the kustomizations.
pub(crate) fn kustomize_folder() -> PathBuf {
    tools::top().join("deploy/kustomize")
}

/// The objects that `kubectl apply -k` would send for a folder of `deploy/kustomize`.
///
/// # Errors
/// When it cannot be rendered.
pub(crate) fn overlay(name: &str) -> anyhow::Result<Vec<Object>> {
    kustomize(&kustomize_folder().join(name))
}

/// [`overlay`] for any folder.
///
/// # Errors
/// See [`overlay`].
pub(crate) fn kustomize(folder: &Path) -> anyhow::Result<Vec<Object>> {
    let folder = folder.to_str().context("a path in UTF-8")?;
    parse(&tools::run(Need::Kubectl, &["kustomize", folder])?)
}

/// The documents of the plain files in `deploy/kustomize/base`.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn base_files() -> anyhow::Result<Vec<Object>> {
    let folder = kustomize_folder().join("base");
    let mut objects = Vec::new();
    for file in ["namespace.yaml", "rbac.yaml", "daemonset.yaml"] {
        let text = std::fs::read_to_string(folder.join(file)).context(file)?;
        objects.extend(parse(&text).context(file)?);
    }
    Ok(objects)
}

/// The only object of a kind.
///
/// # Errors
/// When there is none, or more than one.
pub(crate) fn only<'a>(objects: &'a [Object], kind: &str) -> anyhow::Result<&'a Object> {
    let mut found = objects.iter().filter(|object| object.kind() == kind);
    let first = found.next().with_context(|| format!("there is no {kind}"))?;
    anyhow::ensure!(found.next().is_none(), "there is more than one {kind}");
    Ok(first)
}

/// Every file below a folder that ends so.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, ending)?);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A file that no kustomization names is applied by nobody.
pub(crate) fn no_strays() -> anyhow::Result<()> {
    let mut folders = 0;
    for path in files(&kustomize_folder(), ".yaml")? {
        let folder = path.parent().context("a folder")?;
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
        if name == "kustomization.yaml" {
            folders += 1;
            continue;
        }
        let kustomization = std::fs::read_to_string(folder.join("kustomization.yaml"))?;
        let named = kustomization.lines().any(|line| !line.starts_with('#') && line.contains(name));
        anyhow::ensure!(named, "{}: no kustomization names it", path.display());
    }
    anyhow::ensure!(
        folders == OVERLAYS.len() + 1,
        "{folders} kustomizations, besides `policies` {OVERLAYS:?} are known"
    );
    Ok(())
}
