//! What can be wrong with a policy before it is asked anything.

use crate::limits::FailureReason;

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
         WASI (Rust: target wasm32-unknown-unknown; componentize-py: --stub-wasi; jco: --disable all), or, where its \
         language cannot (TinyGo, Go), set `wasi: inert` beside it: then WASI is there, and does nothing"
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
    /// Its types are not the contract's.
    #[error("the component cannot be started: {0}")]
    Trial(String),
    /// It starts, but not well, or cannot say what it is: it traps, never ends, or wants more than it may have.
    #[error("{step}: {message}")]
    Unfit {
        /// What it was meant to do.
        step: &'static str,
        /// Why it did not.
        reason: FailureReason,
        /// The same in a sentence.
        message: String,
    },
    /// Its limits make no sense, or are more than the node allows.
    #[error("limits: {0}")]
    Limits(String),
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
            Self::Unfit { reason, .. } => reason.as_str(),
            Self::Limits(_) => "limits",
        }
    }
}
