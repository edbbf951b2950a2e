//! `weir policy component`.

mod stub;

use anyhow::{Context, bail};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::cli::policy::ComponentArgs;

/// The contract, for modules that carry no word of it.
const CONTRACT: &str = include_str!("../../../../wit/policy.wit");

/// Makes a component of a core module. What it was built for is told by its bindings, or by `--world`; calls of WASI
/// lead to answers within the component where `--stub-wasi` says so.
pub(super) fn run(args: &ComponentArgs) -> anyhow::Result<()> {
    let module = std::fs::read(&args.module).with_context(|| format!("module {}", args.module.display()))?;
    let component = component(&module, args.world.as_deref(), args.stub_wasi)
        .with_context(|| format!("module {} cannot become a component", args.module.display()))?;
    std::fs::write(&args.output, component).with_context(|| format!("cannot write {}", args.output.display()))
}

/// The component of `module`, validated.
fn component(module: &[u8], world: Option<&str>, stub_wasi: bool) -> anyhow::Result<Vec<u8>> {
    let seen = Seen::of(module)?;
    let mut module = module.to_vec();
    match world {
        Some(_) if seen.contract => bail!("its bindings say already what it was built for; leave out --world"),
        Some(world) => embed(&mut module, world)?,
        None if !seen.contract => bail!(
            "it does not say what it was built for: generate its bindings from wit/policy.wit, by wit-bindgen or alike; \
             if you wrote them by hand, name their world, for example --world balancer-only"
        ),
        None => {}
    }
    let mut encoder = ComponentEncoder::default().validate(true).module(&module)?;
    if let Some(import) = &seen.wasi {
        if !stub_wasi {
            bail!(
                "it calls WASI ({import}), and policies see no clock, files, network or randomness: build it without \
                 WASI, or add --stub-wasi, so that such calls are answered by the component itself"
            );
        }
        encoder = encoder.adapter(stub::MODULE, &stub::adapter(&module)?)?;
    }
    encoder.encode()
}

/// Writes into `module` that it was built for that world of the contract.
fn embed(module: &mut Vec<u8>, world: &str) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("policy.wit", CONTRACT).context("the contract")?;
    let world = resolve.select_world(&[package], Some(world)).with_context(|| format!("world {world:?}"))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
}

/// What matters of a core module.
#[derive(Debug, Default)]
struct Seen {
    /// Whether its bindings left word of the contract.
    contract: bool,
    /// A function of WASI that it calls.
    wasi: Option<String>,
}

impl Seen {
    fn of(module: &[u8]) -> anyhow::Result<Self> {
        if !Parser::is_core_wasm(module) {
            bail!("it is no core WebAssembly module");
        }
        let mut seen = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::CustomSection(section) if section.name().starts_with("component-type") => seen.contract = true,
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if import.module == stub::MODULE && seen.wasi.is_none() {
                            seen.wasi = Some(format!("{}.{}", import.module, import.name));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(seen)
    }
}
