//! What the built-in balancers share: the contract's bindings, settings that are read once, the loop over a batch.
//!
//! A balancer implements [`Balancer`] and ends with `kit::export!(Name);`.

use std::marker::PhantomData;
use std::ops::Range;

pub use weir_schedulers as schedulers;
use weir_schedulers::feedback::{self, Follow, Seen};
use weir_schedulers::settings::{Problem, Settings};
use weir_schedulers::share;

mod bindings {
    #![allow(missing_docs, reason = "generated; the contract itself is documented")]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "balancer-only",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "kit::contract",
    });
}

/// The contract as generated from `wit/`.
pub mod contract {
    pub use crate::bindings::*;
}

pub use bindings::exports::weir::policy::about::Inputs;
use bindings::exports::weir::policy::about::{self, Info};
use bindings::exports::weir::policy::balancer;
pub use bindings::exports::weir::policy::balancer::{IndexFunction, Ring};
pub use bindings::weir::policy::snapshot::View;
use bindings::weir::policy::types::{Columns, PolicyError};

/// A way to spread connections.
pub trait Balancer {
    /// What a Service may set.
    type Settings: Settings;

    /// Its label: `label!("One sentence.", Inputs::empty())`.
    const LABEL: Label;

    /// Whether the Service's settings are to be read at all: that costs a call for each list.
    const HAS_SETTINGS: bool = true;

    /// Says how connections spread over the members of one list.
    fn spread(settings: &Self::Settings, list: &List<'_>) -> Spread;
}

/// What `about` tells.
pub struct Label {
    /// Name of the policy.
    pub name: &'static str,
    /// Version of its package.
    pub version: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What it wants to see.
    pub inputs: Inputs,
}

/// What [`List::follow`] looks at.
pub const FEEDBACK: Inputs = Inputs::LOADS.union(Inputs::AGES).union(Inputs::SHARES);

/// The label of the package this is written in.
#[macro_export]
macro_rules! label {
    ($summary:literal, $inputs:expr) => {
        $crate::Label {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            summary: $summary,
            inputs: $inputs,
        }
    };
}

/// Makes a component of a [`Balancer`].
#[macro_export]
macro_rules! export {
    ($balancer:ident) => {
        type Component = $crate::Component<$balancer>;
        $crate::contract::export_component!(Component with_types_in $crate::contract);
    };
}

/// One list of endpoints to spread connections over.
pub struct List<'a> {
    /// The question.
    pub ring: &'a Ring,
    /// Looks names up, each for a call.
    pub view: &'a View,
    columns: &'a Columns,
    node: &'a std::cell::OnceCell<u64>,
}

impl List<'_> {
    fn range(&self) -> Range<usize> {
        self.ring.first as usize..(self.ring.first + self.ring.count) as usize
    }

    /// Numbers of the members, the same on every node; needs [`Inputs::NAMES`].
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.columns.ids[self.range()]
    }

    /// Weights their EndpointSlices give the members.
    #[must_use]
    pub fn weights(&self) -> &[u32] {
        &self.columns.weights[self.range()]
    }

    /// Numbers of their zones; needs [`Inputs::ZONES`].
    #[must_use]
    pub fn zones(&self) -> &[u32] {
        &self.columns.zones[self.range()]
    }

    /// The number of this node's zone; needs [`Inputs::ZONES`].
    #[must_use]
    pub fn here(&self) -> u32 {
        self.columns.here
    }

    /// Their open connections through this node; needs [`Inputs::LOADS`].
    #[must_use]
    pub fn active(&self) -> &[u32] {
        &self.columns.loads.active[self.range()]
    }

    /// Their new connections a minute through this node; needs [`Inputs::LOADS`].
    #[must_use]
    pub fn per_minute(&self) -> &[u32] {
        &self.columns.loads.per_minute[self.range()]
    }

    /// Slots they have in the ring in force; needs [`Inputs::SHARES`].
    #[must_use]
    pub fn shares(&self) -> &[u32] {
        &self.columns.shares[self.range()]
    }

    /// Seconds since they became ready; needs [`Inputs::AGES`].
    #[must_use]
    pub fn ages(&self) -> &[u32] {
        &self.columns.ages[self.range()]
    }

    /// A name of each member, asked for one by one; needs [`Inputs::NAMES`], or [`Inputs::PODS`] for those of pods.
    pub fn names(&self, name: impl Fn(&View, u32, u32) -> String) -> impl Iterator<Item = String> {
        (0..self.ring.count).map(move |endpoint| name(self.view, self.ring.id, endpoint))
    }

    /// A spread that follows loads; needs [`FEEDBACK`].
    #[must_use]
    pub fn follow(&self, follow: Follow) -> Spread {
        let loads = self.active().iter().zip(self.per_minute());
        let known = self.weights().iter().zip(loads).zip(self.ages()).zip(self.shares());
        let seen = known.map(|(((weight, (active, per_minute)), age), slots)| Seen {
            weight: *weight,
            active: *active,
            per_minute: *per_minute,
            age: *age,
            slots: *slots,
        });
        let again_seconds = if self.ring.count > 1 { follow.pace.period_seconds } else { 0 };
        Spread { again_seconds, ..Spread::new(IndexFunction::Random, feedback::choose(seen, follow)) }
    }

    /// A number for this node; its name is asked for once a batch.
    #[must_use]
    pub fn node(&self) -> u64 {
        *self.node.get_or_init(|| schedulers::table::node(&self.view.node_name()))
    }
}

/// How connections spread over a list.
pub struct Spread {
    /// How a slot is picked.
    pub index: IndexFunction,
    /// What the slots hold, and why.
    pub choice: share::Choice,
    /// Seconds a client keeps its endpoint; `None` for what the Service says.
    pub affinity_seconds: Option<u32>,
    /// Seconds until another look; 0 for never.
    pub again_seconds: u32,
}

impl Spread {
    /// A spread that leaves affinity to the Service and needs no other look.
    #[must_use]
    pub fn new(index: IndexFunction, choice: share::Choice) -> Self {
        Self { index, choice, affinity_seconds: None, again_seconds: 0 }
    }
}

/// A [`Balancer`] as a component.
pub struct Component<B>(PhantomData<B>);

impl<B: Balancer> about::Guest for Component<B> {
    fn describe() -> Info {
        let Label { name, version, summary, inputs } = B::LABEL;
        Info {
            name: name.to_owned(),
            version: version.to_owned(),
            summary: summary.to_owned(),
            licence: "Apache-2.0".to_owned(),
            inputs,
        }
    }

    fn check(settings: String) -> Vec<about::Problem> {
        let mut problems = Vec::new();
        if let Err(found) = B::Settings::parse(&settings) {
            for Problem { path, message } in found {
                problems.push(about::Problem { path, message });
            }
        }
        problems
    }
}

impl<B: Balancer> balancer::Guest for Component<B> {
    fn balance(view: &View, rings: Vec<Ring>, columns: Columns) -> Result<Vec<balancer::Spread>, PolicyError> {
        // Neighbours often share their settings; reading them costs more than the rest.
        let (mut json, mut settings) = (String::new(), parse::<B>("")?);
        let node = std::cell::OnceCell::new();
        let mut spreads = Vec::with_capacity(rings.len());
        for ring in &rings {
            if B::HAS_SETTINGS {
                let of_ring = view.settings(ring.id);
                if of_ring != json {
                    settings = parse::<B>(&of_ring)?;
                    json = of_ring;
                }
            }
            let list = List { ring, view, columns: &columns, node: &node };
            spreads.push(answer(ring, B::spread(&settings, &list)));
        }
        Ok(spreads)
    }
}

fn answer(ring: &Ring, spread: Spread) -> balancer::Spread {
    let Spread { index, choice, affinity_seconds, again_seconds } = spread;
    let share = match choice.share {
        share::Share::Equal => balancer::Share::Equal,
        share::Share::Weights(weights) => balancer::Share::Weights(weights),
        share::Share::Slots(slots) => balancer::Share::Slots(slots),
    };
    balancer::Spread {
        id: ring.id,
        index,
        share,
        affinity_seconds: affinity_seconds.unwrap_or(ring.affinity_seconds),
        again_seconds,
        reason: choice.reason,
    }
}

/// Settings of a Service, or all that is wrong with them.
#[cold]
fn parse<B: Balancer>(json: &str) -> Result<B::Settings, PolicyError> {
    B::Settings::parse(json).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        PolicyError::InvalidSettings(all.join("; "))
    })
}
