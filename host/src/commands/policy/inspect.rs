//! `weir policy inspect`.

use serde::Serialize;
use weir_policy::{Inspection, Kind, Limits};

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
}

/// Shows what a component is, by its bytes alone.
pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let artifact = artifact(&args.file, "")?;
    let seen = Inspection::of(&artifact, Limits::default().component)?;
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
    };
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        OutputFormat::Text => text(&report, &seen),
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
        println!("\na core module is no policy yet: `wasm-tools component new` makes it a component");
    }
}
