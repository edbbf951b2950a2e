//! Owned tables. Kernels before 6.9 have none; there the tests check that Weir does without.

use std::time::{Duration, Instant};

use weir_model::Family;
use weir_netlink::{Kernel, Options};
use weir_nft::{CommitError, Dataplane, Op, Transaction};

use crate::Test;
use crate::fixture::{creation, everything_everywhere};
use crate::namespace::{Needs, kernel_has_persistent_owners, nft};

pub(crate) const TESTS: &[Test] = &[
    ("a_second_weir_is_told_who_owns_the_table", Needs::Owners, a_second_weir_is_told_who_owns_the_table),
    ("a_restart_adopts_the_tables_as_they_are", Needs::Kernel, a_restart_adopts_the_tables_as_they_are),
    ("flush_ruleset_spares_owned_tables", Needs::NftAndOwners, flush_ruleset_spares_owned_tables),
    ("a_table_without_an_owner_is_taken_as_it_is", Needs::Kernel, a_table_without_an_owner_is_taken_as_it_is),
    ("a_removed_table_can_be_made_again", Needs::Kernel, a_removed_table_can_be_made_again),
    ("foreign_commits_are_noticed", Needs::Nft, foreign_commits_are_noticed),
    (
        "owned_tables_are_untouched_whatever_others_do",
        Needs::NftAndOwners,
        owned_tables_are_untouched_whatever_others_do,
    ),
];

fn add_tables() -> Transaction {
    Transaction { ops: vec![Op::AddTable(Family::V4), Op::AddTable(Family::V6)] }
}

/// Whether this kernel keeps others from the table that `owner` has just made.
fn is_owned() -> bool {
    let mut other = Kernel::open_with(Options { own_tables: false, ..Options::default() }).unwrap();
    other.commit(&Transaction { ops: vec![Op::AddChain(Family::V4, "probe".to_owned(), None)] }).is_err()
}

fn a_second_weir_is_told_who_owns_the_table() {
    let mut first = Kernel::open().unwrap();
    first.commit(&add_tables()).unwrap();
    assert!(is_owned());
    let mut second = Kernel::open().unwrap();
    let chain = Transaction { ops: vec![Op::AddChain(Family::V6, "new".to_owned(), None)] };
    for transaction in [&add_tables(), &chain] {
        match second.commit(transaction).unwrap_err() {
            CommitError::Rejected { op: 0, error, .. } => {
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
                let text = error.to_string();
                assert!(text.contains("is a second Weir running?") && text.contains("owns table ip"), "{text}");
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(second.dump().unwrap(), first.dump().unwrap(), "reading is free");
}

/// Commits once the owner before is gone, which may be a little later than its socket was dropped: a program that another
/// test starts holds a copy of every socket from its fork to its exec.
fn commit_once_free(kernel: &mut Kernel, transaction: &Transaction) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match kernel.commit(transaction) {
            Err(CommitError::Rejected { error, .. })
                if error.kind() == std::io::ErrorKind::PermissionDenied && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => {
                other.unwrap();
                return;
            }
        }
    }
}

fn a_restart_adopts_the_tables_as_they_are() {
    let wanted = everything_everywhere();
    let mut first = Kernel::open().unwrap();
    first.commit(&creation(&wanted)).unwrap();
    drop(first);
    let mut second = Kernel::open().unwrap();
    assert_eq!(second.dump().unwrap(), wanted, "the tables outlive their owner");
    commit_once_free(&mut second, &add_tables());
    second.commit(&add_tables()).unwrap();
    assert_eq!(second.dump().unwrap(), wanted);
    assert_eq!(is_owned(), kernel_has_persistent_owners());
}

fn flush_ruleset_spares_owned_tables() {
    let wanted = everything_everywhere();
    let mut kernel = Kernel::open().unwrap();
    kernel.commit(&creation(&wanted)).unwrap();
    nft(&["add", "table", "ip", "somebody-elses"]);
    nft(&["flush", "ruleset"]);
    assert!(!nft(&["list", "tables"]).contains("somebody-elses"));
    assert_eq!(kernel.dump().unwrap(), wanted);
}

fn a_table_without_an_owner_is_taken_as_it_is() {
    let plain = Options { own_tables: false, ..Options::default() };
    let mut first = Kernel::open_with(plain).unwrap();
    let wanted = everything_everywhere();
    first.commit(&creation(&wanted)).unwrap();
    drop(first);
    let mut second = Kernel::open().unwrap();
    second.commit(&add_tables()).unwrap();
    assert_eq!(second.dump().unwrap(), wanted);
}

fn a_removed_table_can_be_made_again() {
    let mut kernel = Kernel::open().unwrap();
    let wanted = everything_everywhere();
    kernel.commit(&creation(&wanted)).unwrap();
    let mut again = Transaction { ops: vec![Op::DelTable(Family::V4), Op::DelTable(Family::V6)] };
    again.ops.extend(creation(&wanted).ops);
    kernel.commit(&again).unwrap();
    assert_eq!(kernel.dump().unwrap(), wanted);
    assert_eq!(is_owned(), kernel_has_persistent_owners());
}

/// Whoever cannot own the tables finds out from the generation number that somebody was at the rules.
fn foreign_commits_are_noticed() {
    let plain = Options { own_tables: false, ..Options::default() };
    let mut kernel = Kernel::open_with(plain).unwrap();
    kernel.commit(&creation(&everything_everywhere())).unwrap();
    assert!(!kernel.is_untouched().unwrap(), "nothing is known before the first look");
    assert!(kernel.is_untouched().unwrap());
    for n in 1..=3 {
        let mut elements = weir_nft::Elements::new(weir_nft::SetName::ClusterIps, Family::V4);
        elements.push(weir_nft::ElementKey::new().address([10, 99, 0, n].into()).as_bytes(), &[]);
        let ops = vec![Op::AddTable(Family::V4), Op::AddElements(Family::V4, weir_nft::SetName::ClusterIps, elements)];
        kernel.commit(&Transaction { ops }).unwrap();
        kernel.commit(&add_tables()).unwrap();
    }
    assert!(kernel.is_untouched().unwrap(), "its own commits are no surprise");
    nft(&["delete", "element", "ip", "weir", "cluster-ips", "{ 10.99.0.1 }"]);
    assert!(!kernel.is_untouched().unwrap());
    assert!(kernel.is_untouched().unwrap(), "told once");
}

fn owned_tables_are_untouched_whatever_others_do() {
    let mut kernel = Kernel::open().unwrap();
    kernel.commit(&creation(&everything_everywhere())).unwrap();
    for _ in 0..3 {
        assert!(kernel.is_untouched().unwrap());
        nft(&["add", "table", "ip", "somebody-elses"]);
        nft(&["delete", "table", "ip", "somebody-elses"]);
    }
}
