//! Balancer: a set share of connections for the pods of a canary.
//!
//! ```json
//! { "pod-prefix": "web-v2-", "percent": 5 }
//! ```
//!
//! Pods whose names begin with `pod-prefix` get `percent` (0 to 100) of all connections together, however many they
//! are; the others share the rest. On each side weights of EndpointSlices count; 0 drains. Where one side has no
//! endpoints the other gets everything. Without settings nobody is a canary.

use kit::schedulers::settings::{Fields, Settings};
use kit::schedulers::{canary, share};
use kit::{Balancer, IndexFunction, Inputs, Label, List, Spread, View, label};

struct Split {
    pod_prefix: Option<String>,
    percent: u32,
}

impl Settings for Split {
    fn read(fields: &mut Fields) -> Self {
        let (pod_prefix, percent) = (fields.text("pod-prefix"), fields.number("percent", 0..=100));
        match (&pod_prefix, percent) {
            (Some(prefix), _) if prefix.is_empty() => {
                fields.refuse("pod-prefix", "empty; it says how the names of the canary's pods begin");
            }
            (None, Some(_)) => {
                fields.refuse("pod-prefix", "missing; it says how the names of the canary's pods begin");
            }
            (Some(_), None) => fields.refuse("percent", "missing; it says how much the canary gets, from 0 to 100"),
            _ => {}
        }
        Self { pod_prefix, percent: percent.unwrap_or(0) }
    }
}

struct Canary;

impl Balancer for Canary {
    type Settings = Split;

    const LABEL: Label = label!("A set share of connections goes to the pods of a canary.", Inputs::PODS);

    fn spread(settings: &Split, list: &List<'_>) -> Spread {
        let choice = match &settings.pod_prefix {
            None => share::weighted(list.weights().to_vec()),
            Some(prefix) => {
                let chosen: Vec<bool> = list.names(View::endpoint_pod).map(|pod| pod.starts_with(&**prefix)).collect();
                canary::choose(&chosen, list.weights(), settings.percent)
            }
        };
        Spread::new(IndexFunction::Random, choice)
    }
}

kit::export!(Canary);
