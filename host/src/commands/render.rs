//! `weir render`.

use weir_nft::text;

use crate::cli::RenderArgs;
use crate::config::Config;
use crate::node;

/// Prints the ruleset the manifests ask for.
pub(crate) fn run(args: &RenderArgs, config: &Config) -> anyhow::Result<()> {
    let pipeline = super::planned(&args.input, config, &node::addresses()?)?;
    print!("{}", text::ruleset(&pipeline.installed().ruleset()));
    Ok(())
}
