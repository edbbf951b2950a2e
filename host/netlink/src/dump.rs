//! The ruleset as the kernel has it.

use std::collections::BTreeMap;
use std::io;

use weir_model::Family;
use weir_nft::{
    BaseChain, Chain, Content, DataKind, DumpError, Elements, Hook, Rule, Ruleset, Set, SetName, TABLE, Table,
};

use crate::bytecode::{family_name, family_number};
use crate::channel::Channel;
use crate::disassemble::disassemble;
use crate::elements;
use crate::parse;
use crate::schema::{Schema, VERDICT_TYPE};
use crate::wire::{Attribute, Attributes, flag, kind};

/// How often the ruleset may change under the dump before it gives up.
const ATTEMPTS: u32 = 5;
/// Policy of a base chain that accepts (`NF_ACCEPT`).
const ACCEPT: u32 = 1;

/// Reads both tables as they were at one moment: a change by anybody meanwhile raises the generation number,
/// and the dump starts again.
pub(crate) fn dump(channel: &mut Channel) -> Result<Ruleset, DumpError> {
    for _ in 0..ATTEMPTS {
        let before = channel.generation().map_err(DumpError::Io)?;
        let read = ruleset(channel);
        if channel.generation().map_err(DumpError::Io)? == before {
            return read;
        }
    }
    Err(DumpError::Unstable(ATTEMPTS))
}

/// A table's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableState {
    /// `NFTA_TABLE_FLAGS`.
    pub flags: u32,
    /// Netlink port of the owner.
    pub owner: Option<u32>,
}

/// Weir's table of `family`, if there is one.
pub(crate) fn table_state(channel: &mut Channel, family: Family) -> io::Result<Option<TableState>> {
    const NAME: u16 = 1;
    const FLAGS: u16 = 2;
    const OWNER: u16 = 7;
    let mut state = None;
    channel.ask(kind::GET_TABLE, flag::DUMP, family_number(family), &[], |message| {
        let attributes = message.attributes();
        let number = |kind| attributes.get(kind).and_then(Attribute::u32);
        if attributes.get(NAME).and_then(Attribute::text) == Some(TABLE) {
            state = Some(TableState { flags: number(FLAGS).unwrap_or(0), owner: number(OWNER) });
        }
    })?;
    Ok(state)
}

fn ruleset(channel: &mut Channel) -> Result<Ruleset, DumpError> {
    let mut ruleset = Ruleset::default();
    for family in Family::ALL {
        if table_state(channel, family).map_err(DumpError::Io)?.is_some() {
            ruleset.tables.insert(family, Reader { channel: &mut *channel, family }.table()?);
        }
    }
    Ok(ruleset)
}

struct Reader<'a> {
    channel: &'a mut Channel,
    family: Family,
}

impl Reader<'_> {
    fn table(&mut self) -> Result<Table, DumpError> {
        let mut chains = self.chains()?;
        self.rules(&mut chains)?;
        let mut sets = BTreeMap::new();
        for (name, size) in self.sets()? {
            let content = self.content(name)?;
            sets.insert(name, Set { size, content });
        }
        Ok(Table { chains, sets })
    }

    /// Asks for objects of this table. `each` returns what is wrong with one that is not Weir's.
    fn ask(
        &mut self,
        request: u16,
        attributes: &[(u16, &str)],
        mut each: impl FnMut(Attributes<'_>) -> Result<(), String>,
    ) -> Result<(), DumpError> {
        let mut foreign = None;
        let asked = self.channel.ask(request, flag::DUMP, family_number(self.family), attributes, |message| {
            // Attribute 1 is the table's name in every one of these messages.
            let attributes = message.attributes();
            if foreign.is_none() && attributes.get(1).and_then(Attribute::text) == Some(TABLE) {
                foreign = each(attributes).err();
            }
        });
        asked.map_err(DumpError::Io)?;
        match foreign {
            Some(what) => {
                Err(DumpError::Foreign { what: format!("{what} of table {} {TABLE}", family_name(self.family)) })
            }
            None => Ok(()),
        }
    }

    fn chains(&mut self) -> Result<BTreeMap<String, Chain>, DumpError> {
        const NAME: u16 = 3;
        let mut chains = BTreeMap::new();
        self.ask(kind::GET_CHAIN, &[(1, TABLE)], |attributes| {
            let name = attributes.get(NAME).and_then(Attribute::text).unwrap_or_default().to_owned();
            let base = base(attributes).ok_or_else(|| format!("the hook of chain {name}"))?;
            chains.insert(name, Chain { base, rules: Vec::new() });
            Ok(())
        })?;
        Ok(chains)
    }

    fn rules(&mut self, chains: &mut BTreeMap<String, Chain>) -> Result<(), DumpError> {
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        const USERDATA: u16 = 7;
        let family = self.family;
        self.ask(kind::GET_RULE, &[(1, TABLE)], |attributes| {
            let name = attributes.get(CHAIN).and_then(Attribute::text).unwrap_or_default();
            let chain = chains.get_mut(name).ok_or_else(|| format!("a rule of chain {name}, which is missing"))?;
            let nth = chain.rules.len() + 1;
            let list = attributes.get(EXPRESSIONS).map_or(Attributes(&[]), Attribute::nested);
            let code = parse::expressions(list)
                .map_err(|what| format!("rule {nth} of chain {name} (its {what} expression)"))?;
            let statements = disassemble(&code, family)
                .map_err(|at| format!("rule {nth} of chain {name} (from expression {} on)", at + 1))?;
            let comment = attributes.get(USERDATA).and_then(|data| comment(data.payload)).unwrap_or_default();
            chain.rules.push(Rule { statements, comment });
            Ok(())
        })
    }

    /// Names and sizes.
    fn sets(&mut self) -> Result<Vec<(SetName, u32)>, DumpError> {
        const NAME: u16 = 2;
        let family = self.family;
        let mut sets = Vec::new();
        self.ask(kind::GET_SET, &[(1, TABLE)], |attributes| {
            let text = attributes.get(NAME).and_then(Attribute::text).unwrap_or_default();
            let name = SetName::from_name(text).ok_or_else(|| format!("set {text}"))?;
            let size = set_size(attributes, &Schema::of(name, family))
                .ok_or_else(|| format!("set {text}, which has another type than this version of Weir gives it,"))?;
            sets.push((name, size));
            Ok(())
        })?;
        Ok(sets)
    }

    fn content(&mut self, set: SetName) -> Result<Content, DumpError> {
        if set.is_dynamic() {
            return Ok(Content::Dynamic);
        }
        let family = self.family;
        let target = [(1, TABLE), (2, set.name())];
        let foreign = |at: usize| format!("element {at} of a dump of set {}", set.name());
        if set.data() == DataKind::Verdict {
            let mut verdicts = BTreeMap::new();
            self.ask(kind::GET_ELEMENTS, &target, |attributes| {
                elements::read_verdicts(attributes, &mut verdicts).map_err(foreign)
            })?;
            return Ok(Content::Verdicts(verdicts));
        }
        let mut list = Elements::new(set, family);
        self.ask(kind::GET_ELEMENTS, &target, |attributes| {
            elements::read_flat(attributes, set, family, &mut list).map_err(foreign)
        })?;
        list.sort();
        Ok(Content::Flat(list))
    }
}

/// Where a chain hangs; the outer `None` when Weir hangs none there.
fn base(attributes: Attributes<'_>) -> Option<Option<BaseChain>> {
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    let Some(hook) = attributes.get(HOOK) else {
        return Some(None);
    };
    let number = hook.nested().get(1)?.u32()?;
    let priority = hook.nested().get(2)?.u32()?.cast_signed();
    let hooks = [Hook::Prerouting, Hook::Output, Hook::Postrouting];
    let hook = hooks.into_iter().find(|hook| hook.number() == number)?;
    let is_nat = attributes.get(TYPE)?.text()? == "nat";
    let accepts = attributes.get(POLICY).and_then(Attribute::u32).unwrap_or(ACCEPT) == ACCEPT;
    (is_nat && accepts).then_some(Some(BaseChain { hook, priority }))
}

/// A set's size (0 for none), if it is declared as in `schema`.
fn set_size(attributes: Attributes<'_>, schema: &Schema) -> Option<u32> {
    const FLAGS: u16 = 3;
    const KEY_TYPE: u16 = 4;
    const KEY_LEN: u16 = 5;
    const DATA_TYPE: u16 = 6;
    const DATA_LEN: u16 = 7;
    const DESCRIPTION: u16 = 9;
    const SIZE: u16 = 1;
    let number = |kind| attributes.get(kind).and_then(Attribute::u32);
    let data = match schema.data {
        None => number(DATA_TYPE).is_none(),
        // The kernel reports the length of its own verdict structure.
        Some((VERDICT_TYPE, _)) => number(DATA_TYPE) == Some(VERDICT_TYPE),
        Some((data_type, len)) => number(DATA_TYPE) == Some(data_type) && number(DATA_LEN) == Some(len),
    };
    let same = number(FLAGS).unwrap_or(0) == schema.flags
        && number(KEY_TYPE) == Some(schema.key_type)
        && number(KEY_LEN) == Some(schema.key_len)
        && data;
    let size = || attributes.get(DESCRIPTION)?.nested().get(SIZE)?.u32();
    same.then(|| size().unwrap_or(0))
}

/// The comment in a rule's user data: type `NFTNL_UDATA_RULE_COMMENT`, length, text, zero.
fn comment(mut data: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    while let [kind, len, rest @ ..] = data {
        let (value, next) = rest.split_at_checked(usize::from(*len))?;
        if *kind == COMMENT {
            return std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok().map(str::to_owned);
        }
        data = next;
    }
    None
}
