//! `weir render`.

use weir_nft::{sim::Memory, text};

use crate::cli::InputArgs;
use crate::config::Config;
use crate::node;

/// Prints the ruleset the manifests ask for.
pub(crate) fn run(args: &InputArgs, config: &Config) -> anyhow::Result<()> {
    let loaded = super::load(&super::paths(args.manifests.as_ref(), &args.files), config)?;
    let addresses = node::addresses()?;
    let mut pipeline =
        super::pipeline(config, super::catalog(config, args.policies.as_deref())?, &addresses, Memory::default());
    super::apply(&mut pipeline, config, &addresses, loaded);
    pipeline.sync()?.log_problems();
    print!("{}", text::ruleset(&pipeline.installed().ruleset()));
    Ok(())
}
