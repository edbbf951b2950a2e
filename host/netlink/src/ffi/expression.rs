//! Bytecode to libnftnl's expressions.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

use nftnl::expr::Expression;
use nftnl_sys as sys;

use super::allocated;
use crate::bytecode::{
    CMP_EQ, CMP_NEQ, Expr, FIB_RESULT_ADDRTYPE, Found, HASH_JENKINS, LOOKUP_INVERTED, NAT_DNAT, VERDICT_REGISTER,
    Verdict, family_number,
};

/// An expression under construction.
struct Builder(NonNull<sys::nftnl_expr>);

impl Builder {
    fn new(name: &CStr) -> Self {
        // SAFETY: the name is a C string; the result is checked. libnftnl knows every name used here since 1.0.7.
        Self(allocated(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }))
    }

    fn u8(self, attribute: u32, value: u8) -> Self {
        // SAFETY: the expression is valid and the attribute is one of 8 bits.
        unsafe { sys::nftnl_expr_set_u8(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn u32(self, attribute: u32, value: u32) -> Self {
        // SAFETY: the expression is valid and the attribute is one of 32 bits.
        unsafe { sys::nftnl_expr_set_u32(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn u64(self, attribute: u32, value: u64) -> Self {
        // SAFETY: the expression is valid and the attribute is one of 64 bits.
        unsafe { sys::nftnl_expr_set_u64(self.0.as_ptr(), attribute as u16, value) };
        self
    }

    fn text(self, attribute: u32, value: &str) -> Self {
        let value = c_string(value);
        // SAFETY: the expression is valid, and libnftnl copies the string.
        unsafe { sys::nftnl_expr_set_str(self.0.as_ptr(), attribute as u16, value.as_ptr()) };
        self
    }

    fn bytes(self, attribute: u32, value: &[u8]) -> Self {
        let len = u32::try_from(value.len()).expect("at most 16 bytes");
        // SAFETY: the expression is valid, and libnftnl copies `len` bytes into its own room for 64.
        unsafe { sys::nftnl_expr_set(self.0.as_ptr(), attribute as u16, value.as_ptr().cast::<c_void>(), len) };
        self
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("the batch encoder checks names")
}

impl Expression for Expr {
    fn to_expr(&self, rule: &nftnl::Rule<'_>) -> NonNull<sys::nftnl_expr> {
        let builder = match self {
            Self::Verdict(verdict) => return nftnl_verdict(verdict).to_expr(rule),
            Self::Payload { base, offset, len, to } => Builder::new(c"payload")
                .u32(sys::NFTNL_EXPR_PAYLOAD_DREG, to.to_netlink())
                .u32(sys::NFTNL_EXPR_PAYLOAD_BASE, base.number())
                .u32(sys::NFTNL_EXPR_PAYLOAD_OFFSET, *offset)
                .u32(sys::NFTNL_EXPR_PAYLOAD_LEN, *len),
            Self::MetaLoad { key, to } => Builder::new(c"meta")
                .u32(sys::NFTNL_EXPR_META_KEY, key.number())
                .u32(sys::NFTNL_EXPR_META_DREG, to.to_netlink()),
            Self::MetaStore { key, from } => Builder::new(c"meta")
                .u32(sys::NFTNL_EXPR_META_KEY, key.number())
                .u32(sys::NFTNL_EXPR_META_SREG, from.to_netlink()),
            Self::CtLoad { key, to } => Builder::new(c"ct")
                .u32(sys::NFTNL_EXPR_CT_KEY, key.number())
                .u32(sys::NFTNL_EXPR_CT_DREG, to.to_netlink()),
            Self::FibType { address, to } => Builder::new(c"fib")
                .u32(sys::NFTNL_EXPR_FIB_DREG, to.to_netlink())
                .u32(sys::NFTNL_EXPR_FIB_RESULT, FIB_RESULT_ADDRTYPE)
                .u32(sys::NFTNL_EXPR_FIB_FLAGS, address.number()),
            Self::Numgen { kind, modulus, offset, to } => Builder::new(c"numgen")
                .u32(sys::NFTNL_EXPR_NG_DREG, to.to_netlink())
                .u32(sys::NFTNL_EXPR_NG_MODULUS, *modulus)
                .u32(sys::NFTNL_EXPR_NG_TYPE, kind.number())
                .u32(sys::NFTNL_EXPR_NG_OFFSET, *offset),
            Self::Jhash { from, len, modulus, seed, offset, to } => Builder::new(c"hash")
                .u32(sys::NFTNL_EXPR_HASH_SREG, from.to_netlink())
                .u32(sys::NFTNL_EXPR_HASH_DREG, to.to_netlink())
                .u32(sys::NFTNL_EXPR_HASH_LEN, *len)
                .u32(sys::NFTNL_EXPR_HASH_MODULUS, *modulus)
                .u32(sys::NFTNL_EXPR_HASH_SEED, *seed)
                .u32(sys::NFTNL_EXPR_HASH_OFFSET, *offset)
                .u32(sys::NFTNL_EXPR_HASH_TYPE, HASH_JENKINS),
            Self::Bitwise { register, mask, xor } => Builder::new(c"bitwise")
                .u32(sys::NFTNL_EXPR_BITWISE_SREG, register.to_netlink())
                .u32(sys::NFTNL_EXPR_BITWISE_DREG, register.to_netlink())
                .u32(sys::NFTNL_EXPR_BITWISE_LEN, u32::try_from(mask.len()).expect("at most 16 bytes"))
                .bytes(sys::NFTNL_EXPR_BITWISE_MASK, mask)
                .bytes(sys::NFTNL_EXPR_BITWISE_XOR, xor),
            Self::Compare { equal, from, data } => Builder::new(c"cmp")
                .u32(sys::NFTNL_EXPR_CMP_SREG, from.to_netlink())
                .u32(sys::NFTNL_EXPR_CMP_OP, if *equal { CMP_EQ } else { CMP_NEQ })
                .bytes(sys::NFTNL_EXPR_CMP_DATA, data),
            Self::Lookup { set, key, found } => {
                let lookup = Builder::new(c"lookup")
                    .u32(sys::NFTNL_EXPR_LOOKUP_SREG, key.to_netlink())
                    .text(sys::NFTNL_EXPR_LOOKUP_SET, set);
                match found {
                    Found::Matched => lookup,
                    Found::Missing => lookup.u32(sys::NFTNL_EXPR_LOOKUP_FLAGS, LOOKUP_INVERTED),
                    Found::Verdict => lookup.u32(sys::NFTNL_EXPR_LOOKUP_DREG, VERDICT_REGISTER),
                    Found::Data(to) => lookup.u32(sys::NFTNL_EXPR_LOOKUP_DREG, to.to_netlink()),
                }
            }
            Self::Dynset { set, update, key, data, timeout_ms } => {
                let dynset = Builder::new(c"dynset")
                    .u32(sys::NFTNL_EXPR_DYNSET_SREG_KEY, key.to_netlink())
                    .u32(sys::NFTNL_EXPR_DYNSET_SREG_DATA, data.to_netlink())
                    .u32(sys::NFTNL_EXPR_DYNSET_OP, update.number())
                    .text(sys::NFTNL_EXPR_DYNSET_SET_NAME, set);
                if *timeout_ms == 0 { dynset } else { dynset.u64(sys::NFTNL_EXPR_DYNSET_TIMEOUT, *timeout_ms) }
            }
            Self::Immediate { data, to } => Builder::new(c"immediate")
                .u32(sys::NFTNL_EXPR_IMM_DREG, to.to_netlink())
                .bytes(sys::NFTNL_EXPR_IMM_DATA, data),
            Self::Dnat { family, address, port } => Builder::new(c"nat")
                .u32(sys::NFTNL_EXPR_NAT_TYPE, NAT_DNAT)
                .u32(sys::NFTNL_EXPR_NAT_FAMILY, family_number(*family).into())
                .u32(sys::NFTNL_EXPR_NAT_REG_ADDR_MIN, address.to_netlink())
                .u32(sys::NFTNL_EXPR_NAT_REG_PROTO_MIN, port.to_netlink()),
            Self::Masquerade { flags } => Builder::new(c"masq").u32(sys::NFTNL_EXPR_MASQ_FLAGS, *flags),
            // nftnl's own reject writes the codes of `inet` tables, which mean something else in `ip` ones.
            Self::Reject { kind, code } => {
                Builder::new(c"reject").u32(sys::NFTNL_EXPR_REJECT_TYPE, *kind).u8(sys::NFTNL_EXPR_REJECT_CODE, *code)
            }
        };
        builder.0
    }
}

fn nftnl_verdict(verdict: &Verdict) -> nftnl::expr::Verdict {
    match verdict {
        Verdict::Drop => nftnl::expr::Verdict::Drop,
        Verdict::Jump(chain) => nftnl::expr::Verdict::Jump { chain: c_string(chain) },
        Verdict::Goto(chain) => nftnl::expr::Verdict::Goto { chain: c_string(chain) },
    }
}
