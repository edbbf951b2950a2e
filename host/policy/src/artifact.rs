//! What a policy is delivered as: a component, which may be packed, and what its author or operator set for it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::{LoadError, Packing, Wasi};

/// A policy as ConfigMaps, directories and registries hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// What Services call it.
    pub name: String,
    /// The component: plain, or packed by gzip or zstd.
    pub component: Vec<u8>,
    /// Settings (JSON) for Services that give none; empty for none.
    pub settings: String,
    /// The policy that decides where this one fails and left no good answer; empty for the built-in ones.
    pub fail_strategy: String,
    /// Limits of its own, by name (see [`Limits::FIELDS`](crate::Limits::FIELDS)); the engine's count for all others.
    pub limits: BTreeMap<String, u64>,
    /// Percent of the endpoints it serves that it may take out of service at once; the node's setting counts when
    /// `None`. 100 lets it do as it likes.
    pub max_removed_percent: Option<u8>,
    /// What it may import besides the contract.
    pub wasi: Wasi,
}

impl Artifact {
    /// Unpacks the component, where it is packed.
    ///
    /// # Errors
    /// [`LoadError::TooLarge`] beyond `limit` bytes, of which no more are ever unpacked; [`LoadError::Packing`] for
    /// damaged input.
    pub fn unpack(&mut self, limit: usize) -> Result<(), LoadError> {
        if let Cow::Owned(plain) = unpack(&self.component, limit)? {
            self.component = plain;
        }
        Ok(())
    }
}

/// First bytes of a gzip member (RFC 1952).
const GZIP: &[u8] = &[0x1f, 0x8b];
/// First bytes of a zstd frame (RFC 8878).
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Which of the packings `bytes` begin like.
pub(crate) fn packing(bytes: &[u8]) -> Packing {
    if bytes.starts_with(GZIP) {
        Packing::Gzip
    } else if bytes.starts_with(ZSTD) {
        Packing::Zstd
    } else {
        Packing::Plain
    }
}

/// The component in `bytes`, unpacked where they are packed. At most `limit` bytes are ever unpacked, whatever the
/// packed ones promise.
///
/// # Errors
/// [`LoadError::TooLarge`] beyond the limit, [`LoadError::Packing`] for damaged input.
pub(crate) fn unpack(bytes: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, LoadError> {
    let damaged = |error: io::Error| LoadError::Packing(error.to_string());
    match packing(bytes) {
        Packing::Gzip => read(flate2::read::MultiGzDecoder::new(bytes), limit)?.map(Cow::Owned).map_err(damaged),
        Packing::Zstd => {
            let reader = zstd::Decoder::with_buffer(bytes).map_err(damaged)?;
            read(reader, limit)?.map(Cow::Owned).map_err(damaged)
        }
        Packing::Plain if bytes.len() > limit => Err(LoadError::TooLarge { size: bytes.len(), limit }),
        Packing::Plain => Ok(Cow::Borrowed(bytes)),
    }
}

fn read(reader: impl Read, limit: usize) -> Result<io::Result<Vec<u8>>, LoadError> {
    let mut unpacked = Vec::new();
    // One byte more than allowed tells that there is more.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match reader.take(most).read_to_end(&mut unpacked) {
        Ok(size) if size > limit => Err(LoadError::TooLarge { size, limit }),
        result => Ok(result.map(|_| unpacked)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("finished")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 19).expect("encoded")
    }

    #[test]
    fn every_packing_holds_the_same() {
        let plain = b"\0asm and more".as_slice();
        for packed in [plain.to_vec(), gzip(plain), zstd(plain), [gzip(b"\0asm and"), gzip(b" more")].concat()] {
            assert_eq!(unpack(&packed, 100).expect("unpacked"), plain);
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; 8 << 20];
        for packed in [gzip(&zeros), zstd(&zeros)] {
            assert!(packed.len() < 20_000, "small before it goes off");
            let refused = unpack(&packed, 1 << 20).expect_err("too much");
            assert!(matches!(refused, LoadError::TooLarge { size, limit } if size == limit + 1), "{refused}");
        }
        assert!(
            unpack(&zeros, 8 << 20).is_ok() && unpack(&gzip(&zeros), 8 << 20).is_ok(),
            "the limit itself is allowed"
        );
    }

    #[test]
    fn damage_is_told() {
        for packed in [gzip(&[7; 5000]), zstd(&[7; 5000])] {
            let cut = &packed[..packed.len() - 6];
            assert!(matches!(unpack(cut, 1 << 20), Err(LoadError::Packing(_))));
        }
    }
}
