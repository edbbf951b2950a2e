//! What the pipeline does when the kernel refuses, forgets or loses something.
#![allow(clippy::expect_used, reason = "tests panic")]

use std::io;

use weir::pipeline::Pipeline;
use weir_model::{
    EndpointSpec, Event, Family, NodeIdentity, ObjectKey, Protocol, ServicePortSpec, ServiceSpec, SlicePort, SliceSpec,
    Store,
};
use weir_nft::sim::Memory;
use weir_nft::{CommitError, Dataplane, DumpError, Installed, Op, Receipt, Ruleset, Transaction, text};
use weir_plan::NodeFacts;
use weir_policy::{Catalog, Decider, Engine, Limits};

/// A kernel with a bad day.
#[derive(Default)]
struct Moody {
    memory: Memory,
    /// Elements whose text contains this are refused.
    refuses: Option<&'static str>,
    /// The next commits whose answer is lost: whether each takes effect.
    loses: Vec<bool>,
    /// The next commits fail before anything is sent.
    fails: usize,
    /// Whether somebody else was at the rules since the last audit.
    touched: bool,
}

impl Dataplane for Moody {
    fn commit(&mut self, transaction: &Transaction) -> Result<Receipt, CommitError> {
        let claim = transaction.ops.iter().all(|op| matches!(op, Op::AddTable(_)));
        if claim {
            return self.memory.commit(transaction);
        }
        if self.fails > 0 {
            self.fails -= 1;
            return Err(CommitError::Send(io::Error::other("no buffer")));
        }
        if let Some(takes_effect) = self.loses.pop() {
            if takes_effect {
                self.memory.commit(transaction)?;
            }
            return Err(CommitError::Unknown("the answer was lost".to_owned()));
        }
        for (at, op) in transaction.ops.iter().enumerate() {
            let Op::AddElements(family, set, elements) = op else { continue };
            let bad =
                |(key, data)| self.refuses.is_some_and(|word| text::element(*set, *family, key, data).contains(word));
            if let Some(element) = elements.iter().position(bad) {
                let (what, error) = (text::op_shortened(op), io::Error::other("refused"));
                return Err(CommitError::Rejected { op: at, element: Some(element), what, error });
            }
        }
        self.memory.commit(transaction)
    }

    fn dump(&mut self) -> Result<Ruleset, DumpError> {
        self.memory.dump()
    }

    fn is_untouched(&mut self) -> io::Result<bool> {
        Ok(!std::mem::take(&mut self.touched))
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".to_owned(), name: name.to_owned() }
}

/// Service number `n` at 10.0.0.n, with one endpoint at 10.1.0.`host`.
fn service(n: u8, host: u8) -> [Event; 2] {
    let name = format!("s{n}");
    let service = ServiceSpec {
        key: key(&name),
        cluster_ips: vec![format!("10.0.0.{n}").parse().expect("an address")],
        ports: vec![ServicePortSpec { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port: 0 }],
        ..ServiceSpec::default()
    };
    let endpoint = EndpointSpec::ready(format!("10.1.0.{host}").parse().expect("an address"));
    let slice = SliceSpec {
        key: key(&format!("{name}-1")),
        service: key(&name),
        family: Family::V4,
        ports: vec![SlicePort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: vec![endpoint],
        triggered: None,
    };
    [Event::Service(service), Event::Slice(slice)]
}

fn pipeline(moody: Moody) -> Pipeline<Moody> {
    let engine = Engine::new(Limits::default()).expect("an engine");
    let catalog = Catalog::new(&engine, "kubernetes", "random").expect("the built-in policies");
    let store = Store::new(NodeIdentity::default());
    Pipeline::new(store, Decider::new(catalog), Installed::new(NodeFacts::default()), moody)
}

fn apply(pipeline: &mut Pipeline<Moody>, services: &[(u8, u8)]) {
    services.iter().flat_map(|(n, host)| service(*n, *host)).for_each(|event| pipeline.apply(event));
}

fn rules(pipeline: &mut Pipeline<Moody>) -> String {
    let present = pipeline.dataplane().dump().expect("rules");
    assert_eq!(present, pipeline.installed().ruleset(), "Weir must know what the kernel holds");
    text::ruleset(&present)
}

#[test]
fn a_refused_port_is_left_out_alone_at_start_and_later() {
    let mut pipeline = pipeline(Moody { refuses: Some("10.0.0.2 "), ..Moody::default() });
    apply(&mut pipeline, &[(1, 1), (2, 2), (3, 3)]);
    pipeline.sync().expect("the others are programmed");
    let text = rules(&mut pipeline);
    assert!(text.contains("10.0.0.1 ") && text.contains("10.0.0.3 ") && !text.contains("10.0.0.2 "), "{text}");
    assert_eq!(pipeline.quarantined().len(), 1);

    // Others go on as if nothing were; it stays out.
    apply(&mut pipeline, &[(4, 4), (2, 5)]);
    pipeline.sync().expect("the others are programmed");
    let text = rules(&mut pipeline);
    assert!(text.contains("10.0.0.4 ") && !text.contains("10.0.0.2 "), "{text}");

    // Once the kernel takes it, a change brings it in.
    pipeline.dataplane().refuses = None;
    apply(&mut pipeline, &[(2, 6)]);
    pipeline.sync().expect("all are programmed");
    assert!(rules(&mut pipeline).contains("10.1.0.6 "));
    assert!(pipeline.quarantined().is_empty());
}

#[test]
fn a_lost_answer_is_settled_by_looking() {
    for takes_effect in [false, true] {
        let mut pipeline = pipeline(Moody::default());
        apply(&mut pipeline, &[(1, 1)]);
        pipeline.sync().expect("a first sync");
        pipeline.dataplane().loses = vec![takes_effect];
        apply(&mut pipeline, &[(1, 2), (2, 3)]);
        pipeline.sync().expect("settled in the same sync");
        let text = rules(&mut pipeline);
        assert!(text.contains("10.1.0.2 ") && text.contains("10.1.0.3 ") && !text.contains("10.1.0.1 "), "{text}");
    }
}

#[test]
fn what_could_not_be_sent_is_sent_with_the_next_sync() {
    let mut pipeline = pipeline(Moody::default());
    apply(&mut pipeline, &[(1, 1)]);
    pipeline.sync().expect("a first sync");
    pipeline.dataplane().fails = 1;
    apply(&mut pipeline, &[(1, 2)]);
    pipeline.sync().expect_err("nothing was sent");
    assert!(rules(&mut pipeline).contains("10.1.0.1 "), "the old rules stay");
    pipeline.sync().expect("nothing new had to happen");
    assert!(rules(&mut pipeline).contains("10.1.0.2 "));
}

#[test]
fn rules_somebody_changed_are_mended_at_start() {
    let mut first = pipeline(Moody::default());
    apply(&mut first, &[(1, 1), (2, 2)]);
    first.sync().expect("a first sync");
    let mut present = first.dataplane().dump().expect("rules");
    let table = present.tables.get_mut(&Family::V4).expect("a table");
    for name in ["services", "masquerading"] {
        table.chains.get_mut(name).expect("a chain").rules.clear();
    }
    table.sets.remove(&weir_nft::SetName::Hairpin);

    let mut second = pipeline(Moody { memory: Memory::new(present), ..Moody::default() });
    apply(&mut second, &[(1, 1), (2, 2)]);
    let outcome = second.sync().expect("a sync");
    rules(&mut second);
    assert!(outcome.transaction.element_count() == 0, "elements that were right are not sent again");
}

/// The same while it runs, where the kernel lets others at the tables: an audit finds out.
#[test]
fn rules_somebody_changed_are_mended_after_an_audit() {
    let mut pipeline = pipeline(Moody::default());
    apply(&mut pipeline, &[(1, 1), (2, 2)]);
    pipeline.sync().expect("a first sync");
    assert!(pipeline.audit().expect("an answer"), "nobody was there");
    assert!(pipeline.sync().expect("a sync").transaction.is_empty());

    let mut present = pipeline.dataplane().dump().expect("rules");
    let table = present.tables.get_mut(&Family::V4).expect("a table");
    table.chains.get_mut("services").expect("a chain").rules.clear();
    *pipeline.dataplane() = Moody { memory: Memory::new(present), touched: true, ..Moody::default() };
    assert!(!pipeline.audit().expect("an answer"));
    assert!(!pipeline.sync().expect("a sync").transaction.is_empty());
    rules(&mut pipeline);
    assert!(pipeline.audit().expect("an answer"));
}
