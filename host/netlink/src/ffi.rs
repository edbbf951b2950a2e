//! libnftnl objects: tables, chains, sets and rules, written into messages.
//!
//! `nftnl` covers chains, rules and verdicts. Table flags, maps and the other expressions, all of which it
//! lacks, are built here through `nftnl-sys` behind its own extension traits, [`NlMsg`] and [`nftnl::expr::Expression`].

mod expression;

use std::alloc::{Layout, handle_alloc_error};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use nftnl::{MsgType, NlMsg, ProtoFamily};
use nftnl_sys as sys;
use weir_model::Family;

use crate::bytecode::family_number;
use crate::schema::Schema;
use crate::wire;

/// A buffer libnftnl writes one message at a time to.
pub(crate) struct Scratch(Vec<u64>);

impl Scratch {
    /// A buffer that holds any message libnftnl can write.
    pub(crate) fn new() -> Self {
        let bytes = usize::try_from(nftnl::nft_nlmsg_maxsize()).expect("about 70 000");
        Self(vec![0; bytes.div_ceil(size_of::<u64>())])
    }

    /// Appends `message` to `out`, with these flags and that sequence number instead of nftnl's own.
    pub(crate) fn append(&mut self, message: &impl NlMsg, kind: MsgType, flags: u16, sequence: u32, out: &mut Vec<u8>) {
        let buffer: *mut u64 = self.0.as_mut_ptr();
        // SAFETY: the buffer has `nft_nlmsg_maxsize()` bytes, which is what `write` asks for, and is aligned
        // for `nlmsghdr`. Callers keep names within the kernel's limit and rules below 128 expressions, so the message
        // fits.
        unsafe { message.write(buffer.cast::<c_void>(), sequence, kind) };
        // SAFETY: the same allocation, its whole length; `u8` has no alignment and every byte was initialised
        // when the vector was made.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), self.0.len() * size_of::<u64>()) };
        let len = bytes.first_chunk().map_or(0, |len| u32::from_ne_bytes(*len));
        let start = out.len();
        out.extend_from_slice(&bytes[..usize::try_from(len).expect("a message is smaller than the buffer")]);
        wire::readdress(&mut out[start..], flags, sequence);
    }
}

/// nftnl's name of the family.
pub(crate) fn proto_family(family: Family) -> ProtoFamily {
    match family {
        Family::V4 => ProtoFamily::Ipv4,
        Family::V6 => ProtoFamily::Ipv6,
    }
}

fn allocated<T>(object: *mut T) -> NonNull<T> {
    NonNull::new(object).unwrap_or_else(|| handle_alloc_error(Layout::new::<u64>()))
}

/// A table with flags, for creation; nftnl's has none.
pub(crate) struct Table {
    table: NonNull<sys::nftnl_table>,
    family: Family,
}

impl Table {
    /// Table `name` with `flags` (`enum nft_table_flags`).
    pub(crate) fn new(name: &CStr, family: Family, flags: u32) -> Self {
        // SAFETY: takes nothing; the result is checked.
        let table = allocated(unsafe { sys::nftnl_table_alloc() });
        // SAFETY: `table` is valid, and libnftnl copies the string.
        unsafe {
            sys::nftnl_table_set_u32(table.as_ptr(), sys::NFTNL_TABLE_FAMILY as u16, family_number(family).into());
            sys::nftnl_table_set_u32(table.as_ptr(), sys::NFTNL_TABLE_FLAGS as u16, flags);
            sys::nftnl_table_set_str(table.as_ptr(), sys::NFTNL_TABLE_NAME as u16, name.as_ptr());
        }
        Self { table, family }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: `table` came from `nftnl_table_alloc` and is freed once.
        unsafe { sys::nftnl_table_free(self.table.as_ptr()) };
    }
}

// SAFETY: `write` writes one message of a table, far smaller than the buffer the trait promises.
unsafe impl NlMsg for Table {
    unsafe fn write(&self, buffer: *mut c_void, sequence: u32, kind: MsgType) {
        let message = match kind {
            MsgType::Add => libc::NFT_MSG_NEWTABLE,
            MsgType::Del => libc::NFT_MSG_DELTABLE,
        };
        let family = family_number(self.family).into();
        // SAFETY: the caller gives a buffer that is large enough; the table is valid.
        unsafe {
            let header = sys::nftnl_nlmsg_build_hdr(buffer.cast::<c_char>(), message as u16, family, 0, sequence);
            sys::nftnl_table_nlmsg_build_payload(header, self.table.as_ptr());
        }
    }
}

/// A set or map of any kind; nftnl's are plain sets of one address.
pub(crate) struct Set {
    set: NonNull<sys::nftnl_set>,
    family: Family,
}

impl Set {
    /// Set `name` of `table`, for deletion.
    pub(crate) fn named(table: &CStr, name: &CStr, family: Family) -> Self {
        // SAFETY: takes nothing; the result is checked.
        let set = allocated(unsafe { sys::nftnl_set_alloc() });
        let this = Self { set, family };
        this.number(sys::NFTNL_SET_FAMILY as u16, family_number(family).into());
        // SAFETY: `set` is valid, and libnftnl copies the strings.
        unsafe {
            sys::nftnl_set_set_str(set.as_ptr(), sys::NFTNL_SET_TABLE as u16, table.as_ptr());
            sys::nftnl_set_set_str(set.as_ptr(), sys::NFTNL_SET_NAME as u16, name.as_ptr());
        }
        this
    }

    /// The same, for creation. `id` is its number within the batch.
    pub(crate) fn declared(table: &CStr, name: &CStr, family: Family, schema: &Schema, size: u32, id: u32) -> Self {
        let this = Self::named(table, name, family);
        this.number(sys::NFTNL_SET_ID as u16, id);
        this.number(sys::NFTNL_SET_FLAGS as u16, schema.flags);
        this.number(sys::NFTNL_SET_KEY_TYPE as u16, schema.key_type);
        this.number(sys::NFTNL_SET_KEY_LEN as u16, schema.key_len);
        if let Some((data_type, data_len)) = schema.data {
            this.number(sys::NFTNL_SET_DATA_TYPE as u16, data_type);
            this.number(sys::NFTNL_SET_DATA_LEN as u16, data_len);
        }
        this.number(sys::NFTNL_SET_DESC_SIZE as u16, size);
        if !schema.components.is_empty() {
            let len = u32::try_from(schema.components.len()).expect("four components");
            // SAFETY: the set is valid, and libnftnl copies `len` bytes, one a component, into its own room for 16.
            unsafe {
                let lens = schema.components.as_ptr().cast::<c_void>();
                sys::nftnl_set_set_data(this.set.as_ptr(), sys::NFTNL_SET_DESC_CONCAT as u16, lens, len);
            }
        }
        let len = u32::try_from(schema.userdata.len()).expect("about 200 bytes");
        // SAFETY: the set is valid, and libnftnl copies `len` bytes from the vector.
        unsafe {
            let data = schema.userdata.as_ptr().cast::<c_void>();
            sys::nftnl_set_set_data(this.set.as_ptr(), sys::NFTNL_SET_USERDATA as u16, data, len);
        }
        this
    }

    fn number(&self, attribute: u16, value: u32) {
        // SAFETY: the set is valid and the attribute is one of 32 bits.
        unsafe { sys::nftnl_set_set_u32(self.set.as_ptr(), attribute, value) };
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // SAFETY: `set` came from `nftnl_set_alloc` and is freed once.
        unsafe { sys::nftnl_set_free(self.set.as_ptr()) };
    }
}

// SAFETY: `write` writes one message of a set, far smaller than the buffer the trait promises.
unsafe impl NlMsg for Set {
    unsafe fn write(&self, buffer: *mut c_void, sequence: u32, kind: MsgType) {
        let message = match kind {
            MsgType::Add => libc::NFT_MSG_NEWSET,
            MsgType::Del => libc::NFT_MSG_DELSET,
        };
        let family = family_number(self.family).into();
        // SAFETY: the caller gives a buffer that is large enough; the set is valid.
        unsafe {
            let header = sys::nftnl_nlmsg_build_hdr(buffer.cast::<c_char>(), message as u16, family, 0, sequence);
            sys::nftnl_set_nlmsg_build_payload(header, self.set.as_ptr());
        }
    }
}
