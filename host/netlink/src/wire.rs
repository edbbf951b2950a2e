//! Netlink's wire format, without unsafe code: messages, attributes and nests, written and read.
//!
//! Headers are in the machine's byte order; numbers inside nf_tables attributes are big-endian.

/// Bytes of a message header (`struct nlmsghdr`).
pub(crate) const HEADER: usize = 16;
/// Bytes of the header every nf_tables message has after that (`struct nfgenmsg`).
const GENERIC_HEADER: usize = 4;
/// Bytes of an attribute header (`struct nlattr`).
pub(crate) const ATTRIBUTE_HEADER: usize = 4;
/// Largest attribute: its length is 16 bits wide and counts the header.
pub(crate) const MAX_ATTRIBUTE: usize = u16::MAX as usize;

/// Marks an attribute that contains attributes.
pub(crate) const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;

/// The nf_tables subsystem's number in message types.
const NFTABLES: u16 = 10 << 8;

/// The resource field of a batch's begin and end: the nf_tables subsystem.
pub(crate) const SUBSYSTEM: u16 = 10;

/// Message types. Those of nf_tables carry the subsystem in the high byte.
pub(crate) mod kind {
    use super::NFTABLES;

    /// The outcome of a request: an error number, 0 for an acknowledgement.
    pub(crate) const ERROR: u16 = 2;
    /// The end of a dump.
    pub(crate) const DONE: u16 = 3;
    /// The begin of a batch.
    pub(crate) const BATCH_BEGIN: u16 = 16;
    /// The end of a batch.
    pub(crate) const BATCH_END: u16 = 17;
    /// `NFT_MSG_GETTABLE`.
    pub(crate) const GET_TABLE: u16 = NFTABLES | 1;
    /// `NFT_MSG_GETCHAIN`.
    pub(crate) const GET_CHAIN: u16 = NFTABLES | 4;
    /// `NFT_MSG_GETRULE`.
    pub(crate) const GET_RULE: u16 = NFTABLES | 7;
    /// `NFT_MSG_GETSET`.
    pub(crate) const GET_SET: u16 = NFTABLES | 10;
    /// `NFT_MSG_NEWSETELEM`.
    pub(crate) const NEW_ELEMENTS: u16 = NFTABLES | 12;
    /// `NFT_MSG_GETSETELEM`.
    pub(crate) const GET_ELEMENTS: u16 = NFTABLES | 13;
    /// `NFT_MSG_DELSETELEM`.
    pub(crate) const DEL_ELEMENTS: u16 = NFTABLES | 14;
    /// `NFT_MSG_GETGEN`.
    pub(crate) const GET_GENERATION: u16 = NFTABLES | 16;
}

/// Flags of a request.
pub(crate) mod flag {
    /// Every message to the kernel has it.
    pub(crate) const REQUEST: u16 = 1;
    /// Answer even when all is well.
    pub(crate) const ACK: u16 = 4;
    /// In an answer to a dump: what it lists changed meanwhile (`NLM_F_DUMP_INTR`).
    pub(crate) const INCONSISTENT: u16 = 0x10;
    /// In an error: the rejected message is not quoted whole.
    pub(crate) const CAPPED: u16 = 0x100;
    /// In an error: attributes follow.
    pub(crate) const ACK_TLVS: u16 = 0x200;
    /// Return all objects.
    pub(crate) const DUMP: u16 = 0x300;
    /// Create what is missing.
    pub(crate) const CREATE: u16 = 0x400;
    /// At the end of the list.
    pub(crate) const APPEND: u16 = 0x800;
}

/// Rounds up to netlink's alignment.
pub(crate) fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Starts a message; [`finish_message`] must follow. `family` is the table's, `resource` the last header
/// field, in host order. Returns where the message starts.
pub(crate) fn start_message(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
) -> usize {
    let start = out.len();
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    start
}

/// Writes the length of the message that began at `start`.
///
/// # Errors
/// When it does not fit into the header's 32 bits.
pub(crate) fn finish_message(out: &mut [u8], start: usize) -> Result<(), String> {
    let len = out.len() - start;
    let field = u32::try_from(len).map_err(|_| format!("a message of {len} bytes is too long for netlink"))?;
    out[start..start + 4].copy_from_slice(&field.to_ne_bytes());
    Ok(())
}

/// Replaces flags and sequence number of the message at the front of `message`.
pub(crate) fn readdress(message: &mut [u8], flags: u16, sequence: u32) {
    message[6..8].copy_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
}

/// The header of an attribute with `len` bytes of payload.
///
/// # Errors
/// When the length does not fit into the header's 16 bits.
pub(crate) fn attribute_header(kind: u16, len: usize) -> Result<[u8; ATTRIBUTE_HEADER], String> {
    let total = u16::try_from(len + ATTRIBUTE_HEADER)
        .map_err(|_| format!("{len} bytes do not fit into a netlink attribute"))?
        .to_ne_bytes();
    let kind = kind.to_ne_bytes();
    Ok([total[0], total[1], kind[0], kind[1]])
}

/// Appends an attribute.
///
/// # Errors
/// See [`attribute_header`].
pub(crate) fn put(out: &mut Vec<u8>, kind: u16, payload: &[u8]) -> Result<(), String> {
    out.extend_from_slice(&attribute_header(kind, payload.len())?);
    out.extend_from_slice(payload);
    out.resize(align(out.len()), 0);
    Ok(())
}

/// Appends a text attribute.
///
/// # Errors
/// See [`attribute_header`].
pub(crate) fn put_text(out: &mut Vec<u8>, kind: u16, text: &str) -> Result<(), String> {
    out.extend_from_slice(&attribute_header(kind, text.len() + 1)?);
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out.resize(align(out.len()), 0);
    Ok(())
}

/// A message as it came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes of an nf_tables message.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(GENERIC_HEADER..).unwrap_or_default())
    }
}

/// The messages in one datagram; a cut-off one ends the iteration.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.first_chunk::<HEADER>()?;
        let len = usize::try_from(native_u32(&header[0..4])?).ok()?;
        let payload = self.0.get(HEADER..len)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: native_u32(&header[8..12])?,
            payload,
        };
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(message)
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    /// Its type, without the flag bits.
    pub kind: u16,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub(crate) fn nested(self) -> Attributes<'a> {
        Attributes(self.payload)
    }

    /// A big-endian number of 32 bits.
    pub(crate) fn u32(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.try_into().ok()?))
    }

    /// A big-endian number of 64 bits.
    pub(crate) fn u64(self) -> Option<u64> {
        Some(u64::from_be_bytes(self.payload.try_into().ok()?))
    }

    /// A number of 8 bits.
    pub(crate) fn u8(self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// Text, without the byte that ends it.
    pub(crate) fn text(self) -> Option<&'a str> {
        let end = self.payload.iter().position(|byte| *byte == 0).unwrap_or(self.payload.len());
        std::str::from_utf8(&self.payload[..end]).ok()
    }
}

/// A row of attributes; a cut-off one ends the iteration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of that type.
    pub(crate) fn get(mut self, kind: u16) -> Option<Attribute<'a>> {
        self.find(|attribute| attribute.kind == kind)
    }

    /// The bytes not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let header = self.0.first_chunk::<ATTRIBUTE_HEADER>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let payload = self.0.get(ATTRIBUTE_HEADER..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Attribute { kind, payload })
    }
}

/// A number of 32 bits in the machine's byte order.
pub(crate) fn native_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
