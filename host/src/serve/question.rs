//! Questions to the daemon's loop. It hands out raw values; turning them into text is the asker's work, on another
//! thread, so that a large answer holds up no sync for longer than copying takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use weir_model::{Names, ObjectKey, Origin, Port, PortKey, Service};
use weir_nft::{Dataplane, Ruleset, Transaction, text};
use weir_plan::PortPlan;
use weir_policy::{Record, Resting};

use super::Questions;
use crate::metrics::ip_family;
use crate::pipeline::{Outcome, Pipeline};

/// Largest transaction that is kept as it was, in elements; of a larger one only the shortened text stays.
const KEPT_ELEMENTS: usize = 1000;

/// One question, and where its answer goes. Whoever asked may be gone by then.
#[derive(Debug)]
pub enum Question {
    /// The state of the cluster.
    Services(oneshot::Sender<Snapshot>),
    /// What every port should be.
    Plan(oneshot::Sender<Vec<PortPlan>>),
    /// The rules as they should be in the kernel.
    Rules(oneshot::Sender<Ruleset>),
    /// What was last sent to the kernel.
    Transaction(oneshot::Sender<LastTransaction>),
    /// What the policies were asked about a Service, and what they answer.
    Records(ObjectKey, oneshot::Sender<Vec<Record>>),
    /// Who decides.
    Policies(oneshot::Sender<Decided>),
}

/// The Services, with their ports and endpoints.
#[derive(Debug)]
pub struct Snapshot {
    /// Names of nodes, zones and ports.
    pub names: Arc<Names>,
    /// In order of number.
    pub services: Vec<(Service, Vec<Port>)>,
}

/// What was last sent.
#[derive(Clone, Debug, Default)]
pub enum LastTransaction {
    /// Nothing yet.
    #[default]
    None,
    /// This.
    Kept(Arc<Transaction>),
    /// This, in nft syntax, long lists of elements cut off.
    Shortened(Arc<str>),
}

/// How ports are decided.
#[derive(Debug, Default)]
pub struct Decided {
    /// Ports for each way of being decided.
    pub ports: BTreeMap<String, u64>,
    /// All decisions in one number.
    pub digest: u64,
    /// Policies that are not asked for now: those that rest as a whole, then by port, with the port's name.
    pub resting: Vec<(String, Resting)>,
    /// Ports the kernel refuses, by name, and what it said.
    pub quarantined: Vec<(String, String)>,
}

/// What the loop answers questions from, besides the pipeline.
pub struct Inspector {
    questions: mpsc::Receiver<Question>,
    last: LastTransaction,
}

impl Inspector {
    /// One that was asked nothing, and where to ask it.
    pub(super) fn new() -> (Self, Questions) {
        let (sender, questions) = mpsc::channel(1);
        (Self { questions, last: LastTransaction::None }, sender)
    }

    /// One that nobody asks.
    #[must_use]
    pub fn unasked() -> Self {
        Self::new().0
    }

    /// The next question. May be dropped and called again at any time; never returns when nobody can ask.
    pub async fn next(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }

    /// Takes in what a sync did, once nobody else needs it.
    pub fn remember(&mut self, outcome: Outcome) {
        let transaction = outcome.transaction;
        if transaction.is_empty() {
            return;
        }
        self.last = if transaction.element_count() <= KEPT_ELEMENTS {
            LastTransaction::Kept(Arc::new(transaction))
        } else {
            let lines: String = transaction.ops.iter().map(|op| text::op_shortened(op) + "\n").collect();
            LastTransaction::Shortened(lines.into())
        };
    }

    /// Answers a question.
    pub fn answer<D: Dataplane>(&self, pipeline: &mut Pipeline<D>, question: Question) {
        // Sending fails when whoever asked does not wait any more, who then needs no answer.
        match question {
            Question::Services(to) => drop(to.send(snapshot(pipeline))),
            Question::Plan(to) => drop(to.send(pipeline.installed().plans().cloned().collect())),
            Question::Rules(to) => drop(to.send(pipeline.installed().ruleset())),
            Question::Transaction(to) => drop(to.send(self.last.clone())),
            Question::Records(service, to) => drop(to.send(pipeline.records(&service))),
            Question::Policies(to) => drop(to.send(decided(pipeline))),
        }
    }
}

fn snapshot<D: Dataplane>(pipeline: &Pipeline<D>) -> Snapshot {
    let store = pipeline.store();
    let with_ports = |id| store.service(id).map(|service| (service.clone(), store.ports(id)));
    Snapshot { names: Arc::clone(store.names()), services: store.service_ids().filter_map(with_ports).collect() }
}

fn decided<D: Dataplane>(pipeline: &Pipeline<D>) -> Decided {
    let mut decided = Decided::default();
    for (_, decision) in pipeline.decisions() {
        let by = match &decision.origin {
            Origin::Policy { traffic, balancer } => format!("{traffic}, {balancer}"),
            Origin::LastGood => "last good answer".to_owned(),
            Origin::Fallback(policy) => format!("fallback {policy}"),
            Origin::LastResort => "last resort".to_owned(),
        };
        *decided.ports.entry(by).or_default() += 1;
    }
    let store = pipeline.store();
    let name = |port: &PortKey| {
        let service = store.service(port.service).map(|service| service.key.to_string()).unwrap_or_default();
        format!("{service}:{} {} {}", store.names().get(port.name), port.protocol, ip_family(port.family))
    };
    decided.quarantined.extend(pipeline.quarantined().iter().map(|(port, why)| (name(port), why.clone())));
    decided.digest = pipeline.decisions_digest();
    let named = |rest: Resting| (rest.port.as_ref().map(&name).unwrap_or_default(), rest);
    decided.resting = pipeline.decider().resting().into_iter().map(named).collect();
    decided.quarantined.sort();
    decided
}
