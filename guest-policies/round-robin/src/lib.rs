//! Balancer: connections go to the endpoints in turn.
//!
//! Fairer than random where connections are few or long-lived. The counter belongs to one port on one node; each node
//! begins its round elsewhere, so that a change in the whole cluster does not send the first connection of every node to
//! the same endpoint. It takes no settings, and keeps the affinity a Service asks for: then only a client's first
//! connection takes a turn.

use kit::{Answer, Balancer, IndexFunction, Members, NoSettings, Share};

struct RoundRobin;

impl Balancer for RoundRobin {
    type Settings = NoSettings;

    const NAME: &str = "round-robin";
    const SUMMARY: &str = "Connections go to the endpoints in turn.";

    fn spread(_: &NoSettings, members: &Members<'_>) -> Answer {
        let count = members.ring().count;
        let start = kit::hash(members.this_node().as_bytes()) % u64::from(count);
        // Less than `count`, which is 32 bits wide.
        let start = start as u32;
        let share = if start == 0 { Share::Equal } else { Share::Slots((start..count).chain(0..start).collect()) };
        Answer::new(IndexFunction::RoundRobin, share)
    }
}

kit::policy!(RoundRobin);
