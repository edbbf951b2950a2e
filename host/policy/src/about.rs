//! What a policy says of itself.

use std::fmt;

use crate::bindings::exports::weir::policy::about;

/// The label a policy wears (contract 0.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What its author calls it.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One sentence for whoever chooses among policies.
    pub summary: String,
    /// SPDX expression; empty when it has none.
    pub licence: String,
    /// What it wants to see.
    pub inputs: Inputs,
}

/// Inputs that only those get who ask for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Who Services and endpoints are: what tells apart those that look alike.
    pub names: bool,
    /// Zones, as numbers to compare.
    pub zones: bool,
    /// How many connections each endpoint has and gets.
    pub loads: bool,
    /// How long each endpoint has been ready.
    pub ages: bool,
    /// How many slots each endpoint has now.
    pub shares: bool,
    /// Names of the pods.
    pub pods: bool,
    /// Annotations of the Service.
    pub annotations: bool,
}

impl Inputs {
    /// Whether an equal Service can get another answer later: what it sees changes while nothing in the cluster does.
    pub(crate) fn change_by_themselves(self) -> bool {
        self.loads || self.ages
    }

    /// Whether it can tell ports apart of which all else it sees is equal.
    pub(crate) fn tell_apart(self) -> bool {
        self.names || self.pods || self.annotations
    }

    /// What either wants.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            names: self.names || other.names,
            zones: self.zones || other.zones,
            loads: self.loads || other.loads,
            ages: self.ages || other.ages,
            shares: self.shares || other.shares,
            pods: self.pods || other.pods,
            annotations: self.annotations || other.annotations,
        }
    }

    /// The names of those it has, in the contract's words.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.names, "names"),
            (self.zones, "zones"),
            (self.loads, "loads"),
            (self.ages, "ages"),
            (self.shares, "shares"),
            (self.pods, "pods"),
            (self.annotations, "annotations"),
        ];
        all.into_iter().filter_map(|(wanted, name)| wanted.then_some(name)).collect()
    }
}

/// What a policy finds wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    /// The field, such as `zones.a`; empty for the settings as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Longest text of a label that is kept.
const LONGEST_TEXT: usize = 200;

/// Most problems that are passed on.
const MOST_PROBLEMS: usize = 20;

fn short(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

impl From<about::Info> for About {
    fn from(info: about::Info) -> Self {
        let wants = |input| info.inputs.contains(input);
        Self {
            name: short(&info.name),
            version: short(&info.version),
            summary: short(&info.summary),
            licence: short(&info.licence),
            inputs: Inputs {
                names: wants(about::Inputs::NAMES),
                zones: wants(about::Inputs::ZONES),
                loads: wants(about::Inputs::LOADS),
                ages: wants(about::Inputs::AGES),
                shares: wants(about::Inputs::SHARES),
                pods: wants(about::Inputs::PODS),
                annotations: wants(about::Inputs::ANNOTATIONS),
            },
        }
    }
}

/// The problems a policy named, cut to a bearable size.
pub(crate) fn problems(found: &[about::Problem]) -> Vec<SettingProblem> {
    let problem =
        |problem: &about::Problem| SettingProblem { path: short(&problem.path), message: short(&problem.message) };
    found.iter().take(MOST_PROBLEMS).map(problem).collect()
}
