//! Statements to bytecode: the same instructions and registers `nft` produces for the same text, because that
//! is what `nft list ruleset` knows how to turn back into text.

use ipnet::IpNet;
use weir_model::{Family, Protocol};
use weir_nft::{Field, Rule, SetName, Statement};

use crate::bytecode::{
    Base, CT_STATUS_DNAT, Ct, Expr, FibAddress, Found, Generator, IFNAMSIZ, Meta, NAT_RANDOM_FULLY, REJECT_ICMP,
    REJECT_TCP_RESET, RTN_LOCAL, Register, SetUpdate, Verdict, address_len, daddr_offset, port_unreachable,
    saddr_offset,
};

/// Most expressions the kernel takes in one rule (`NFT_RULE_MAXEXPRS`).
const MAX_EXPRESSIONS: usize = 128;

/// The bytecode of `rule` in a table of `family`.
///
/// # Errors
/// Why the rule has no bytecode, as a sentence: an address of the other family, a key longer than the
/// registers, or too many statements.
pub(crate) fn assemble(rule: &Rule, family: Family) -> Result<Vec<Expr>, String> {
    let mut assembler = Assembler { family, out: Vec::new() };
    for statement in &rule.statements {
        assembler.statement(statement)?;
    }
    if assembler.out.len() > MAX_EXPRESSIONS {
        return Err(format!("the rule has {} expressions; the kernel takes {MAX_EXPRESSIONS}", assembler.out.len()));
    }
    Ok(assembler.out)
}

/// The bytecode of one statement; see [`assemble`].
pub(crate) fn assemble_statement(statement: &Statement, family: Family) -> Result<Vec<Expr>, String> {
    let mut assembler = Assembler { family, out: Vec::new() };
    assembler.statement(statement)?;
    Ok(assembler.out)
}

struct Assembler {
    family: Family,
    out: Vec<Expr>,
}

impl Assembler {
    fn statement(&mut self, statement: &Statement) -> Result<(), String> {
        match statement {
            Statement::CtStatusDnat => self.ct_status(CT_STATUS_DNAT),
            Statement::Saddr { net, negate } => self.network(saddr_offset(self.family), *net, *negate)?,
            Statement::Daddr { net, negate } => self.network(daddr_offset(self.family), *net, *negate)?,
            Statement::FibSaddrLocal => self.fib_local(FibAddress::Source, true),
            Statement::FibDaddrLocal { negate } => self.fib_local(FibAddress::Destination, !negate),
            Statement::InInterface { name, prefix, negate } => self.interface(name, *prefix, !negate)?,
            Statement::Protocol(protocol) => self.protocol(*protocol),
            Statement::InSet { key, set, negate } => {
                self.key(key)?;
                self.lookup(*set, if *negate { Found::Missing } else { Found::Matched });
            }
            Statement::MarkHas(bit) => {
                self.out.push(Expr::MetaLoad { key: Meta::Mark, to: Register::FIRST });
                self.bitwise(Register::FIRST, &bit.to_ne_bytes(), &[0; 4]);
                self.out.push(Expr::Compare { equal: false, from: Register::FIRST, data: vec![0; 4] });
            }
            Statement::MarkSet(bit) => self.change_mark(!bit, *bit),
            Statement::MarkFlip(bit) => self.change_mark(u32::MAX, *bit),
            Statement::PriorityClear => {
                self.out.push(Expr::Immediate { data: vec![0; 4], to: Register::FIRST });
                self.out.push(Expr::MetaStore { key: Meta::Priority, from: Register::FIRST });
            }
            Statement::PriorityFrom { key, map } => {
                self.key(key)?;
                self.lookup(*map, Found::Data(Register::FIRST));
                self.out.push(Expr::MetaStore { key: Meta::Priority, from: Register::FIRST });
            }
            Statement::PriorityCount { modulus, offset } => {
                self.field(&Field::Counter { modulus: *modulus, offset: *offset }, Register::FIRST, Register::FIRST);
                self.out.push(Expr::MetaStore { key: Meta::Priority, from: Register::FIRST });
            }
            Statement::PriorityVerdict(map) => {
                self.out.push(Expr::MetaLoad { key: Meta::Priority, to: Register::FIRST });
                self.lookup(*map, Found::Verdict);
            }
            Statement::AffinityUpdate { key, timeout_seconds } => {
                self.affinity(SetUpdate::Update, key, u64::from(*timeout_seconds) * 1000)?;
            }
            Statement::AffinityDelete { key } => self.affinity(SetUpdate::Delete, key, 0)?,
            Statement::Dnat { key, map } => {
                self.key(key)?;
                self.lookup(*map, Found::Data(Register::FIRST));
                let port = Register::FIRST.after(usize::from(address_len(self.family)));
                self.out.push(Expr::Dnat { family: self.family, address: Register::FIRST, port });
            }
            Statement::Masquerade => self.out.push(Expr::Masquerade { flags: NAT_RANDOM_FULLY }),
            Statement::Reject => self.out.push(Expr::Reject { kind: REJECT_ICMP, code: port_unreachable(self.family) }),
            Statement::RejectTcp => {
                self.protocol(Protocol::Tcp);
                self.out.push(Expr::Reject { kind: REJECT_TCP_RESET, code: 0 });
            }
            Statement::Drop => self.out.push(Expr::Verdict(Verdict::Drop)),
            Statement::Jump(chain) => self.out.push(Expr::Verdict(Verdict::Jump(chain.clone()))),
            Statement::Goto(chain) => self.out.push(Expr::Verdict(Verdict::Goto(chain.clone()))),
        }
        Ok(())
    }

    fn bitwise(&mut self, register: Register, mask: &[u8], xor: &[u8]) {
        self.out.push(Expr::Bitwise { register, mask: mask.to_vec(), xor: xor.to_vec() });
    }

    fn lookup(&mut self, set: SetName, found: Found) {
        self.out.push(Expr::Lookup { set: set.name().to_owned(), key: Register::FIRST, found });
    }

    fn ct_status(&mut self, bit: u32) {
        self.out.push(Expr::CtLoad { key: Ct::Status, to: Register::FIRST });
        self.bitwise(Register::FIRST, &bit.to_ne_bytes(), &[0; 4]);
        self.out.push(Expr::Compare { equal: false, from: Register::FIRST, data: vec![0; 4] });
    }

    fn change_mark(&mut self, keep: u32, flip: u32) {
        self.out.push(Expr::MetaLoad { key: Meta::Mark, to: Register::FIRST });
        self.bitwise(Register::FIRST, &keep.to_ne_bytes(), &flip.to_ne_bytes());
        self.out.push(Expr::MetaStore { key: Meta::Mark, from: Register::FIRST });
    }

    fn fib_local(&mut self, address: FibAddress, equal: bool) {
        self.out.push(Expr::FibType { address, to: Register::FIRST });
        self.out.push(Expr::Compare { equal, from: Register::FIRST, data: RTN_LOCAL.to_ne_bytes().to_vec() });
    }

    /// A whole name is compared with its zeros up to the kernel's length, the beginning of one without.
    fn interface(&mut self, name: &str, prefix: bool, equal: bool) -> Result<(), String> {
        if name.is_empty() || name.len() >= IFNAMSIZ {
            return Err(format!("interface name {name:?} has not 1 to {} bytes", IFNAMSIZ - 1));
        }
        let mut data = name.as_bytes().to_vec();
        if !prefix {
            data.resize(IFNAMSIZ, 0);
        }
        self.out.push(Expr::MetaLoad { key: Meta::InInterfaceName, to: Register::FIRST });
        self.out.push(Expr::Compare { equal, from: Register::FIRST, data });
        Ok(())
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.out.push(Expr::MetaLoad { key: Meta::L4Protocol, to: Register::FIRST });
        self.out.push(Expr::Compare { equal: true, from: Register::FIRST, data: vec![protocol.number()] });
    }

    /// A prefix of whole bytes is compared as such; any other is masked first.
    fn network(&mut self, offset: u32, net: IpNet, negate: bool) -> Result<(), String> {
        let network = match (self.family, net.network()) {
            (Family::V4, std::net::IpAddr::V4(address)) => address.octets().to_vec(),
            (Family::V6, std::net::IpAddr::V6(address)) => address.octets().to_vec(),
            _ => return Err(format!("network {net} is not of the table's family")),
        };
        let prefix = net.prefix_len();
        let (len, data) = if prefix > 0 && prefix.is_multiple_of(8) {
            let len = prefix / 8;
            (len, network[..usize::from(len)].to_vec())
        } else {
            (address_len(self.family), network)
        };
        self.out.push(Expr::Payload { base: Base::Network, offset, len: u32::from(len), to: Register::FIRST });
        if prefix == 0 || !prefix.is_multiple_of(8) {
            self.bitwise(Register::FIRST, &netmask(prefix, len), &vec![0; usize::from(len)]);
        }
        self.out.push(Expr::Compare { equal: !negate, from: Register::FIRST, data });
        Ok(())
    }

    /// Loads `key` from the first register on.
    fn key(&mut self, key: &[Field]) -> Result<(), String> {
        let words: usize = key.iter().map(|field| self.field_words(field)).sum();
        // nft keeps hash input one 128-bit register clear of the key.
        let scratch = Register::FIRST.after(words * 4 + 16);
        let hashed = key.iter().map(|field| self.hashed_words(field)).max().unwrap_or(0);
        if words > Register::COUNT || (hashed > 0 && usize::from(scratch.0) + hashed > Register::COUNT) {
            return Err(format!(
                "a key of {words} registers and a hash of {hashed} do not fit into the kernel's registers"
            ));
        }
        let mut to = Register::FIRST;
        for field in key {
            self.field(field, to, scratch);
            to = to.after(self.field_words(field) * 4);
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, to: Register, scratch: Register) {
        let len = address_len(self.family);
        match *field {
            Field::Saddr => self.address(saddr_offset(self.family), to),
            Field::Daddr => self.address(daddr_offset(self.family), to),
            Field::AnyDaddr => {
                self.address(daddr_offset(self.family), to);
                let zero = vec![0; usize::from(len)];
                self.bitwise(to, &zero, &zero);
            }
            Field::Protocol => self.out.push(Expr::MetaLoad { key: Meta::L4Protocol, to }),
            Field::Dport => self.out.push(Expr::Payload { base: Base::Transport, offset: 2, len: 2, to }),
            Field::Priority => self.out.push(Expr::MetaLoad { key: Meta::Priority, to }),
            Field::Random { modulus, offset } => {
                self.out.push(Expr::Numgen { kind: Generator::Random, modulus, offset, to });
            }
            Field::Counter { modulus, offset } => {
                self.out.push(Expr::Numgen { kind: Generator::Incremental, modulus, offset, to });
            }
            Field::HashSource { modulus, seed, offset } => {
                self.address(saddr_offset(self.family), scratch);
                self.out.push(Expr::Jhash { from: scratch, len: u32::from(len), modulus, seed, offset, to });
            }
            Field::HashFlow { modulus, seed, offset } => {
                self.address(saddr_offset(self.family), scratch);
                let port = scratch.after(usize::from(len));
                self.out.push(Expr::Payload { base: Base::Transport, offset: 0, len: 2, to: port });
                self.out.push(Expr::Jhash { from: scratch, len: u32::from(len) + 4, modulus, seed, offset, to });
            }
        }
    }

    fn address(&mut self, offset: u32, to: Register) {
        self.out.push(Expr::Payload { base: Base::Network, offset, len: u32::from(address_len(self.family)), to });
    }

    fn affinity(&mut self, update: SetUpdate, key: &[Field], timeout_ms: u64) -> Result<(), String> {
        self.key(key)?;
        let words: usize = key.iter().map(|field| self.field_words(field)).sum();
        if words == Register::COUNT {
            return Err("the key leaves no register for the data".to_owned());
        }
        let data = Register::FIRST.after(words * 4);
        self.out.push(Expr::MetaLoad { key: Meta::Priority, to: data });
        let set = SetName::Affinity.name().to_owned();
        self.out.push(Expr::Dynset { set, update, key: Register::FIRST, data, timeout_ms });
        Ok(())
    }

    /// Registers `field` fills in a key.
    fn field_words(&self, field: &Field) -> usize {
        match field {
            Field::Saddr | Field::Daddr | Field::AnyDaddr => usize::from(address_len(self.family)) / 4,
            _ => 1,
        }
    }

    /// Registers that must hold what `field` hashes.
    fn hashed_words(&self, field: &Field) -> usize {
        match field {
            Field::HashSource { .. } => usize::from(address_len(self.family)) / 4,
            Field::HashFlow { .. } => usize::from(address_len(self.family)) / 4 + 1,
            _ => 0,
        }
    }
}

/// The mask of a prefix, `len` bytes.
fn netmask(prefix: u8, len: u8) -> Vec<u8> {
    (0..len)
        .map(|index| {
            let ones = prefix.saturating_sub(index * 8).min(8);
            u8::MAX.checked_shl(8 - u32::from(ones)).unwrap_or(0)
        })
        .collect()
}
