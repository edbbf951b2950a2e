//! What rules are put together from.

use weir_model::Family;
use weir_plan::{LocalPods, NodeFacts};

use crate::{Field, Key, Rule, SetName, Statement};

/// A rule without a comment.
pub(crate) fn rule(statements: impl IntoIterator<Item = Statement>) -> Rule {
    Rule { statements: statements.into_iter().collect(), comment: String::new() }
}

/// The key of a frontend as rules compute it.
pub(crate) fn frontend_key(node_port: bool) -> Key {
    vec![if node_port { Field::AnyDaddr } else { Field::Daddr }, Field::Protocol, Field::Dport]
}

/// `key`, and one field more.
pub(crate) fn with(key: &Key, field: Field) -> Key {
    key.iter().cloned().chain(std::iter::once(field)).collect()
}

/// Matches what is in the set.
pub(crate) fn in_set(key: Key, set: SetName) -> Statement {
    Statement::InSet { key, set, negate: false }
}

/// What matches packets of this node's pods, any of them; with `negate`, what matches all others, taken together.
pub(crate) fn from_pods(node: &NodeFacts, family: Family, negate: bool) -> Vec<Statement> {
    let by_interface = |name: &String, prefix| vec![Statement::InInterface { name: name.clone(), prefix, negate }];
    match &node.local_pods {
        LocalPods::Unknown => Vec::new(),
        LocalPods::Networks(_) => {
            node.local_pods.networks(family).map(|net| Statement::Saddr { net: net.trunc(), negate }).collect()
        }
        LocalPods::Interface(name) => by_interface(name, false),
        LocalPods::InterfacePrefix(name) => by_interface(name, true),
    }
}
