//! `weir policy push` and `weir policy pull`.

use anyhow::{Context, bail};
use weir_policy::{Engine, Inspection, Kind, Limits, Policy};

use super::{MAX_FILE_BYTES, artifact};
use crate::cli::policy::{PullArgs, PushArgs};
use crate::policies::oci::Transport;

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Puts a policy into a registry, if Weir would take it, and prints the reference that names it for good.
pub(super) fn push(args: &PushArgs) -> anyhow::Result<()> {
    let artifact = artifact(&args.file, "")?;
    let limits = Limits::default();
    let seen = Inspection::of(&artifact, limits.component)?;
    if seen.kind == Kind::CoreModule {
        bail!("{} is a core module; `weir policy component` makes a policy of it", args.file.display());
    }
    Policy::from_artifact(&Engine::new(limits)?, &artifact, &[])
        .with_context(|| format!("policy {}", artifact.name))?;
    let transport = Transport { plain_http: args.plain_http };
    let digest = runtime()?.block_on(args.reference.push(transport, artifact.component, &seen))?;
    println!("{}", args.reference.pinned(&digest));
    Ok(())
}

/// Writes a policy from a registry to a file, and prints the reference that names it for good.
pub(super) fn pull(args: &PullArgs) -> anyhow::Result<()> {
    let transport = Transport { plain_http: args.plain_http };
    let limit = usize::try_from(MAX_FILE_BYTES)?;
    let pulled = runtime()?.block_on(args.reference.pull(transport, limit))?;
    std::fs::write(&args.output, &pulled.component)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    println!("{}", args.reference.pinned(&pulled.digest));
    Ok(())
}
