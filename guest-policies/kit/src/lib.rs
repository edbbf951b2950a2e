//! What the built-in balancers share, so that each of them reads like its algorithm: implement [`Balancer`], then
//! `kit::policy!(MyBalancer);`.

mod feedback;
mod members;
mod settings;

/// The contract, world `balancer-only`.
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "balancer-only",
        pub_export_macro: true,
        default_bindings_module: "kit::bindings",
    });
}

pub use bindings::exports::weir::policy::about::{Info, Inputs, Problem};
pub use bindings::exports::weir::policy::balancer::{IndexFunction, PolicyError, Ring, Share, Spread};
pub use bindings::weir::policy::snapshot::View;
pub use bindings::weir::policy::types::{Columns, Load};
pub use feedback::{Feedback, Formula};
pub use members::Members;
pub use serde;
pub use settings::{NoSettings, Settings};

/// A policy that spreads connections over the members of a ring.
pub trait Balancer {
    /// What users can set; [`NoSettings`] where there is nothing.
    type Settings: Settings;

    /// What it is called.
    const NAME: &str;

    /// One sentence for whoever chooses among policies.
    const SUMMARY: &str;

    /// Inputs beyond ids, conditions and weights.
    const INPUTS: Inputs = Inputs::empty();

    /// How connections spread over `members`.
    fn spread(settings: &Self::Settings, members: &Members<'_>) -> Answer;
}

/// What a balancer says of one ring.
pub struct Answer {
    /// How a new connection picks its slot.
    pub index: IndexFunction,
    /// What the slots hold.
    pub share: Share,
    /// Seconds a client keeps its endpoint; `None` as the Service asks.
    pub affinity_seconds: Option<u32>,
    /// Seconds until it should be asked again; 0 for never.
    pub again_seconds: u32,
    /// Why, for `weir explain`; empty when it goes without saying.
    pub reason: String,
}

impl Answer {
    /// Slots picked by `index`, with the affinity the Service asks for.
    pub fn new(index: IndexFunction, share: Share) -> Self {
        Self { index, share, affinity_seconds: None, again_seconds: 0, reason: String::new() }
    }

    /// The same, and why.
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }
}

/// The label of `B`.
pub fn describe<B: Balancer>() -> Info {
    Info {
        name: B::NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        summary: B::SUMMARY.to_owned(),
        licence: env!("CARGO_PKG_LICENSE").to_owned(),
        inputs: B::INPUTS,
    }
}

/// What is wrong with settings meant for `B`.
pub fn check<B: Balancer>(json: &str) -> Vec<Problem> {
    settings::read::<B::Settings>(json).err().into_iter().collect()
}

/// The answers of `B` to a batch.
pub fn balance<B: Balancer>(view: &View, rings: &[Ring], columns: &Columns) -> Result<Vec<Spread>, PolicyError> {
    // Neighbours often share their settings, and most have none; reading them costs more than the rest.
    let (mut json, mut settings) = (String::new(), B::Settings::default());
    let mut spreads = Vec::with_capacity(rings.len());
    for ring in rings {
        if B::Settings::EXIST {
            let of_ring = view.settings(ring.id);
            if of_ring != json {
                settings = settings::read(&of_ring).map_err(settings::refusal)?;
                json = of_ring;
            }
        }
        let answer = B::spread(&settings, &Members::new(view, ring, columns));
        spreads.push(Spread {
            id: ring.id,
            index: answer.index,
            share: answer.share,
            affinity_seconds: answer.affinity_seconds.unwrap_or(ring.affinity_seconds),
            again_seconds: answer.again_seconds,
            reason: answer.reason,
        });
    }
    Ok(spreads)
}

/// FNV-1a: a hash that is the same everywhere, for spreading, not for secrets.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Exports a [`Balancer`] as the component's `about` and `balancer`.
#[macro_export]
macro_rules! policy {
    ($balancer:ty) => {
        struct Component;

        impl $crate::bindings::exports::weir::policy::about::Guest for Component {
            fn describe() -> $crate::Info {
                $crate::describe::<$balancer>()
            }

            fn check(settings: String) -> Vec<$crate::Problem> {
                $crate::check::<$balancer>(&settings)
            }
        }

        impl $crate::bindings::exports::weir::policy::balancer::Guest for Component {
            fn balance(
                view: &$crate::View,
                rings: Vec<$crate::Ring>,
                members: $crate::Columns,
            ) -> Result<Vec<$crate::Spread>, $crate::PolicyError> {
                $crate::balance::<$balancer>(view, &rings, &members)
            }
        }

        $crate::bindings::export!(Component with_types_in $crate::bindings);
    };
}
