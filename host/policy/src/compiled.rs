//! A policy, compiled once and checked before anybody relies on it.

mod load_error;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, InstancePre};

pub use self::load_error::LoadError;
use crate::Engine;
use crate::about::{About, Inputs, SettingProblem};
use crate::artifact::{self, Artifact};
use crate::call::{Contract, Instance, Problem};
use crate::catalog::is_built_in;
use crate::host::HostState;
use crate::limits::{FailureReason, Limits};
use crate::subject::Subjects;
use crate::wasi::{self, Wasi};

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
    /// What it may use up.
    pub(crate) limits: Arc<Limits>,
    /// Percent of its endpoints it may take out of service at once, where that is set for it.
    pub(crate) max_removed_percent: Option<u8>,
    /// Its random numbers, if it may import WASI.
    pub(crate) randomness: Option<Arc<[u8]>>,
    /// See [`Policy::version`].
    version: u64,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("name", &self.name).field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Policy {
    /// Compiles `bytes` and checks that it is a policy: size, imports, exports, and a trial start. `name` is what
    /// logs call it. It gets the engine's limits.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let limits = Arc::new(engine.limits.clone());
        let component = compile(engine, bytes, limits.component)?;
        Self::link(engine, name, &component, Digest::of(bytes), limits, Wasi::Pure)?.tried()
    }

    /// Links a component. Nothing of it runs yet.
    fn link(
        engine: &Engine,
        name: &str,
        component: &Component,
        digest: Digest,
        limits: Arc<Limits>,
        wasi: Wasi,
    ) -> Result<Self, LoadError> {
        check_imports(component, wasi)?;
        let trial = |why: wasmtime::Error| LoadError::Trial(format!("{why:#}"));
        let linker = engine.linker(component, wasi).map_err(trial)?;
        let pre = linker.instantiate_pre(component).map_err(trial)?;
        let Some(contract) = Contract::of(&pre) else {
            return Err(LoadError::WrongWorld { exports: exports(component) });
        };
        let policy = Self {
            name: Arc::from(name),
            engine: engine.clone(),
            pre,
            contract,
            about: None,
            digest,
            settings: Arc::from(""),
            fail_strategy: Arc::from(""),
            limits,
            max_removed_percent: None,
            randomness: (wasi == Wasi::Inert).then(|| wasi::randomness(digest)),
            version: 0,
        };
        Ok(policy.versioned())
    }

    /// The same, once it was started and has said what it is.
    fn tried(mut self) -> Result<Self, LoadError> {
        // Records that differ from the contract's pass every check before this one.
        let start = "it cannot be started";
        self.apart(|| self.alone()?.try_roles()).map_err(unfit(start))??;
        let about = || self.alone()?.describe().map_err(unfit("it cannot say what it is"));
        let about = self.apart(about).map_err(unfit(start))??;
        self.about = about.map(Arc::new);
        Ok(self)
    }

    /// Runs calls of it: here, or, where it may import WASI, on a thread of their own. wasmtime's WASI waits by a Tokio
    /// runtime, which it must not do on a thread that belongs to one.
    pub(crate) fn apart<T: Send>(&self, call: impl FnOnce() -> T + Send) -> Result<T, Problem> {
        if self.randomness.is_none() {
            return Ok(call());
        }
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("policy-wasi".to_owned());
            let thread = builder.spawn_scoped(scope, call);
            let thread = thread.map_err(|error| Problem::new(FailureReason::Instantiate, error.to_string()))?;
            thread.join().map_err(|_| Problem::new(FailureReason::Trap, "what it asked of WASI broke down"))
        })
    }

    /// An instance that is asked about no Service.
    fn alone(&self) -> Result<Instance<'_>, LoadError> {
        Instance::start(self, Arc::new(Subjects::none()), None).map_err(unfit("it cannot be started"))
    }

    /// What it finds wrong with these settings (JSON, or empty for none). A policy of contract 0.1 has no say before
    /// it is asked to decide.
    ///
    /// # Errors
    /// When it cannot be asked: it traps, or uses up what it may use.
    pub fn check(&self, settings: &str) -> Result<Vec<SettingProblem>, LoadError> {
        let step = "it cannot check its settings";
        self.apart(|| self.alone()?.check(settings).map_err(unfit(step))).map_err(unfit(step))?
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

    /// What it wants to see. Contract 0.1 gives names to all.
    pub(crate) fn inputs(&self) -> Inputs {
        self.about.as_ref().map_or(Inputs { names: true, ..Inputs::default() }, |about| about.inputs)
    }

    /// The policy in `artifact`, checked with all that comes with it. Where `known` has the same component it is not
    /// compiled again.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_artifact(engine: &Engine, artifact: &Artifact, known: &[Arc<Self>]) -> Result<Self, LoadError> {
        let Artifact { name, component, settings, fail_strategy, limits, max_removed_percent, wasi } = artifact;
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
        let limits = engine.limits_with(limits)?;
        let bytes = artifact::unpack(component, limits.component)?;
        let digest = Digest::of(&bytes);
        let (name, limits) = (name.as_str(), Arc::new(limits));
        let linked = match known.iter().find(|policy| policy.digest == digest) {
            // Code runs by the engine it was compiled for.
            Some(known) => Self::link(&known.engine, name, known.pre.component(), digest, limits, *wasi)?,
            None => Self::link(engine, name, &compile(engine, &bytes, limits.component)?, digest, limits, *wasi)?,
        };
        let loaded = linked.tried()?;
        let problems = loaded.check(settings.trim())?;
        if !problems.is_empty() {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(LoadError::Settings(problems.join("; ")));
        }
        let (settings, fail_strategy) = (Arc::from(settings.trim()), Arc::from(&**fail_strategy));
        Ok(Self { settings, fail_strategy, max_removed_percent: *max_removed_percent, ..loaded }.versioned())
    }

    /// The same component, with the same compiled code, under another name and without settings.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        let (settings, fail_strategy) = (Arc::from(""), Arc::from(""));
        let limits = Arc::new(self.engine.limits.clone());
        Self { name: Arc::from(name), settings, fail_strategy, limits, max_removed_percent: None, ..self.clone() }
            .versioned()
    }

    /// The same, with other settings for Services that give none.
    pub(crate) fn with_settings(&self, settings: &str) -> Self {
        Self { settings: Arc::from(settings), ..self.clone() }.versioned()
    }

    /// A hash of all that an answer of it can depend on besides what it is asked, and of its name.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The same with its version worked out.
    fn versioned(mut self) -> Self {
        let mut hash = Sha256::new();
        for part in [&self.digest.0[..], self.name.as_bytes(), self.settings.as_bytes()] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.update([u8::from(self.randomness.is_some())]);
        Limits::FIELDS.iter().for_each(|field| hash.update(field.get(&self.limits).to_le_bytes()));
        self.version = Digest(hash.finalize().into()).short();
        self
    }

    /// What it may use up.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
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

fn unfit(step: &'static str) -> impl FnOnce(Problem) -> LoadError {
    move |Problem { reason, message }| LoadError::Unfit { step, reason, message }
}

/// Compiles a component of at most `limit` bytes.
fn compile(engine: &Engine, bytes: &[u8], limit: usize) -> Result<Component, LoadError> {
    if bytes.len() > limit {
        return Err(LoadError::TooLarge { size: bytes.len(), limit });
    }
    // Layer 0 with version 1 is a core module; a component has layer 1.
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err(LoadError::CoreModule);
    }
    // Compiling is not meant to panic; where it does, the daemon must not end with it.
    match catch_unwind(AssertUnwindSafe(|| engine.compile(bytes))) {
        Ok(compiled) => compiled.map_err(|why| LoadError::Compile(format!("{why:#}"))),
        Err(_) => Err(LoadError::Compile("the compiler gave up on it".to_owned())),
    }
}

/// Interfaces of ours a policy may import, without version: the linker checks that.
const OFFERED: [&str; 3] = ["weir:policy/log", "weir:policy/snapshot", "weir:policy/types"];

fn check_imports(component: &Component, wasi: Wasi) -> Result<(), LoadError> {
    for (import, _) in component.component_type().imports(component.engine()) {
        if wasi == Wasi::Inert && wasi::offers(import) {
            continue;
        }
        if wasi == Wasi::Pure && import.starts_with("wasi:") {
            return Err(LoadError::ImportsWasi { import: import.to_owned() });
        }
        let (interface, version) = import.split_once('@').unwrap_or((import, ""));
        if !OFFERED.contains(&interface) || !["0.1.", "0.2."].iter().any(|track| version.starts_with(track)) {
            return Err(LoadError::UnknownImport { import: import.to_owned() });
        }
    }
    Ok(())
}

fn exports(component: &Component) -> String {
    let names: Vec<String> =
        component.component_type().exports(component.engine()).map(|(name, _)| name.to_owned()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
