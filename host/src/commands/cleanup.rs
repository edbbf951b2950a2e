//! `weir cleanup`.

use weir_model::Family;
use weir_netlink::Kernel;
use weir_nft::{Dataplane, Op, TABLE, Transaction};

/// Removes the tables `ip weir` and `ip6 weir`, where they are.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut kernel = Kernel::open()?;
    // Whether a table exists would have to be asked first, and could change meanwhile: creating it makes
    // deleting it always possible, and both happen in one batch.
    let ops = Family::ALL.into_iter().flat_map(|family| [Op::AddTable(family), Op::DelTable(family)]).collect();
    kernel.commit(&Transaction { ops })?;
    println!("removed the tables `ip {TABLE}` and `ip6 {TABLE}`, where they were");
    Ok(())
}
