//! What the contract looks like from the host, made from `wit/policy.wit`.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the contract itself is documented")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "policy",
    with: { "weir:policy/snapshot.view": crate::host::View },
});
