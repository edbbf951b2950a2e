//! Set elements: written straight from [`Elements`] and read straight back, without an object in between.
//!
//! All elements of a flat set have the same length, so each is a copy of one template with key and data
//! filled in.

mod network;

use std::collections::BTreeMap;

use weir_model::Family;
use weir_nft::{Elements, SetName, TABLE};

use crate::bytecode::{VERDICT_GOTO, Verdict, family_number};
use crate::parse;
use crate::schema::kernel_key_len;
use crate::wire::{self, ATTRIBUTE_HEADER, Attribute, Attributes, HEADER, MAX_ATTRIBUTE, NESTED};

/// Attribute numbers (`NFTA_SET_ELEM_LIST_*`, `NFTA_LIST_ELEM`, `NFTA_SET_ELEM_*`, `NFTA_DATA_*`).
mod attribute {
    pub(super) const LIST_TABLE: u16 = 1;
    pub(super) const LIST_SET: u16 = 2;
    pub(super) const LIST_ELEMENTS: u16 = 3;
    pub(super) const LIST_ELEMENT: u16 = 1;
    pub(super) const KEY: u16 = 1;
    pub(super) const DATA: u16 = 2;
    pub(super) const KEY_END: u16 = 10;
    pub(super) const VALUE: u16 = 1;
    pub(super) const VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
    pub(super) const VERDICT_CHAIN: u16 = 2;
}

/// The addressee of element messages.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// The table's family.
    pub family: Family,
    /// The set.
    pub set: SetName,
    /// Add or delete (`NFT_MSG_NEWSETELEM`, `NFT_MSG_DELSETELEM`).
    pub kind: u16,
}

impl Target {
    /// Starts a message; returns where it and where its element list starts.
    fn start(self, out: &mut Vec<u8>, sequence: u32) -> Result<(usize, usize), String> {
        let flags = if self.kind == wire::kind::NEW_ELEMENTS { wire::flag::CREATE } else { 0 };
        let message = wire::start_message(out, self.kind, flags, sequence, family_number(self.family), 0);
        wire::put_text(out, attribute::LIST_TABLE, TABLE)?;
        wire::put_text(out, attribute::LIST_SET, self.set.name())?;
        let list = out.len();
        wire::put(out, attribute::LIST_ELEMENTS | NESTED, &[])?;
        Ok((message, list))
    }
}

/// Closes the element list and the message around it.
fn finish(out: &mut [u8], (message, list): (usize, usize)) -> Result<(), String> {
    let header = wire::attribute_header(attribute::LIST_ELEMENTS | NESTED, out.len() - list - ATTRIBUTE_HEADER)?;
    out[list..list + ATTRIBUTE_HEADER].copy_from_slice(&header);
    wire::finish_message(out, message)
}

/// Appends as many of `elements`, from position `first` on, as one message takes. A deletion names keys only.
/// Returns how many.
///
/// # Errors
/// When an element has not the set's lengths, or does not fit.
pub(crate) fn put_flat(
    out: &mut Vec<u8>,
    target: Target,
    sequence: u32,
    elements: &Elements,
    first: usize,
) -> Result<usize, String> {
    let with_data = target.kind == wire::kind::NEW_ELEMENTS;
    let key_len = target.set.key_len(target.family);
    let data_len = if with_data { target.set.data_len(target.family) } else { 0 };
    if elements.key_len() != key_len || (with_data && elements.data_len() != data_len) {
        return Err(format!(
            "elements of {} + {} bytes do not fit set {}, which has {key_len} + {data_len}",
            elements.key_len(),
            elements.data_len(),
            target.set.name(),
        ));
    }
    let interval = target.set.is_interval();
    let second = match (interval, data_len) {
        (true, _) => Some((attribute::KEY_END, kernel_key_len(target.set, target.family))),
        (false, 0) => None,
        (false, len) => Some((attribute::DATA, len)),
    };
    let (template, key_at, second_at) = template(kernel_key_len(target.set, target.family), second)?;
    let count = ((MAX_ATTRIBUTE - ATTRIBUTE_HEADER) / template.len()).min(elements.len() - first);
    let frame = target.start(out, sequence)?;
    out.reserve(count * template.len());
    for (key, data) in elements.starting_at(first).take(count) {
        let at = out.len();
        out.extend_from_slice(&template);
        let mut fill = |from: usize, bytes: &[u8]| out[at + from..at + from + bytes.len()].copy_from_slice(bytes);
        if interval {
            let (first, last) = network::bounds(key, target.family)?;
            fill(key_at, first.as_bytes());
            fill(second_at, last.as_bytes());
        } else {
            fill(key_at, key);
            if data_len > 0 {
                fill(second_at, data);
            }
        }
    }
    finish(out, frame)?;
    Ok(count)
}

/// One element with zeros for the key and for its second attribute, and where those go.
fn template(key_len: usize, second: Option<(u16, usize)>) -> Result<(Vec<u8>, usize, usize), String> {
    let mut body = Vec::new();
    put_value(&mut body, attribute::KEY, &vec![0; key_len])?;
    let key_at = 3 * ATTRIBUTE_HEADER;
    let second_at = ATTRIBUTE_HEADER + body.len() + 2 * ATTRIBUTE_HEADER;
    if let Some((attribute, len)) = second {
        put_value(&mut body, attribute, &vec![0; len])?;
    }
    let mut element = Vec::with_capacity(body.len() + ATTRIBUTE_HEADER);
    wire::put(&mut element, attribute::LIST_ELEMENT | NESTED, &body)?;
    Ok((element, key_at, second_at))
}

fn put_value(out: &mut Vec<u8>, kind: u16, bytes: &[u8]) -> Result<(), String> {
    let mut value = Vec::with_capacity(bytes.len() + ATTRIBUTE_HEADER);
    wire::put(&mut value, attribute::VALUE, bytes)?;
    wire::put(out, kind | NESTED, &value)
}

/// Appends as many verdict elements as one message takes; `chain` is missing in deletions. Returns how many.
///
/// # Errors
/// When one does not fit.
pub(crate) fn put_verdicts<'a>(
    out: &mut Vec<u8>,
    target: Target,
    sequence: u32,
    elements: impl Iterator<Item = (u32, Option<&'a str>)>,
) -> Result<usize, String> {
    let frame = target.start(out, sequence)?;
    let mut count = 0;
    for (number, chain) in elements {
        let mut body = Vec::new();
        put_value(&mut body, attribute::KEY, &number.to_ne_bytes())?;
        if let Some(chain) = chain {
            let mut verdict = Vec::new();
            wire::put(&mut verdict, attribute::VERDICT_CODE, &VERDICT_GOTO.to_be_bytes())?;
            wire::put_text(&mut verdict, attribute::VERDICT_CHAIN, chain)?;
            let mut data = Vec::new();
            wire::put(&mut data, attribute::VERDICT | NESTED, &verdict)?;
            wire::put(&mut body, attribute::DATA | NESTED, &data)?;
        }
        if out.len() - frame.1 + ATTRIBUTE_HEADER + body.len() > MAX_ATTRIBUTE {
            break;
        }
        wire::put(out, attribute::LIST_ELEMENT | NESTED, &body)?;
        count += 1;
    }
    finish(out, frame)?;
    Ok(count)
}

/// Which element of `message`, a whole element message, has byte `offset` in it.
pub(crate) fn element_at(message: &[u8], offset: usize) -> Option<usize> {
    let (list, start) = element_list(message)?;
    let inside = offset.checked_sub(start)?;
    let mut position = 0;
    let mut elements = list;
    loop {
        elements.next()?;
        if list.rest().len() - elements.rest().len() > inside {
            return Some(position);
        }
        position += 1;
    }
}

/// The elements of a message and the offset in it where the first one begins.
fn element_list(message: &[u8]) -> Option<(Attributes<'_>, usize)> {
    let mut attributes = Attributes(message.get(HEADER + 4..)?);
    loop {
        let start = message.len() - attributes.rest().len();
        let attribute = attributes.next()?;
        if attribute.kind == attribute::LIST_ELEMENTS {
            return Some((attribute.nested(), start + ATTRIBUTE_HEADER));
        }
    }
}

/// The elements in a dumped message's attributes.
fn dumped(attributes: Attributes<'_>) -> impl Iterator<Item = Attributes<'_>> {
    attributes.get(attribute::LIST_ELEMENTS).map_or(Attributes(&[]), Attribute::nested).map(Attribute::nested)
}

/// Appends the elements of a dumped message to `elements`, which are those of `set`.
///
/// # Errors
/// The position of an element that the set cannot have.
pub(crate) fn read_flat(
    attributes: Attributes<'_>,
    set: SetName,
    family: Family,
    elements: &mut Elements,
) -> Result<(), usize> {
    let (key_len, data_len) = (set.key_len(family), set.data_len(family));
    for (position, element) in dumped(attributes).enumerate() {
        let (mut key, mut data, mut last): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        for part in element {
            match part.kind {
                attribute::KEY => key = value(part).ok_or(position)?,
                attribute::DATA => data = value(part).ok_or(position)?,
                attribute::KEY_END => last = value(part).ok_or(position)?,
                _ => {}
            }
        }
        let network;
        if set.is_interval() {
            network = network::key(key, last, family).ok_or(position)?;
            key = network.as_bytes();
        }
        if key.len() != key_len || data.len() != data_len {
            return Err(position);
        }
        elements.push(key, data);
    }
    Ok(())
}

fn value(part: Attribute<'_>) -> Option<&[u8]> {
    Some(part.nested().get(attribute::VALUE)?.payload)
}

/// The same for a verdict map.
///
/// # Errors
/// See [`read_flat`].
pub(crate) fn read_verdicts(attributes: Attributes<'_>, verdicts: &mut BTreeMap<u32, String>) -> Result<(), usize> {
    for (position, element) in dumped(attributes).enumerate() {
        let (number, chain) = verdict(element).ok_or(position)?;
        verdicts.insert(number, chain);
    }
    Ok(())
}

fn verdict(element: Attributes<'_>) -> Option<(u32, String)> {
    let number = wire::native_u32(value(element.get(attribute::KEY)?)?)?;
    match parse::verdict(element.get(attribute::DATA)?.nested())? {
        Verdict::Goto(chain) => Some((number, chain)),
        Verdict::Drop | Verdict::Jump(_) => None,
    }
}
