//! How many clients a hash sends elsewhere when an endpoint goes, though theirs is still there.

use crate::ipvs::{Kind, hash, maglev_table, place, source_hash_table};
use crate::simulation::{CLIENTS, Scheduler};
use crate::weir::Weir;

/// Backends before one goes, and which one.
const SIZES: [usize; 3] = [3, 10, 100];

/// Whom the place of a client belongs to.
type Owners = Box<dyn Fn(u32) -> usize>;

/// Makes the places of a scheduler for those of its backends that are there.
type Places = fn(&[bool]) -> Owners;

/// Prints a table.
pub(crate) fn print() {
    println!("\n### One of N endpoints goes: clients of the others that it moves\n");
    println!("| scheduler | N = {} | N = {} | N = {} |", SIZES[0], SIZES[1], SIZES[2]);
    println!("|---|---|---|---|");
    let rows: [(&str, Places); 5] = [
        ("`source-hash`", |there| weir("source-hash", "", there)),
        ("IPVS sh", |there| {
            let table = source_hash_table(&serving(there), &vec![1; there.len()]);
            Box::new(move |client| table[place(Kind::SourceHash, client, table.len())])
        }),
        ("`maglev`", |there| weir("maglev", "", there)),
        ("`maglev`, `table-size` 4093", |there| weir("maglev", r#"{"table-size": 4093}"#, there)),
        ("IPVS mh", |there| {
            let table = maglev_table(&serving(there), &vec![1; there.len()]);
            Box::new(move |client| table[place(Kind::Maglev, client, table.len())])
        }),
    ];
    for (name, owners) in rows {
        let moved = SIZES.map(|size| format!("{:.1} %", 100.0 * moved(size, owners)));
        println!("| {name} | {} |", moved.join(" | "));
    }
}

fn serving(there: &[bool]) -> Vec<usize> {
    (0..there.len()).filter(|at| there[*at]).collect()
}

/// The mean over all endpoints that may go, or the first twenty of them.
fn moved(size: usize, owners: Places) -> f64 {
    let all = owners(&vec![true; size]);
    let gone = size.min(20);
    let (mut stayed, mut moved) = (0_u32, 0_u32);
    for gone in 0..gone {
        let after = owners(&(0..size).map(|at| at != gone).collect::<Vec<_>>());
        for client in (0..CLIENTS).filter(|client| all(*client) != gone) {
            if all(client) == after(client) { stayed += 1 } else { moved += 1 }
        }
    }
    f64::from(moved) / f64::from(stayed + moved)
}

/// The policy's ring on two nodes, which must be the same.
fn weir(policy: &str, settings: &str, there: &[bool]) -> Owners {
    let nothing = vec![0; there.len()];
    let [here, elsewhere] = [0, 1].map(|node| {
        let mut node = Weir::new(node, policy, settings, vec![1; there.len()]);
        node.look(0.0, &nothing, &nothing, there);
        node.ring().to_vec()
    });
    assert_eq!(here, elsewhere, "{policy}: nodes disagree");
    Box::new(move |client| here[(hash(u64::from(client)) % here.len() as u64) as usize])
}
