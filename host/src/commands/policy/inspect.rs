//! `weir policy inspect`.

use serde::Serialize;
use weir_policy::{About, Engine, Inspection, Kind, Limits, Policy};

use super::artifact;
use super::table::bytes;
use crate::cli::OutputFormat;
use crate::cli::policy::InspectArgs;

/// The whole answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    kind: String,
    digest: String,
    size: usize,
    packing: String,
    packed_size: usize,
    packed_digest: String,
    imports: Vec<String>,
    exports: Vec<String>,
    producers: Vec<String>,
    /// What it says of itself; absent where it cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<Label>,
    /// Why it cannot be asked; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// What a policy says of itself.
#[derive(Serialize)]
struct Label {
    contract: &'static str,
    #[serde(flatten)]
    said: Option<Said>,
}

/// The words of its `about`; a policy of contract 0.1 has none.
#[derive(Serialize)]
struct Said {
    name: String,
    version: String,
    summary: String,
    licence: String,
    inputs: Vec<&'static str>,
}

impl Label {
    fn of(policy: &Policy) -> Self {
        let said = policy.about().map(|about| Said {
            name: about.name.clone(),
            version: about.version.clone(),
            summary: about.summary.clone(),
            licence: about.licence.clone(),
            inputs: about.inputs.names(),
        });
        Self { contract: policy.contract(), said }
    }
}

/// A policy's own words, in a line.
pub(super) fn label(about: &About) -> String {
    let About { name, version, summary, licence, inputs } = about;
    let licence = if licence.is_empty() { "no licence told" } else { licence };
    let inputs = inputs.names();
    let inputs = if inputs.is_empty() { "nothing besides".to_owned() } else { inputs.join(", ") };
    format!("{name} {version} ({licence}): {summary} Asks for {inputs}.")
}

/// Shows what a component is by its bytes, and what it says of itself where Weir would take it.
pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let artifact = artifact(&args.file, "")?;
    let seen = Inspection::of(&artifact, Limits::default().component)?;
    let engine = Engine::new(Limits::default())?;
    let loaded = Policy::from_artifact(&engine, &artifact, &[]);
    let producer = |producer: &weir_policy::Producer| {
        format!("{} {} {}", producer.field, producer.name, producer.version).trim_end().to_owned()
    };
    let report = Report {
        kind: seen.kind.to_string(),
        digest: format!("sha256:{}", seen.digest),
        size: seen.size,
        packing: seen.packing.to_string(),
        packed_size: seen.packed_size,
        packed_digest: format!("sha256:{}", seen.packed_digest),
        imports: seen.imports.clone(),
        exports: seen.exports.clone(),
        producers: seen.producers.iter().map(producer).collect(),
        about: loaded.as_ref().ok().map(Label::of),
        refused: loaded.as_ref().err().map(ToString::to_string),
    };
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        OutputFormat::Text => {
            text(&report, &seen);
            match &loaded {
                Ok(policy) => {
                    println!("contract   weir:policy {}", policy.contract());
                    policy.about().iter().for_each(|about| println!("about      {}", label(about)));
                }
                Err(error) => println!("refused    {error}"),
            }
        }
    }
    Ok(())
}

fn text(report: &Report, seen: &Inspection) {
    println!("kind       {}", report.kind);
    println!("digest     {}", report.digest);
    println!("size       {}", bytes(seen.size as u64));
    if seen.packed_size != seen.size {
        println!("packed     {} by {}, {}", bytes(seen.packed_size as u64), report.packing, report.packed_digest);
    }
    for (title, list) in [("imports", &report.imports), ("exports", &report.exports), ("made by", &report.producers)] {
        for (at, entry) in list.iter().enumerate() {
            println!("{:<10} {entry}", if at == 0 { title } else { "" });
        }
    }
    if seen.kind == Kind::CoreModule {
        println!("advice     `weir policy component` makes a policy of a core module that was built for the contract");
    }
}
