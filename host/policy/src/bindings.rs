//! What the contract looks like from the host, made from `wit/`: 0.2 here, 0.1 in [`v0_1`].
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the contract itself is documented")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "policy",
    with: { "weir:policy/snapshot.view": crate::host::View },
    additional_derives: [PartialEq, Eq],
});

/// The contract before this one.
pub mod v0_1 {
    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        world: "policy",
        with: { "weir:policy/snapshot.view": crate::host::View },
    });
}
