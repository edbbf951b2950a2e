use std::path::PathBuf;

use anyhow::Context;

use crate::tools;
use crate::{manifests, typed};

/// The documents about running Weir in a cluster.
const DOCUMENTS: [&str; 4] = ["README.md", "deploy/README.md", "docs/getting-started.md", "docs/troubleshooting.md"];

/// Links to files, and files and folders of `deploy/` that commands name.
pub(crate) fn links() -> anyhow::Result<()> {
    let mut seen = 0;
    for document in DOCUMENTS {
        let path = tools::top().join(document);
        let text = std::fs::read_to_string(&path).context(document)?;
        let folder = path.parent().context("a folder")?;
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
        let targets = links.map(|link| folder.join(link.split('#').next().unwrap_or(link)));
        let words = text.split(|c: char| c.is_whitespace() || "`()".contains(c));
        // A component is what the reader brings.
        let named = words.filter(|word| word.starts_with("deploy/") && !word.ends_with(".wasm"));
        let named = named.map(|word| tools::top().join(word.trim_end_matches(['.', ',', ':', ';'])));
        for target in targets.chain(named).collect::<Vec<PathBuf>>() {
            seen += 1;
            anyhow::ensure!(target.exists(), "{document}: there is no {}", target.display());
        }
    }
    anyhow::ensure!(seen > 20, "only {seen} links found");
    Ok(())
}

/// Whole objects in the documents are what Kubernetes takes.
pub(crate) fn yaml() -> anyhow::Result<()> {
    let mut objects = 0;
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(tools::top().join(document)).context(document)?;
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks {
            let parsed = manifests::parse(block).with_context(|| format!("{document}:\n{block}"))?;
            for object in parsed.iter().filter(|object| ["Service", "ConfigMap"].contains(&object.kind())) {
                objects += 1;
                typed::check(object).with_context(|| format!("{document}:\n{block}"))?;
            }
        }
    }
    anyhow::ensure!(objects > 0, "no object found");
    Ok(())
}
