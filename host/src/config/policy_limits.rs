//! What policies may use up.

use serde::{Deserialize, Serialize};
use weir_policy::Limits;

use super::Span;

/// Some of the [`Limits`]; what is not said is as without configuration. Each counts for one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Fuel of a call, whatever its size: about one unit an instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// More fuel for each port or ring, and each endpoint, of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_per_endpoint: Option<u64>,
    /// Time of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// Bytes of all memories together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Entries of each table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_elements: Option<u64>,
    /// Core instances it may consist of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
    /// Memories it may consist of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memories: Option<u64>,
    /// Tables it may consist of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<u64>,
    /// Bytes it may hand over in one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_bytes: Option<u64>,
    /// Handles it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles: Option<u64>,
    /// Bytes of the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component_bytes: Option<u64>,
}

impl LimitSettings {
    /// What is said, by the names policies use, with the field's own name.
    fn said(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let deadline = self.deadline.map(|Span(deadline)| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        [
            ("fuel", "fuel", self.fuel),
            ("fuel-per-endpoint", "fuelPerEndpoint", self.fuel_per_endpoint),
            ("deadline-ms", "deadline", deadline),
            ("memory-bytes", "memoryBytes", self.memory_bytes),
            ("table-elements", "tableElements", self.table_elements),
            ("instances", "instances", self.instances),
            ("memories", "memories", self.memories),
            ("tables", "tables", self.tables),
            ("answer-bytes", "answerBytes", self.answer_bytes),
            ("handles", "handles", self.handles),
            ("component-bytes", "componentBytes", self.component_bytes),
        ]
        .into_iter()
        .filter_map(|(name, field, value)| Some((name, field, value?)))
    }

    /// `base` with what is said here.
    #[must_use]
    pub fn over(&self, base: Limits) -> Limits {
        let mut limits = base;
        for (name, _, value) in self.said() {
            let field = Limits::FIELDS.iter().find(|field| field.name == name).expect("every setting is a limit");
            field.set(&mut limits, value);
        }
        limits
    }

    /// Checks that what is said is more than 0 and at most what `ceilings` say. The error begins with the field.
    pub(super) fn check(&self, ceilings: Option<&Limits>) -> Result<(), String> {
        for (name, field, value) in self.said() {
            let most = Limits::FIELDS.iter().find(|known| known.name == name).zip(ceilings);
            let most = most.map_or(u64::MAX, |(known, ceilings)| known.get(ceilings));
            if value == 0 || value > most {
                let most = if most == u64::MAX {
                    "more than 0".to_owned()
                } else {
                    format!("1 to {most} (policies.maxLimits)")
                };
                return Err(format!("{field}: must be {most}, not {value}"));
            }
        }
        Ok(())
    }
}
