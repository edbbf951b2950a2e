//! What users set: JSON, read strictly, with errors that name the field.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{PolicyError, Problem};

/// Settings of a policy. The default is what counts where a Service gives none.
pub trait Settings: Default + DeserializeOwned {
    /// Whether there is anything to set; if not, nobody asks.
    const EXIST: bool = true;

    /// What fits the type and makes no sense all the same.
    fn problem(&self) -> Option<Problem> {
        None
    }

    /// A problem with one field.
    fn at(path: &str, message: impl Into<String>) -> Option<Problem> {
        Some(Problem { path: path.to_owned(), message: message.into() })
    }

    /// A problem if `value` is not within `least` to `most`.
    fn within(path: &str, value: u32, least: u32, most: u32) -> Option<Problem> {
        if (least..=most).contains(&value) {
            None
        } else {
            Self::at(path, format!("{value} is not within {least} to {most}"))
        }
    }
}

/// Of a policy that cannot be set.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

impl Settings for NoSettings {
    const EXIST: bool = false;
}

/// Settings out of JSON, or out of nothing.
pub(crate) fn read<S: Settings>(json: &str) -> Result<S, Problem> {
    if json.trim().is_empty() {
        return Ok(S::default());
    }
    let read: Result<S, _> = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json));
    let settings = read.map_err(|error| {
        let path = error.path().to_string();
        // A path of "." is the whole.
        Problem { path: if path == "." { String::new() } else { path }, message: error.inner().to_string() }
    })?;
    match settings.problem() {
        Some(problem) => Err(problem),
        None => Ok(settings),
    }
}

/// The same problem as the answer of a call.
pub(crate) fn refusal(Problem { path, message }: Problem) -> PolicyError {
    PolicyError::InvalidSettings(if path.is_empty() { message } else { format!("{path}: {message}") })
}
