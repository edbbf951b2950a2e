//! What a component says of itself in its bytes: nothing of it is compiled or run, so this works for what Weir would
//! refuse, too.

use std::fmt;

use wasmparser::{Encoding, Parser, Payload, ProducersSectionReader};

use crate::artifact::{self, Artifact};
use crate::{Digest, LoadError};

/// How the bytes of an artifact are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// By gzip (RFC 1952).
    Gzip,
    /// By zstd (RFC 8878).
    Zstd,
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// What kind of WebAssembly the bytes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A component, as policies are.
    Component,
    /// A core module, which has to become a component first.
    CoreModule,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::CoreModule => "core module",
        })
    }
}

/// A tool that had a hand in it, by its own account (custom section `producers`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub field: String,
    /// Which one.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
}

/// What can be seen of an artifact from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// SHA-256 of the component, unpacked: what a policy is known by.
    pub digest: Digest,
    /// SHA-256 of the bytes as they are.
    pub packed_digest: Digest,
    /// How they are packed.
    pub packing: Packing,
    /// Bytes as they are.
    pub packed_size: usize,
    /// Bytes of the component.
    pub size: usize,
    /// What it is.
    pub kind: Kind,
    /// Names it imports, in its own order; of a core module, `module/field`.
    pub imports: Vec<String>,
    /// Names it exports, in its own order.
    pub exports: Vec<String>,
    /// Tools that made it, each once.
    pub producers: Vec<Producer>,
}

impl Inspection {
    /// Looks at what `artifact` holds, of which at most `limit` bytes are unpacked.
    ///
    /// # Errors
    /// [`LoadError::TooLarge`], [`LoadError::Packing`], and [`LoadError::Compile`] for what is no WebAssembly.
    pub fn of(artifact: &Artifact, limit: usize) -> Result<Self, LoadError> {
        let bytes = artifact::unpack(&artifact.component, limit)?;
        let mut inspection = Self {
            digest: Digest::of(&bytes),
            packed_digest: Digest::of(&artifact.component),
            packing: artifact::packing(&artifact.component),
            packed_size: artifact.component.len(),
            size: bytes.len(),
            kind: Kind::Component,
            imports: Vec::new(),
            exports: Vec::new(),
            producers: Vec::new(),
        };
        inspection.read(&bytes).map_err(|error| LoadError::Compile(error.to_string()))?;
        inspection.producers.sort();
        inspection.producers.dedup();
        Ok(inspection)
    }

    /// The interfaces of the contract it exports, without the package's name: `balancer@0.1.0`.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.exports.iter().filter_map(|name| name.strip_prefix("weir:policy/"))
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), wasmparser::BinaryReaderError> {
        // Components hold modules and other components; only what stands at the top is its own.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding, .. } => {
                    depth += 1;
                    if depth == 1 && encoding == Encoding::Module {
                        self.kind = Kind::CoreModule;
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        self.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        self.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::ImportSection(imports) if depth == 1 => {
                    for import in imports.into_imports() {
                        let import = import?;
                        self.imports.push(format!("{}/{}", import.module, import.name));
                    }
                }
                Payload::ExportSection(exports) if depth == 1 => {
                    for export in exports {
                        self.exports.push(export?.name.to_owned());
                    }
                }
                Payload::CustomSection(section) if section.name() == "producers" => {
                    let reader = wasmparser::BinaryReader::new(section.data(), section.data_offset());
                    self.producers(ProducersSectionReader::new(reader)?)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn producers(&mut self, fields: ProducersSectionReader<'_>) -> Result<(), wasmparser::BinaryReaderError> {
        for field in fields {
            let field = field?;
            for value in field.values {
                let value = value?;
                self.producers.push(Producer {
                    field: field.name.to_owned(),
                    name: value.name.to_owned(),
                    version: value.version.to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BUILT_IN;

    fn inspect(component: &[u8]) -> Result<Inspection, LoadError> {
        Inspection::of(&Artifact { component: component.to_vec(), ..Artifact::default() }, 32 << 20)
    }

    fn random() -> &'static [u8] {
        BUILT_IN.iter().find(|(name, _)| *name == "random").expect("random is built in").1
    }

    #[test]
    fn a_policy_shows_its_roles_and_makers() {
        let seen = inspect(random()).expect("a component");
        assert_eq!((seen.kind, seen.packing, seen.size), (Kind::Component, Packing::Plain, random().len()));
        assert!(seen.roles().any(|role| role.starts_with("balancer@")), "{:?}", seen.exports);
        assert!(!seen.roles().any(|role| role.starts_with("traffic-policy@")), "{:?}", seen.exports);
        assert!(seen.imports.iter().all(|import| import.starts_with("weir:policy/")), "{:?}", seen.imports);
        assert!(seen.producers.iter().any(|producer| producer.name == "Rust"), "{:?}", seen.producers);
    }

    #[test]
    fn packing_changes_the_outside_only() {
        let packed = zstd::encode_all(random(), 3).expect("packed");
        let (plain, packed) = (inspect(random()).expect("plain"), inspect(&packed).expect("packed"));
        assert_eq!((plain.digest, plain.size), (packed.digest, packed.size));
        assert_eq!(packed.packing, Packing::Zstd);
        assert_ne!(plain.packed_digest, packed.packed_digest);
    }

    #[test]
    fn what_weir_refuses_can_be_looked_at() {
        let seen = inspect(weir_bad_guests::WASI_IMPORT).expect("a component");
        assert!(seen.imports.iter().any(|import| import.starts_with("wasi:")), "{:?}", seen.imports);
        let module = inspect(b"\0asm\x01\0\0\0").expect("an empty module");
        assert_eq!(module.kind, Kind::CoreModule);
        assert!(matches!(inspect(b"not wasm at all"), Err(LoadError::Compile(_))));
    }
}
