//! `weir check-config`.

use crate::cli::CheckConfigArgs;
use crate::config::{self, Loaded};

/// Prints the settings the files come to; what the operator should know goes to standard error.
pub(crate) fn run(args: &CheckConfigArgs) -> anyhow::Result<()> {
    let Loaded { config, notes } = config::read(&args.files, &args.proxy.flags(None, None))?;
    notes.iter().for_each(|note| eprintln!("warning: {note}"));
    print!("{}", serde_saphyr::to_string(&config)?);
    Ok(())
}
