//! Bulk into the kernel: elements and chains a second, encoding and committing apart, beside libnftnl's objects and `nft`.

mod libnftnl;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Result;
use weir_benches::peer::load;
use weir_model::{Family, Protocol};
use weir_netlink::{Kernel, encode};
use weir_nft::{Dataplane, ElementKey, Elements, Op, Rule, SetName, Statement, Transaction};
use weir_testbed::{Addresses, Host};

use crate::figure::{Figure, Section, Table, short, short_or_dash};
use crate::section::Scale;

const FAMILY: Family = Family::V4;
/// A chain elements can lead to.
const TARGET: &str = "target";
/// Times each is measured; the fastest counts.
const ROUNDS: usize = 3;
/// Seconds `nft` may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Content of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Addresses in a set.
    Addresses,
    /// Frontend and slot to address and port.
    Data,
    /// Class to chain.
    Verdicts,
    /// Chains with a rule each.
    Chains,
}

impl Content {
    const ALL: [Self; 4] = [Self::Addresses, Self::Data, Self::Verdicts, Self::Chains];

    fn name(self) -> &'static str {
        match self {
            Self::Addresses => "set-elements",
            Self::Data => "data-elements",
            Self::Verdicts => "verdict-elements",
            Self::Chains => "chains-with-a-rule",
        }
    }

    /// As Weir writes it: what has to be there, and the batch that counts.
    fn ours(self, count: usize) -> [Transaction; 2] {
        let size = u32::try_from(count * 2).unwrap_or(u32::MAX).next_power_of_two();
        let table = Op::AddTable(FAMILY);
        let chain = || Op::AddChain(FAMILY, TARGET.to_owned(), None);
        let elements = |set| {
            let mut elements = Elements::new(set, FAMILY);
            for number in 0..count {
                let key = ElementKey::new().address(address(number));
                if set == SetName::ClusterIps {
                    elements.push(key.as_bytes(), &[]);
                } else {
                    let data = ElementKey::new().address(address(number)).port(8080);
                    elements.push(key.protocol(Protocol::Tcp).port(80).number(0).as_bytes(), data.as_bytes());
                }
            }
            vec![Op::AddElements(FAMILY, set, elements)]
        };
        let numbers = 0..u32::try_from(count).unwrap_or(u32::MAX);
        let (before, ops) = match self {
            Self::Addresses => {
                (vec![table, Op::AddSet(FAMILY, SetName::ClusterIps, size)], elements(SetName::ClusterIps))
            }
            Self::Data => (vec![table, Op::AddSet(FAMILY, SetName::Slots, size)], elements(SetName::Slots)),
            Self::Verdicts => {
                let verdicts: BTreeMap<u32, String> = numbers.map(|number| (number, TARGET.to_owned())).collect();
                let set = Op::AddSet(FAMILY, SetName::Classes, size);
                (vec![table, chain(), set], vec![Op::AddVerdicts(FAMILY, SetName::Classes, verdicts)])
            }
            Self::Chains => {
                let rule = Rule { statements: vec![Statement::Goto(TARGET.to_owned())], comment: String::new() };
                let names = || numbers.clone().map(|number| format!("chain-{number}"));
                let chains = names().map(|name| Op::AddChain(FAMILY, name, None));
                let rules = names().map(|name| Op::AddRule(FAMILY, name, rule.clone()));
                (vec![table, chain()], chains.chain(rules).collect())
            }
        };
        [Transaction { ops: before }, Transaction { ops }]
    }

    /// The same for `nft -f`.
    fn text(self, count: usize) -> String {
        let mut out = String::from("add table ip peer\nadd chain ip peer target\n");
        out.push_str(match self {
            Self::Addresses => "add set ip peer s { type ipv4_addr ; }\n",
            Self::Data => {
                "add map ip peer s { type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service ; }\n"
            }
            Self::Verdicts => "add map ip peer s { type mark : verdict ; }\n",
            Self::Chains => "",
        });
        // Writing to a string cannot fail.
        for number in 0..count {
            let at = address(number);
            let _ = match self {
                Self::Addresses => writeln!(out, "add element ip peer s {{ {at} }}"),
                Self::Data => writeln!(out, "add element ip peer s {{ {at} . tcp . 80 . 0 : {at} . 8080 }}"),
                Self::Verdicts => writeln!(out, "add element ip peer s {{ {number} : goto target }}"),
                Self::Chains => {
                    writeln!(out, "add chain ip peer chain-{number}\nadd rule ip peer chain-{number} goto target")
                }
            };
        }
        out
    }
}

fn address(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + u32::try_from(number).unwrap_or(u32::MAX)))
}

/// Measures.
///
/// # Errors
/// When the kernel or `nft` refuses.
pub(crate) fn measure(scale: Scale) -> Result<Section> {
    let mut section = Section::new(
        "Into the kernel in bulk",
        "One batch into an empty table of a network namespace of its own. Weir declares its sets with a size, which lets \
         the kernel choose a hash table that does not grow. `nft` counts from its start to its end; libnftnl's objects are \
         built, written and sent in one batch, and can hold no data elements through the safe interface.",
    );
    let mut table = Table::new(
        "The fastest of three, in millions of elements (or chains) a second:",
        &["content", "count", "Weir", "encode alone", "libnftnl", "its encode alone", "nft -f"],
    );
    for content in Content::ALL {
        let count = match content {
            Content::Chains => scale.pick(100, 5_000, 20_000),
            _ => scale.pick(1_000, 100_000, 500_000),
        };
        let rate = |seconds: f64| count as f64 / seconds;
        let (mut encoding, mut whole) = (f64::INFINITY, f64::INFINITY);
        let (mut objects, mut objects_encoding) = (None::<f64>, None::<f64>);
        let mut nft = None::<f64>;
        for _ in 0..ROUNDS {
            let host = sandbox()?;
            let (encode_seconds, seconds) = host.run(|| weir(content, count))?;
            (encoding, whole) = (encoding.min(encode_seconds), whole.min(seconds));
            if content == Content::Addresses {
                let (encode_seconds, seconds) = sandbox()?.run(|| libnftnl::addresses(count))?;
                objects = Some(objects.map_or(seconds, |best| best.min(seconds)));
                objects_encoding = Some(objects_encoding.map_or(encode_seconds, |best| best.min(encode_seconds)));
            }
        }
        if let Some(loaded) = sandbox()?.run(|| load(&content.text(count), LIMIT))? {
            nft = Some(loaded.seconds);
        }
        let name = |what: &str| format!("batch/{}/{what}/{count}", content.name());
        let rates = [Some(whole), Some(encoding), objects, objects_encoding, nft].map(|seconds| seconds.map(rate));
        section.figures.push(Figure::new(name("nft"), rate(whole), "elements/s").beside(nft.map(rate)));
        if objects.is_some() {
            section.figures.push(Figure::new(name("libnftnl"), rate(whole), "elements/s").beside(objects.map(rate)));
            let encoded = Figure::new(name("encode"), rate(encoding), "elements/s");
            section.figures.push(encoded.beside(objects_encoding.map(rate)));
        }
        let mut row = vec![content.name().to_owned(), count.to_string()];
        row.extend(rates.map(|rate| short_or_dash(rate.map(|rate| rate / 1e6))));
        table.row(row);
        section.raw.push(serde_json::json!({"content": content.name(), "count": count, "seconds": {
            "weir": whole, "encode": encoding, "libnftnl": objects, "libnftnl-encode": objects_encoding, "nft": nft}}));
        section.notes.extend(
            (nft.is_none())
                .then(|| format!("{}: nft was stopped after {} s.", content.name(), short(LIMIT.as_secs_f64()))),
        );
    }
    section.tables.push(table);
    Ok(section)
}

/// A namespace for one batch; it goes with the value.
fn sandbox() -> Result<Host> {
    let nowhere = Addresses { v4: Ipv4Addr::UNSPECIFIED, v6: std::net::Ipv6Addr::UNSPECIFIED };
    Host::create("batch", nowhere)
}

/// Seconds to encode, and to encode, send and commit.
fn weir(content: Content, count: usize) -> Result<(f64, f64)> {
    let [before, batch] = content.ours(count);
    let mut kernel = Kernel::open()?;
    kernel.commit(&before)?;
    let start = Instant::now();
    drop(encode(&batch)?);
    let encoding = start.elapsed();
    let start = Instant::now();
    kernel.commit(&batch)?;
    Ok((encoding.as_secs_f64(), start.elapsed().as_secs_f64()))
}
