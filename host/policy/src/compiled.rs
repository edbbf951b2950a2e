//! A policy, compiled once and checked before anybody relies on it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, InstancePre};

use crate::Engine;
use crate::about::{About, Inputs, SettingProblem};
use crate::artifact::{self, Artifact};
use crate::call::{Contract, Instance};
use crate::catalog::is_built_in;
use crate::host::HostState;
use crate::subject::Subjects;

/// SHA-256 of a component: what it is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first eight bytes, for hashes of what an answer depends on.
    pub(crate) fn short(&self) -> u64 {
        self.0.iter().take(8).fold(0, |short, byte| short << 8 | u64::from(*byte))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a policy can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Which endpoints may serve.
    TrafficPolicy,
    /// How connections spread.
    Balancer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrafficPolicy => "traffic policy",
            Self::Balancer => "balancer",
        })
    }
}

/// Why a component cannot be a policy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is too large to compile safely.
    #[error("the component has {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It is packed, and cannot be unpacked.
    #[error("the component cannot be unpacked: {0}")]
    Packing(String),
    /// Its name belongs to a policy of the binary.
    #[error("{0:?} is a built-in policy, whose name cannot be taken")]
    BuiltInName(String),
    /// Its default settings are no JSON, or it does not like them itself.
    #[error("its settings are refused: {0}")]
    Settings(String),
    /// It names nobody to decide where it fails.
    #[error("its fail-strategy {0:?} is no built-in policy")]
    FailStrategy(String),
    /// It is a core module.
    #[error(
        "this is a core WebAssembly module, not a component: `weir policy component MODULE -o FILE` makes one of it, if \
         its bindings come from wit/policy.wit (`wasm-tools component new` does, too)"
    )]
    CoreModule,
    /// It is not valid WebAssembly, or uses a proposal that is off because its results differ between machines.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It wants WASI.
    #[error(
        "the component imports {import}: policies see no clock, files, network or randomness. Build it without \
         WASI (Rust: target wasm32-unknown-unknown; componentize-py: --stub-wasi; jco: --disable all)"
    )]
    ImportsWasi {
        /// The first such import.
        import: String,
    },
    /// It wants something else Weir does not have.
    #[error("the component imports {import}, which Weir does not offer; this Weir speaks weir:policy@0.2 and @0.1")]
    UnknownImport {
        /// The first such import.
        import: String,
    },
    /// It plays no role.
    #[error(
        "the component exports neither weir:policy/traffic-policy nor weir:policy/balancer of version 0.2 (with \
         weir:policy/about) or 0.1, so it is no policy for this Weir; it exports {exports}"
    )]
    WrongWorld {
        /// What it exports instead.
        exports: String,
    },
    /// It needs more than it may have, or its types are not the contract's.
    #[error("the component cannot be started: {0}")]
    Trial(String),
}

impl LoadError {
    /// A stable word for metrics and status.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::Packing(_) => "packing",
            Self::BuiltInName(_) => "built-in-name",
            Self::Settings(_) => "settings",
            Self::FailStrategy(_) => "fail-strategy",
            Self::CoreModule => "core-module",
            Self::Compile(_) => "compile",
            Self::ImportsWasi { .. } => "imports-wasi",
            Self::UnknownImport { .. } => "unknown-import",
            Self::WrongWorld { .. } => "wrong-world",
            Self::Trial(_) => "trial",
        }
    }
}

/// A checked policy. A clone shares the compiled code.
#[derive(Clone)]
pub struct Policy {
    pub(crate) name: Arc<str>,
    pub(crate) engine: Engine,
    pub(crate) pre: InstancePre<HostState>,
    pub(crate) contract: Contract,
    /// What it says of itself; `None` for one of contract 0.1, which had no word for that.
    about: Option<Arc<About>>,
    digest: Digest,
    /// Settings for Services that give none; empty for none.
    pub(crate) settings: Arc<str>,
    /// The policy that decides where this one fails; empty for the built-in ones.
    pub(crate) fail_strategy: Arc<str>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Policy {
    /// Compiles `bytes` and checks that it is a policy: size, imports, exports, and a trial start. `name` is what
    /// logs call it.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let limit = engine.limits.component;
        if bytes.len() > limit {
            return Err(LoadError::TooLarge { size: bytes.len(), limit });
        }
        // Layer 0 with version 1 is a core module; a component has layer 1.
        if bytes.starts_with(b"\0asm\x01\0\0\0") {
            return Err(LoadError::CoreModule);
        }
        // Compiling is not meant to panic; where it does, the daemon must not end with it.
        let compiled = catch_unwind(AssertUnwindSafe(|| Component::new(&engine.wasm, bytes)));
        let component = match compiled {
            Ok(compiled) => compiled.map_err(|why| LoadError::Compile(format!("{why:#}")))?,
            Err(_) => return Err(LoadError::Compile("the compiler gave up on it".to_owned())),
        };
        check_imports(engine, &component)?;
        let pre = engine.linker.instantiate_pre(&component).map_err(|why| LoadError::Trial(format!("{why:#}")))?;
        let Some(contract) = Contract::of(&pre) else {
            return Err(LoadError::WrongWorld { exports: exports(engine, &component) });
        };
        let digest = Digest::of(bytes);
        let (settings, fail_strategy) = (Arc::from(""), Arc::from(""));
        let (name, engine) = (Arc::from(name), engine.clone());
        let mut policy = Self { name, engine, pre, contract, about: None, digest, settings, fail_strategy };
        // Records that differ from the contract's pass every check before this one.
        policy.alone()?.try_roles()?;
        policy.about = policy.alone()?.describe().map_err(|problem| LoadError::Trial(problem.message))?.map(Arc::new);
        Ok(policy)
    }

    /// An instance that is asked about no Service.
    fn alone(&self) -> Result<Instance<'_>, LoadError> {
        Instance::start(self, Arc::new(Subjects::none()), None).map_err(|problem| LoadError::Trial(problem.message))
    }

    /// What it finds wrong with these settings (JSON, or empty for none). A policy of contract 0.1 has no say before
    /// it is asked to decide.
    ///
    /// # Errors
    /// When it cannot be asked: it traps, or uses up what it may use.
    pub fn check(&self, settings: &str) -> Result<Vec<SettingProblem>, LoadError> {
        self.alone()?.check(settings).map_err(|problem| LoadError::Trial(problem.message))
    }

    /// What it says of itself; `None` for one of contract 0.1.
    #[must_use]
    pub fn about(&self) -> Option<&About> {
        self.about.as_deref()
    }

    /// The version of the contract it speaks.
    #[must_use]
    pub fn contract(&self) -> &'static str {
        self.contract.version()
    }

    /// What it wants to see.
    pub(crate) fn inputs(&self) -> Inputs {
        self.about.as_ref().map(|about| about.inputs).unwrap_or_default()
    }

    /// The policy in `artifact`, checked with all that comes with it. Where `known` has the same component it is not
    /// compiled again.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_artifact(engine: &Engine, artifact: &Artifact, known: &[Arc<Self>]) -> Result<Self, LoadError> {
        let Artifact { name, component, settings, fail_strategy } = artifact;
        if is_built_in(name) {
            return Err(LoadError::BuiltInName(name.clone()));
        }
        if !fail_strategy.is_empty() && !is_built_in(fail_strategy) {
            return Err(LoadError::FailStrategy(fail_strategy.clone()));
        }
        if !settings.trim().is_empty() {
            serde_json::from_str::<serde::de::IgnoredAny>(settings)
                .map_err(|error| LoadError::Settings(format!("they are no JSON: {error}")))?;
        }
        let component = artifact::unpack(component, engine.limits.component)?;
        let digest = Digest::of(&component);
        let loaded = match known.iter().find(|policy| policy.digest == digest) {
            Some(known) => known.renamed(name),
            None => Self::load(engine, name, &component)?,
        };
        let problems = loaded.check(settings.trim())?;
        if !problems.is_empty() {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(LoadError::Settings(problems.join("; ")));
        }
        Ok(Self { settings: Arc::from(settings.trim()), fail_strategy: Arc::from(&**fail_strategy), ..loaded })
    }

    /// The same component, with the same compiled code, under another name and without settings.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        Self { name: Arc::from(name), settings: Arc::from(""), fail_strategy: Arc::from(""), ..self.clone() }
    }

    /// The same, with other settings for Services that give none.
    pub(crate) fn with_settings(&self, settings: &str) -> Self {
        Self { settings: Arc::from(settings), ..self.clone() }
    }

    /// A hash of all that an answer of it can depend on.
    pub(crate) fn version(&self) -> u64 {
        let settings = Sha256::digest(self.settings.as_bytes());
        self.digest.short() ^ if self.settings.is_empty() { 0 } else { Digest(settings.into()).short() }
    }

    /// Settings (JSON) for Services that give none; empty for none.
    #[must_use]
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// What logs call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it can be asked that.
    #[must_use]
    pub fn plays(&self, role: Role) -> bool {
        match role {
            Role::TrafficPolicy => self.contract.decides(),
            Role::Balancer => self.contract.balances(),
        }
    }
}

/// Interfaces of ours a policy may import, without version: the linker checks that.
const OFFERED: [&str; 3] = ["weir:policy/log", "weir:policy/snapshot", "weir:policy/types"];

fn check_imports(engine: &Engine, component: &Component) -> Result<(), LoadError> {
    for (import, _) in component.component_type().imports(&engine.wasm) {
        if import.starts_with("wasi:") {
            return Err(LoadError::ImportsWasi { import: import.to_owned() });
        }
        let (interface, version) = import.split_once('@').unwrap_or((import, ""));
        if !OFFERED.contains(&interface) || !["0.1.", "0.2."].iter().any(|track| version.starts_with(track)) {
            return Err(LoadError::UnknownImport { import: import.to_owned() });
        }
    }
    Ok(())
}

fn exports(engine: &Engine, component: &Component) -> String {
    let names: Vec<String> =
        component.component_type().exports(&engine.wasm).map(|(name, _)| name.to_owned()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
