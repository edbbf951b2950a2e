//! The simulator on small rulesets, and its hash against the kernel's.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use weir_model::Family;

use super::*;
use crate::{BaseChain, Chain, Content, Elements, Field, Hook, Rule, Set, SetName, Statement, Table};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn packet(source: &str, destination: &str) -> Packet {
    let (source, destination) = (addr(source), addr(destination));
    Packet { entry: Entry::Network, protocol: Protocol::Tcp, source, destination, mark: 0 }
}

fn frontend() -> Vec<Field> {
    vec![Field::Daddr, Field::Protocol, Field::Dport]
}

fn with(mut key: Vec<Field>, field: Field) -> Vec<Field> {
    key.push(field);
    key
}

fn random(modulus: u32) -> Field {
    Field::Random { modulus, offset: 0 }
}

fn jump(chain: &str) -> Statement {
    Statement::Jump(chain.to_owned())
}

fn dnat(field: Field) -> Statement {
    Statement::Dnat { key: with(frontend(), field), map: SetName::Slots }
}

fn key_of(address: &str) -> ElementKey {
    let address = addr(address);
    ElementKey::new().address(address.ip()).protocol(Protocol::Tcp).port(address.port())
}

fn target_of(address: &str) -> ElementKey {
    let address = addr(address);
    ElementKey::new().address(address.ip()).port(address.port())
}

/// An IPv4 table put together piece by piece.
#[derive(Default)]
struct Builder(Table);

impl Builder {
    fn chain<const N: usize>(mut self, name: &str, rules: [Vec<Statement>; N]) -> Self {
        let rules = rules.map(|statements| Rule { statements, comment: String::new() }).into();
        self.0.chains.insert(name.to_owned(), Chain { base: None, rules });
        self
    }

    fn base<const N: usize>(self, hook: Hook, priority: i32, rules: [Vec<Statement>; N]) -> Self {
        let name = format!("{}-at-{priority}", hook.name());
        let mut this = self.chain(&name, rules);
        this.0.chains.get_mut(&name).unwrap().base = Some(BaseChain { hook, priority });
        this
    }

    fn elements(mut self, set: SetName, pairs: &[(ElementKey, ElementKey)]) -> Self {
        let mut elements = Elements::new(set, Family::V4);
        pairs.iter().for_each(|(key, data)| elements.push(key.as_bytes(), data.as_bytes()));
        elements.sort();
        self.0.sets.insert(set, Set { size: 1024, content: Content::Flat(elements) });
        self
    }

    fn ruleset(self) -> Ruleset {
        Ruleset { tables: [(Family::V4, self.0)].into() }
    }
}

/// 10.0.0.1:80 → three slots, two of them the same endpoint.
fn three_slots() -> Builder {
    let key = key_of("10.0.0.1:80");
    let slots = [
        (key.number(0), target_of("10.1.0.1:8080")),
        (key.number(1), target_of("10.1.0.2:8080")),
        (key.number(2), target_of("10.1.0.1:8080")),
    ];
    Builder::default().elements(SetName::Slots, &slots)
}

fn env() -> Env {
    Env { local_addresses: ["192.168.0.2".parse().unwrap()].into(), ..Env::default() }
}

fn to(address: &str) -> Verdict {
    Verdict::Delivered { to: Some(addr(address)), masqueraded: false }
}

const PASSED: Verdict = Verdict::Delivered { to: None, masqueraded: false };

fn verdicts(ruleset: &Ruleset, packet: &Packet) -> Vec<(Verdict, u64, u64)> {
    let outcomes = simulate(ruleset, packet, &env()).unwrap();
    outcomes.iter().map(|outcome| (outcome.verdict, outcome.share.count, outcome.share.of)).collect()
}

#[test]
fn every_slot_is_tried_and_shares_add_up() {
    let ruleset = three_slots()
        .base(Hook::Prerouting, -100, [vec![jump("services")]])
        .chain("services", [vec![dnat(random(3))]])
        .ruleset();
    let outcomes = simulate(&ruleset, &packet("10.2.0.1:4000", "10.0.0.1:80"), &env()).unwrap();
    let seen: Vec<_> =
        outcomes.iter().map(|outcome| (outcome.verdict, outcome.share.count, outcome.share.of)).collect();
    assert_eq!(seen, [(to("10.1.0.1:8080"), 2, 3), (to("10.1.0.2:8080"), 1, 3)]);
    assert_eq!(
        outcomes[0].trace,
        [
            "prerouting-at--100: jump services",
            "services: dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @slots"
        ]
    );
}

#[test]
fn a_missing_slot_falls_through() {
    let ruleset = three_slots()
        .base(Hook::Prerouting, -100, [vec![dnat(random(4))], vec![dnat(Field::Counter { modulus: 2, offset: 1 })]])
        .ruleset();
    let seen = verdicts(&ruleset, &packet("10.2.0.1:4000", "10.0.0.1:80"));
    // One time in four nothing is found, and the second rule draws anew.
    assert_eq!(seen.iter().map(|(_, count, of)| (*count, *of)).collect::<Vec<_>>(), [(1, 2), (1, 8), (1, 4), (1, 8)]);
}

#[test]
fn goto_does_not_come_back_and_jump_does() {
    let calls = |call: Statement| {
        Builder::default()
            .base(Hook::Prerouting, 0, [vec![jump("middle")], vec![Statement::Reject]])
            .chain("middle", [vec![call], vec![Statement::Drop]])
            .chain("leaf", [vec![Statement::MarkSet(1)]])
            .ruleset()
    };
    let packet = packet("10.2.0.1:4000", "10.0.0.1:80");
    assert_eq!(verdicts(&calls(jump("leaf")), &packet), [(Verdict::Drop, 1, 1)]);
    assert_eq!(verdicts(&calls(Statement::Goto("leaf".to_owned())), &packet), [(Verdict::Reject, 1, 1)]);
}

#[test]
fn a_jump_to_nothing_leaves_no_trace() {
    let ruleset = Builder::default()
        .base(Hook::Prerouting, 0, [vec![jump("outer")]])
        .chain("outer", [vec![jump("inner")]])
        .chain("inner", [vec![Statement::MarkHas(1), Statement::Drop]])
        .ruleset();
    let outcomes = simulate(&ruleset, &packet("10.2.0.1:4000", "10.0.0.1:80"), &env()).unwrap();
    assert_eq!((outcomes[0].verdict, outcomes[0].trace.len()), (PASSED, 0));
}

#[test]
fn packets_meet_the_hooks_of_their_way() {
    let drops_in = |hook: Hook| Builder::default().base(hook, 0, [vec![Statement::Drop]]).ruleset();
    let here = packet("10.2.0.1:4000", "192.168.0.2:80");
    let through = packet("10.2.0.1:4000", "10.0.0.1:80");
    let away = Packet { entry: Entry::Node, ..packet("192.168.0.2:4000", "10.0.0.1:80") };
    // Over the loopback device it comes back to prerouting, but conntrack knows it by then.
    let home = Packet { entry: Entry::Node, ..packet("192.168.0.2:4000", "192.168.0.2:80") };
    for (hook, met) in [
        (Hook::Prerouting, [true, true, false, false]),
        (Hook::Output, [false, false, true, true]),
        (Hook::Postrouting, [false, true, true, true]),
    ] {
        let dropped = [&here, &through, &away, &home].map(|one| verdicts(&drops_in(hook), one)[0].0 == Verdict::Drop);
        assert_eq!(dropped, met, "{hook:?}");
    }
}

#[test]
fn routing_follows_the_new_destination() {
    let slots = [(key_of("10.0.0.1:80").number(0), target_of("192.168.0.2:8080"))];
    let ruleset = Builder::default()
        .elements(SetName::Slots, &slots)
        .base(Hook::Prerouting, -100, [vec![dnat(random(1))]])
        .base(Hook::Postrouting, 0, [vec![Statement::Drop]])
        .ruleset();
    // To this node itself: it is not sent on.
    assert_eq!(verdicts(&ruleset, &packet("10.2.0.1:4000", "10.0.0.1:80")), [(to("192.168.0.2:8080"), 1, 1)]);
}

/// As seen on the kernel: masquerading would come too late for the first, there is no route for it.
#[test]
fn loopback_addresses_do_not_leave_the_node() {
    let ruleset = three_slots().base(Hook::Output, -100, [vec![dnat(random(1))]]).ruleset();
    let from = |source: &str, destination: &str| {
        verdicts(&ruleset, &Packet { entry: Entry::Node, ..packet(source, destination) })[0].0
    };
    assert_eq!(from("127.0.0.1:4000", "10.0.0.1:80"), Verdict::Drop);
    assert_eq!(from("192.168.0.2:4000", "10.0.0.1:80"), to("10.1.0.1:8080"));
    assert_eq!(from("127.0.0.1:4000", "192.168.0.2:80"), PASSED);
    assert_eq!(from("[::1]:4000", "[2001:db8::7]:80"), PASSED);
}

#[test]
fn base_chains_run_by_priority_until_one_translates() {
    let ruleset = |priority| {
        let to_service = Statement::Daddr { net: "10.0.0.1/32".parse().unwrap(), negate: false };
        three_slots()
            .base(Hook::Prerouting, -100, [vec![dnat(random(1))]])
            .base(Hook::Prerouting, priority, [vec![to_service, Statement::Drop], vec![Statement::Reject]])
            .ruleset()
    };
    let packet = packet("10.2.0.1:4000", "10.0.0.1:80");
    assert_eq!(verdicts(&ruleset(-110), &packet), [(Verdict::Drop, 1, 1)]);
    assert_eq!(verdicts(&ruleset(-90), &packet), [(to("10.1.0.1:8080"), 1, 1)]);
}

#[test]
fn hairpin_and_mark_masquerade() {
    let pod = ElementKey::new().address("10.1.0.1".parse().unwrap()).address("10.1.0.1".parse().unwrap());
    let connection = vec![Field::Saddr, Field::Daddr, Field::Protocol, Field::Dport];
    let ruleset = three_slots()
        .elements(SetName::Hairpin, &[(pod.protocol(Protocol::Tcp).port(8080), ElementKey::new())])
        .base(Hook::Prerouting, -100, [vec![dnat(random(2))]])
        .base(
            Hook::Postrouting,
            100,
            [
                vec![Statement::MarkHas(4), Statement::MarkFlip(4), Statement::Masquerade],
                vec![
                    Statement::CtStatusDnat,
                    Statement::InSet { key: connection, set: SetName::Hairpin, negate: false },
                    Statement::Masquerade,
                ],
            ],
        )
        .ruleset();
    let masqueraded = |address: &str| Verdict::Delivered { to: Some(addr(address)), masqueraded: true };
    let from_pod = verdicts(&ruleset, &packet("10.1.0.1:4000", "10.0.0.1:80"));
    assert_eq!(from_pod, [(masqueraded("10.1.0.1:8080"), 1, 2), (to("10.1.0.2:8080"), 1, 2)]);
    let marked = Packet { mark: 6, ..packet("10.2.0.1:4000", "10.0.0.1:80") };
    assert_eq!(verdicts(&ruleset, &marked)[1].0, masqueraded("10.1.0.2:8080"));
    // Not through a Service: the endpoint talks to itself directly.
    assert_eq!(verdicts(&ruleset, &packet("10.1.0.1:4000", "10.1.0.1:8080")), [(PASSED, 1, 1)]);
}

#[test]
fn classes_go_through_the_priority() {
    let mut builder = three_slots()
        .elements(SetName::Frontends, &[(key_of("10.0.0.1:80"), ElementKey::new().number(7))])
        .base(
            Hook::Prerouting,
            -100,
            [vec![
                Statement::PriorityFrom { key: frontend(), map: SetName::Frontends },
                Statement::PriorityVerdict(SetName::Classes),
            ]],
        )
        .chain("random-3", [vec![dnat(random(3))]]);
    let classes = Content::Verdicts([(7, "random-3".to_owned())].into());
    builder.0.sets.insert(SetName::Classes, Set { size: 8, content: classes });
    let ruleset = builder.ruleset();
    assert_eq!(verdicts(&ruleset, &packet("10.2.0.1:4000", "10.0.0.1:80")).len(), 2);
    assert_eq!(verdicts(&ruleset, &packet("10.2.0.1:4000", "10.0.0.1:81")), [(PASSED, 1, 1)]);
}

#[test]
fn affinity_is_kept_chosen_and_recorded() {
    let frontend_key = key_of("10.0.0.1:80");
    let client = || with(frontend(), Field::Saddr);
    let client_key = frontend_key.address("10.2.0.1".parse().unwrap());
    let update = || Statement::AffinityUpdate { key: client(), timeout_seconds: 60 };
    let send = || Statement::Dnat { key: with(frontend(), Field::Priority), map: SetName::Endpoints };
    let mut builder = Builder::default()
        .elements(
            SetName::AffinitySlots,
            &[0, 1].map(|slot| (frontend_key.number(slot), ElementKey::new().number(100 + slot))),
        )
        .elements(
            SetName::Endpoints,
            &[
                (frontend_key.number(100), target_of("10.1.0.1:8080")),
                (frontend_key.number(101), target_of("10.1.0.2:8080")),
            ],
        )
        .base(
            Hook::Prerouting,
            -100,
            [
                vec![Statement::PriorityFrom { key: client(), map: SetName::Affinity }, update(), send()],
                vec![Statement::PriorityFrom { key: with(frontend(), random(2)), map: SetName::AffinitySlots }],
                vec![Statement::AffinityDelete { key: client() }],
                vec![update()],
                vec![send()],
            ],
        );
    builder.0.sets.insert(SetName::Affinity, Set { size: 2, content: Content::Dynamic });
    let ruleset = builder.ruleset();
    let packet = packet("10.2.0.1:4000", "10.0.0.1:80");
    let run = |affinity: &[(ElementKey, u32)]| {
        let env = Env { affinity: affinity.iter().copied().collect(), ..env() };
        simulate(&ruleset, &packet, &env).unwrap()
    };
    let remembered = |endpoint| Some(Remembered { key: client_key, endpoint, timeout_seconds: 60 });

    let fresh = run(&[]);
    let seen: Vec<_> = fresh.iter().map(|outcome| (outcome.verdict, outcome.remembered)).collect();
    assert_eq!(seen, [(to("10.1.0.1:8080"), remembered(100)), (to("10.1.0.2:8080"), remembered(101))]);

    let known = run(&[(client_key, 101)]);
    assert_eq!((known.len(), known[0].verdict, known[0].remembered), (1, to("10.1.0.2:8080"), remembered(101)));

    // The endpoint it knew is gone: chosen anew, and the entry's data really change.
    let gone = run(&[(client_key, 77)]);
    assert_eq!(gone.iter().map(|outcome| outcome.remembered).collect::<Vec<_>>(), [remembered(100), remembered(101)]);

    // A full map costs affinity, not the connection.
    let full = run(&[(key_of("10.9.0.1:1"), 1), (key_of("10.9.0.2:1"), 1)]);
    let seen: Vec<_> = full.iter().map(|outcome| (outcome.verdict, outcome.remembered)).collect();
    assert_eq!(seen, [(to("10.1.0.1:8080"), None), (to("10.1.0.2:8080"), None)]);
}

#[test]
fn exact_hashes_leave_one_outcome() {
    let hash = Field::HashSource { modulus: 3, seed: 1, offset: 0 };
    let ruleset = three_slots().base(Hook::Prerouting, -100, [vec![dnat(hash)]]).ruleset();
    let exact = Env { exact_hashes: true, ..env() };
    let mut met = BTreeSet::new();
    for client in 1..=40 {
        let packet = packet(&format!("10.2.0.{client}:4000"), "10.0.0.1:80");
        let one = simulate(&ruleset, &packet, &exact).unwrap();
        assert_eq!(one.len(), 1);
        let other_port = Packet { source: SocketAddr::new(packet.source.ip(), 4001), ..packet };
        assert_eq!(one, simulate(&ruleset, &other_port, &exact).unwrap());
        met.insert(one[0].verdict);
        assert_eq!(verdicts(&ruleset, &packet).len(), 2);
    }
    assert_eq!(met.len(), 2);
}

#[test]
fn nonsense_is_an_error() {
    let forward = |statement: Statement| Builder::default().base(Hook::Prerouting, 0, [vec![statement]]);
    let packet = packet("10.2.0.1:4000", "10.0.0.1:80");
    let fails = |builder: Builder| simulate(&builder.ruleset(), &packet, &env()).unwrap_err();
    assert!(matches!(fails(forward(jump("nowhere"))), Error::NoChain { .. }));
    assert!(matches!(fails(forward(dnat(random(1)))), Error::NoSet { set: "slots", .. }));
    assert!(matches!(fails(forward(jump("loop")).chain("loop", [vec![jump("loop")]])), Error::TooDeep(_)));
    let mixed = Packet { source: addr("[fd00::1]:4000"), ..packet };
    assert!(matches!(simulate(&Ruleset::default(), &mixed, &env()), Err(Error::MixedFamilies { .. })));
    assert_eq!(verdicts(&Ruleset::default(), &packet), [(PASSED, 1, 1)]);
}

#[test]
fn memory_takes_all_or_nothing() {
    use crate::{CommitError, Dataplane, Op, Transaction};
    let mut memory = Memory::default();
    let good = Transaction { ops: vec![Op::AddTable(Family::V4), Op::AddSet(Family::V4, SetName::Slots, 8)] };
    assert_eq!(memory.commit(&good).unwrap().messages, 2);
    let before = memory.ruleset().clone();
    let bad = Transaction {
        ops: vec![Op::AddChain(Family::V4, "a".to_owned(), None), Op::DelSet(Family::V4, SetName::Frontends)],
    };
    let Err(CommitError::Rejected { op, what, .. }) = memory.commit(&bad) else { panic!("accepted") };
    assert_eq!((op, what.as_str()), (1, "delete map ip weir frontends"));
    assert_eq!(memory.dump().unwrap(), before);
}

/// Sends UDP packets from known addresses and lets the kernel write down (source, port, hash).
#[test]
fn the_hash_is_the_kernels() {
    const MODULUS: u32 = 1_000_003;
    const SEED: u32 = 0x7765_6972;
    let table = |ip: &str, kind: &str| {
        format!(
            "table {ip} t {{
  set by-source {{ type {kind} . inet_service . mark; size 1000; flags dynamic; }}
  set by-flow {{ type {kind} . inet_service . mark; size 1000; flags dynamic; }}
  chain out {{
    type filter hook output priority 0;
    udp dport 9 meta mark set jhash {ip} saddr mod {MODULUS} seed {SEED} add @by-source {{ {ip} saddr . th sport . meta mark }}
    udp dport 9 meta mark set jhash {ip} saddr . th sport mod {MODULUS} seed {SEED} add @by-flow {{ {ip} saddr . th sport . meta mark }}
  }}
}}\n"
        )
    };
    let script = "nft -f - && ip link set lo up && for n in 1 2 3 4 5 6 7 8; do
        ip addr add 10.9.$n.1/32 dev lo && ip -6 addr add fd09:$n::1/128 dev lo nodad || exit 1
        for to in 10.9.$n.1 fd09:$n::1; do bash -c \"echo > /dev/udp/$to/9\" || exit 1; done
      done; for ip in ip ip6; do for set in by-source by-flow; do nft list set $ip t $set; done; done";
    let rules = table("ip", "ipv4_addr") + &table("ip6", "ipv6_addr");
    let Some(output) = crate::text::tests::in_namespace(script, &rules) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    let mut seen = 0;
    for set in listed.split("set ").skip(1) {
        let with_port = set.starts_with("by-flow");
        let Some((_, elements)) = set.split_once("elements = {") else { continue };
        for element in elements.split('}').next().unwrap().split(',') {
            let fields: Vec<&str> = element.split(" . ").map(str::trim).collect();
            let mut registers = ElementKey::new().address(fields[0].parse().unwrap());
            if with_port {
                registers = registers.port(fields[1].parse().unwrap());
            }
            let kernels = u32::from_str_radix(fields[2].trim_start_matches("0x"), 16).unwrap();
            assert_eq!(jhash::slot(registers.as_bytes(), MODULUS, SEED), kernels, "{element}");
            seen += 1;
        }
    }
    assert_eq!(seen, 32, "{listed}");
}
