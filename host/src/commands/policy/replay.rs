//! Calls from records: repeated, and put to two policies.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use weir_policy::{CallOutcome, Policy, Record, Role};

use super::{Workshop, artifact};
use crate::cli::OutputFormat;
use crate::cli::policy::{DiffArgs, RunArgs};

/// Largest file of records that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// One call, repeated.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Repeated {
    /// The Service port.
    port: String,
    role: Role,
    /// Whether the answers are the same, bit for bit.
    same: bool,
    /// What was recorded, or what the old policy says.
    before: CallOutcome,
    /// What came of it now.
    now: CallOutcome,
}

/// The records in the files: each holds one, or a list of them as `/debug/records/` hands it out.
fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for path in paths {
        records.extend(read_one(path).with_context(|| format!("record {}", path.display()))?);
    }
    if records.is_empty() {
        bail!("there is no record in these files");
    }
    Ok(records)
}

fn read_one(path: &Path) -> anyhow::Result<Vec<Record>> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE_BYTES {
        bail!("{size} bytes are more than the {MAX_FILE_BYTES} a file of records may have");
    }
    let text = std::fs::read_to_string(path)?;
    if text.trim_start().starts_with('[') {
        Ok(serde_json::from_str(&text)?)
    } else {
        Ok(vec![serde_json::from_str(&text)?])
    }
}

/// `weir policy run FILE --replay RECORD…`: the settings are those of the records. Fails where an answer is another.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let records = read(&args.replay)?;
    let workshop = Workshop::open()?;
    let policy = workshop.load(&artifact(&args.subject.file, "")?)?;
    let digest = policy.digest().to_string();
    let mut repeated = Vec::new();
    for record in records.iter().filter(|record| policy.plays(record.role)) {
        let now = record.replay(&policy).with_context(|| format!("record of {}", record.place()))?;
        if record.digest != digest {
            eprintln!("note: {} was decided by another component, sha256:{}", record.place(), record.digest);
        }
        repeated.push(Repeated {
            port: record.place(),
            role: record.role,
            same: now == record.outcome,
            before: record.outcome.clone(),
            now,
        });
    }
    if repeated.is_empty() {
        bail!("policy {} does not play the role of any of the records", policy.name());
    }
    show(&repeated, args.output, ["recorded", "repeated"])?;
    let others = repeated.iter().filter(|call| !call.same).count();
    anyhow::ensure!(
        others == 0,
        "{others} of {} got another answer than recorded",
        super::count(repeated.len(), "call")
    );
    Ok(())
}

/// `weir policy diff OLD NEW RECORD…`.
pub(super) fn diff(args: &DiffArgs) -> anyhow::Result<()> {
    let records = read(&args.records)?;
    let workshop = Workshop::open()?;
    let load = |file: &Path| -> anyhow::Result<Policy> { workshop.load(&artifact(file, "")?) };
    let (old, new) = (load(&args.old)?, load(&args.new)?);
    let mut calls = Vec::new();
    for record in records.iter().filter(|record| old.plays(record.role) && new.plays(record.role)) {
        let ask = |policy: &Policy| record.replay(policy).with_context(|| format!("record of {}", record.place()));
        let (before, now) = (ask(&old)?, ask(&new)?);
        calls.push(Repeated { port: record.place(), role: record.role, same: before == now, before, now });
    }
    let (total, changed): (usize, Vec<Repeated>) = (calls.len(), calls.into_iter().filter(|call| !call.same).collect());
    show(&changed, args.output, [old.name(), new.name()])?;
    if args.output == OutputFormat::Text {
        println!("{} of {} would get another answer", changed.len(), super::count(total, "recorded call"));
    }
    Ok(())
}

fn show(calls: &[Repeated], output: OutputFormat, names: [&str; 2]) -> anyhow::Result<()> {
    if output == OutputFormat::Json {
        println!("{}", serde_json::to_string_pretty(calls)?);
        return Ok(());
    }
    for call in calls {
        println!("{:<5}  {}, asked as {}", if call.same { "same" } else { "OTHER" }, call.port, call.role);
        println!("       {}: {}", names[0], call.before);
        if !call.same {
            println!("       {}: {}", names[1], call.now);
        }
    }
    Ok(())
}
