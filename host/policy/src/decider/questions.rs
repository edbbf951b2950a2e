//! The questions of one call: what a policy sees of endpoints, as columns, and what looks alike to it only once.
//!
//! Equal input gives an equal answer, and most Services of a cluster look like many others: so many endpoints, all of
//! them ready, none of them here. What tells their endpoints apart, names and addresses, is nothing most policies ask for.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use weir_model::{ByNumber, NameId};

use crate::about::Inputs;
use crate::bindings::exports::weir::policy::{balancer, traffic_policy};
use crate::bindings::weir::policy::types;
use crate::call::Problem;
use crate::limits::FailureReason;
use crate::mix::Mix;
use crate::record::CallOutcome;
use crate::subject::Subject;

/// An answer that was checked, or why there is none; and its own words, where somebody wants to know of those that are
/// good.
pub(super) type Checked<T, E = Problem> = (Result<Arc<T>, E>, Option<Box<CallOutcome>>);

/// A question of the contract.
pub(super) trait Question: Clone + PartialEq {
    /// The same, named `id`, about the endpoints from `first` on.
    fn at(self, id: u32, first: u32) -> Self;

    /// All that tells it from others.
    fn words(&self) -> [u64; 2];
}

impl Question for traffic_policy::Port {
    fn at(self, id: u32, first: u32) -> Self {
        Self { id, first, ..self }
    }

    fn words(&self) -> [u64; 2] {
        let bytes = [self.protocol as u8, self.internal as u8, self.external as u8, self.has_external.into()];
        [u64::from(self.count) << 32 | u64::from(u32::from_le_bytes(bytes)), self.number.into()]
    }
}

impl Question for balancer::Ring {
    fn at(self, id: u32, first: u32) -> Self {
        Self { id, first, ..self }
    }

    fn words(&self) -> [u64; 2] {
        let kind = u64::from(self.protocol as u8) << 1 | u64::from(self.local);
        [u64::from(self.count) << 32 | kind, u64::from(self.affinity_seconds) << 16 | u64::from(self.number)]
    }
}

/// Who asks.
pub(super) struct Asker<'a> {
    /// Position among those who do.
    pub(super) at: usize,
    /// What the call names it by.
    pub(super) id: u32,
    pub(super) subject: &'a Subject,
    /// The settings it has for the policy.
    pub(super) settings: NameId,
    /// For a balancer: which ring of it.
    pub(super) ring: Option<usize>,
}

/// What one call asks.
pub(super) struct Questions<'a, Q> {
    pub(super) list: Vec<Q>,
    pub(super) columns: types::Columns,
    wanted: Inputs,
    /// Whether those that look alike are asked about once.
    together: bool,
    asked: Vec<Asked<'a, Q>>,
    /// Questions by the hash of what a policy sees.
    known: HashMap<u64, u32, ByNumber>,
    /// For each of those who ask, their question.
    of: Vec<u32>,
}

/// One question and what belongs to it.
struct Asked<'a, Q> {
    /// The first of those who ask it.
    by: usize,
    words: Words<'a, Q>,
    columns: Range<usize>,
}

/// What an answer depends on besides columns.
#[derive(PartialEq)]
struct Words<'a, Q> {
    /// Before it was given `id` and `first`, which no two have in common.
    question: Q,
    settings: NameId,
    members: &'a [u32],
}

impl<'a, Q: Question> Questions<'a, Q> {
    /// None yet, for a policy that wants to see `wanted`, with room for so many who ask and so many endpoints. `here` is
    /// the zone of this node. `each` asks about everybody, alike or not.
    pub(super) fn new(wanted: Inputs, askers: usize, endpoints: usize, here: NameId, each: bool) -> Self {
        let together = askers > 1 && !each && !wanted.tell_apart();
        // Where many are alike, little is asked.
        let endpoints = if together { 0 } else { endpoints };
        let room = |wanted: bool| Vec::with_capacity(if wanted { endpoints } else { 0 });
        let columns = types::Columns {
            ids: room(wanted.names),
            conditions: Vec::with_capacity(endpoints),
            weights: room(true),
            zones: room(wanted.zones),
            loads: types::Loads {
                active: room(wanted.loads),
                begun: room(wanted.loads),
                per_minute: room(wanted.loads),
            },
            ages: room(wanted.ages),
            shares: Vec::new(),
            here: if wanted.zones { here.0 } else { 0 },
        };
        let (list, asked, of) = (Vec::new(), Vec::new(), Vec::with_capacity(askers));
        Self { list, columns, wanted, together, asked, known: HashMap::default(), of }
    }

    /// Asks about the endpoints at `places` in the list of the one who does. In `question`, `id` and `first` are still 0.
    /// The answer is worth something only to those who have the same `members`.
    pub(super) fn ask(
        &mut self,
        asker: &Asker<'_>,
        places: impl Iterator<Item = u32> + Clone,
        members: &'a [u32],
        question: Q,
    ) {
        let first = self.columns.conditions.len();
        self.fill(asker, places);
        let columns = first..self.columns.conditions.len();
        let (new, words) = (number(self.asked.len()), Words { question, settings: asker.settings, members });
        if self.together {
            let stretch = stretch(&self.columns, &columns);
            let known = *self.known.entry(stretch.print(&words)).or_insert(new);
            let same =
                |other: &Asked<'_, Q>| other.words == words && self::stretch(&self.columns, &other.columns) == stretch;
            if self.asked.get(known as usize).is_some_and(same) {
                self.of.push(known);
                self.forget_from(first);
                return;
            }
        }
        self.of.push(new);
        self.list.push(words.question.clone().at(asker.id, number(first)));
        self.asked.push(Asked { by: asker.at, words, columns });
    }

    /// Adds the endpoints at `places`.
    fn fill(&mut self, asker: &Asker<'_>, places: impl Iterator<Item = u32> + Clone) {
        let Self { columns, wanted, .. } = self;
        let Asker { subject, ring, .. } = asker;
        let endpoints = || places.clone().map(|at| &subject.port.endpoints[at as usize]);
        // The contract's bits are the model's.
        columns.conditions.extend(endpoints().map(|endpoint| endpoint.conditions.0));
        columns.weights.extend(endpoints().map(|endpoint| endpoint.weight));
        if wanted.names {
            columns.ids.extend(endpoints().map(|endpoint| endpoint.id));
        }
        if wanted.zones {
            columns.zones.extend(endpoints().map(|endpoint| endpoint.zone.0));
        }
        let Some(extras) = &subject.extras else { return };
        if wanted.loads {
            let loads = || places.clone().map(|at| &extras.loads[at as usize]);
            columns.loads.active.extend(loads().map(|load| load.active));
            columns.loads.begun.extend(loads().map(|load| load.begun));
            columns.loads.per_minute.extend(loads().map(|load| load.per_minute));
        }
        if wanted.ages {
            columns.ages.extend(places.clone().map(|at| extras.ages[at as usize]));
        }
        if let Some(ring) = ring.filter(|_| wanted.shares) {
            let shares = &extras.shares[ring];
            // Nobody's share is known yet: zeros keep the columns of other rings where they belong.
            columns.shares.extend(places.map(|at| shares.get(at as usize).copied().unwrap_or(0)));
        }
    }

    fn forget_from(&mut self, first: usize) {
        self.columns.conditions.truncate(first);
        let types::Columns { weights, zones, loads, ages, shares, .. } = &mut self.columns;
        let types::Loads { active, begun, per_minute } = loads;
        for column in [weights, zones, active, begun, per_minute, ages, shares] {
            column.truncate(first);
        }
    }

    /// Hands out the answers the policy `gave`, each checked for the first of those who ask.
    ///
    /// # Errors
    /// When there are not as many as questions.
    pub(super) fn answers<A, T>(
        self,
        gave: Vec<A>,
        mut check: impl FnMut(usize, A) -> Checked<T>,
    ) -> Result<Vec<Checked<T>>, Problem> {
        let Self { asked, of, .. } = self;
        if gave.len() != asked.len() {
            let message = format!("it gave {} answers to {} questions", gave.len(), asked.len());
            return Err(Problem::new(FailureReason::InvalidAnswer, message));
        }
        let answers: Vec<Checked<T>> =
            asked.iter().zip(gave).map(|(question, answer)| check(question.by, answer)).collect();
        if answers.len() == of.len() {
            return Ok(answers);
        }
        Ok(of.into_iter().map(|question| answers[question as usize].clone()).collect())
    }
}

/// What columns say of some endpoints.
#[derive(PartialEq)]
struct Stretch<'a> {
    conditions: &'a [u8],
    numbers: [&'a [u32]; 7],
}

fn stretch<'a>(columns: &'a types::Columns, range: &Range<usize>) -> Stretch<'a> {
    // No `ids`: whoever asks for them is asked about each. `here` is the same for all.
    let types::Columns { conditions, ids: _, weights, zones, loads, ages, shares, here: _ } = columns;
    let types::Loads { active, begun, per_minute } = loads;
    // A column that nobody wants is empty.
    let of = |column: &'a Vec<u32>| column.get(range.clone()).unwrap_or_default();
    Stretch {
        conditions: &conditions[range.clone()],
        numbers: [weights, zones, active, begun, per_minute, ages, shares].map(of),
    }
}

impl Stretch<'_> {
    /// A hash of all but the members, which hardly ever make the difference.
    fn print(&self, words: &Words<'_, impl Question>) -> u64 {
        let [one, other] = words.question.words();
        let mut hash = Mix::default();
        hash.eat_both(one, u64::from(words.settings.0) << 32 ^ other);
        hash.eat_bytes(self.conditions);
        self.numbers.iter().for_each(|column| hash.eat_numbers(column));
        hash.value()
    }
}

/// A count as the contract carries it.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a sync has fewer than 2^32 endpoints")
}
