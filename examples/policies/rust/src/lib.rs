//! Weights by zone: `{"zones": {"zone-a": 3, "zone-b": 1}, "default": 1}`. A weight of 0 drains a zone.
//!
//! The same policy stands beside this one in other languages.

wit_bindgen::generate!({ path: "../../../wit", world: "balancer-only" });

use std::collections::BTreeMap;

use exports::weir::policy::about::{self, Info, Inputs, Problem};
use exports::weir::policy::balancer::{self, Columns, IndexFunction, PolicyError, Ring, Share, Spread};
use serde_json::Value;
use weir::policy::snapshot::View;

/// The largest weight.
const MOST: u64 = 1000;

/// What a Service may set.
struct Settings {
    zones: BTreeMap<String, u32>,
    default: u32,
}

/// A problem with one field of the settings.
fn problem(path: impl Into<String>, message: &str) -> Problem {
    Problem { path: path.into(), message: message.into() }
}

/// A weight, or what is wrong with it.
fn weight(path: &str, value: &Value) -> Result<u32, Problem> {
    match value.as_u64() {
        Some(weight) if weight <= MOST => Ok(weight as u32),
        _ => Err(problem(path, "expected a whole number from 0 to 1000")),
    }
}

/// Reads settings; none means that every zone counts the same. A typing error shall not pass for a setting, so unknown
/// fields are refused.
fn read(json: &str) -> Result<Settings, Problem> {
    let mut settings = Settings { zones: BTreeMap::new(), default: 1 };
    if json.is_empty() {
        return Ok(settings);
    }
    let Ok(Value::Object(fields)) = serde_json::from_str(json) else {
        return Err(problem("", "expected a JSON object"));
    };
    for (name, value) in &fields {
        match name.as_str() {
            "default" => settings.default = weight("default", value)?,
            "zones" => {
                let Value::Object(zones) = value else {
                    return Err(problem("zones", "expected an object of weights by zone"));
                };
                for (zone, value) in zones {
                    settings.zones.insert(zone.clone(), weight(&format!("zones.{zone}"), value)?);
                }
            }
            unknown => return Err(problem(unknown, "unknown field; known are zones and default")),
        }
    }
    Ok(settings)
}

struct ByZone;

impl about::Guest for ByZone {
    fn describe() -> Info {
        Info {
            name: "by-zone".into(),
            version: "0.1.0".into(),
            summary: "Connections in proportion to weights of zones.".into(),
            licence: "Apache-2.0".into(),
            // Names of zones are always there for those who ask the view; no column is needed.
            inputs: Inputs::NAMES,
        }
    }

    fn check(settings: String) -> Vec<Problem> {
        read(&settings).err().into_iter().collect()
    }
}

impl balancer::Guest for ByZone {
    fn balance(view: &View, rings: Vec<Ring>, _members: Columns) -> Result<Vec<Spread>, PolicyError> {
        rings.iter().map(|ring| spread(view, ring)).collect()
    }
}

/// Decides one ring. Positions are those within the ring.
fn spread(view: &View, ring: &Ring) -> Result<Spread, PolicyError> {
    let settings = read(&view.settings(ring.id)).map_err(|Problem { path, message }| {
        PolicyError::InvalidSettings(if path.is_empty() { message } else { format!("{path}: {message}") })
    })?;
    let mut known = 0;
    let weights = (0..ring.count).map(|endpoint| match settings.zones.get(&view.endpoint_zone(ring.id, endpoint)) {
        Some(weight) => {
            known += 1;
            *weight
        }
        None => settings.default,
    });
    let weights = weights.collect();
    Ok(Spread {
        id: ring.id,
        index: IndexFunction::Random,
        share: Share::Weights(weights),
        affinity_seconds: ring.affinity_seconds,
        again_seconds: 0,
        reason: format!("{known} of {} endpoints in zones with weights", ring.count),
    })
}

export!(ByZone);
