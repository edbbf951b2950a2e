//! The built-in policies, compiled once for all cases.

use std::sync::OnceLock;

use anyhow::Context;
use weir::config::DefaultPolicies;
use weir_policy::{Catalog, Decider, Engine, Limits};

/// A decider that remembers nothing, with the policies that serve where a node's configuration names none.
///
/// # Errors
/// When the engine does not start or a built-in policy does not load.
pub fn decider() -> anyhow::Result<Decider> {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    if let Some(catalog) = CATALOG.get() {
        return Ok(Decider::new(catalog.clone()));
    }
    let engine = Engine::new(Limits::default()).context("the policy engine does not start")?;
    let DefaultPolicies { traffic, balancer, .. } = DefaultPolicies::default();
    let catalog = Catalog::new(&engine, &traffic, &balancer)?;
    Ok(Decider::new(CATALOG.get_or_init(|| catalog).clone()))
}
