//! `weir policy component`.

use anyhow::Context;
use wit_component::ComponentEncoder;

use crate::cli::policy::ComponentArgs;

/// Makes a component of a core module whose compiler left word in it of the contract it was built for.
pub(super) fn run(args: &ComponentArgs) -> anyhow::Result<()> {
    let module = std::fs::read(&args.module).with_context(|| format!("module {}", args.module.display()))?;
    let encoded = ComponentEncoder::default().module(&module).and_then(|encoder| encoder.validate(true).encode());
    let component = encoded.with_context(|| {
        format!(
            "module {} cannot become a component: its bindings must be generated from wit/policy.wit, by wit-bindgen or \
             alike, and it must not use WASI",
            args.module.display()
        )
    })?;
    std::fs::write(&args.output, component).with_context(|| format!("cannot write {}", args.output.display()))
}
