//! ConfigMaps in Kubernetes' protobuf encoding: `kubectl create configmap` writes nothing else.
//!
//! The encoding: four bytes `k8s\0`, then `runtime.Unknown` around the object. Field numbers are those of
//! `generated.proto` of `k8s.io/api/core/v1` and `k8s.io/apimachinery`.

use serde_json::{Map, Value, json};

const MAGIC: &[u8] = b"k8s\0";

/// Whether `body` is in this encoding.
pub(super) fn is(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// The ConfigMap in `body` as JSON; `None` when it is broken or something else.
pub(super) fn config_map(body: &[u8]) -> Option<Value> {
    let unknown = fields(body.strip_prefix(MAGIC)?)?;
    let kind = fields(bytes_of(&unknown, 1)?)?;
    if text_of(&kind, 2)? != "ConfigMap" {
        return None;
    }
    let object = fields(bytes_of(&unknown, 2)?)?;
    let meta = fields(bytes_of(&object, 1)?)?;
    let binary = entries(&object, 3)?.into_iter().map(|(name, value)| (name, base64(value))).collect();
    Some(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": text_of(&meta, 1)?,
            "namespace": text_of(&meta, 3).unwrap_or_default(),
            "labels": texts(&meta, 11)?,
            "annotations": texts(&meta, 12)?,
        },
        "data": texts(&object, 2)?,
        "binaryData": Value::Object(binary),
    }))
}

/// The fields that hold bytes, with their numbers; numbers are passed over.
fn fields(mut text: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut fields = Vec::new();
    while !text.is_empty() {
        let tag = varint(&mut text)?;
        match tag & 7 {
            0 => {
                varint(&mut text)?;
            }
            2 => {
                let length = usize::try_from(varint(&mut text)?).ok()?;
                let (value, rest) = text.split_at_checked(length)?;
                fields.push((tag >> 3, value));
                text = rest;
            }
            _ => return None,
        }
    }
    Some(fields)
}

fn varint(text: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = text.split_first()?;
        *text = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn bytes_of<'a>(fields: &[(u64, &'a [u8])], number: u64) -> Option<&'a [u8]> {
    fields.iter().find(|(field, _)| *field == number).map(|(_, value)| *value)
}

fn text_of<'a>(fields: &[(u64, &'a [u8])], number: u64) -> Option<&'a str> {
    std::str::from_utf8(bytes_of(fields, number)?).ok()
}

/// A map: one field an entry, with the name in 1 and the value in 2.
fn entries<'a>(of: &[(u64, &'a [u8])], number: u64) -> Option<Vec<(String, &'a [u8])>> {
    let of_map = of.iter().filter(|(field, _)| *field == number);
    of_map
        .map(|(_, entry)| {
            let entry = fields(entry)?;
            Some((text_of(&entry, 1)?.to_owned(), bytes_of(&entry, 2).unwrap_or_default()))
        })
        .collect()
}

fn texts(of: &[(u64, &[u8])], number: u64) -> Option<Value> {
    let texts =
        entries(of, number)?.into_iter().map(|(name, value)| Some((name, json!(std::str::from_utf8(value).ok()?))));
    texts.collect::<Option<Map<String, Value>>>().map(Value::Object)
}

/// Bytes as JSON has them.
fn base64(bytes: &[u8]) -> Value {
    // The Kubernetes types know how; nothing else here needs it.
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(value.len()).expect("short")], value].concat()
    }

    #[test]
    fn reads_a_config_map() {
        let entry = |name: &[u8], value: &[u8]| [field(1, name), field(2, value)].concat();
        let meta = [field(1, b"mine"), field(3, b"ns"), field(11, &entry(b"a", b"b"))].concat();
        let object = [field(1, &meta), field(2, &entry(b"x", b"1")), field(3, &entry(b"y", &[0, 255]))].concat();
        let kind = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
        let body = [MAGIC, &field(1, &kind), &field(2, &object)].concat();
        let read = config_map(&body).expect("a ConfigMap");
        assert_eq!(
            read["metadata"],
            json!({"name": "mine", "namespace": "ns", "labels": {"a": "b"}, "annotations": {}})
        );
        assert_eq!((&read["data"]["x"], &read["binaryData"]["y"]), (&json!("1"), &json!("AP8=")));
        assert_eq!(config_map(&body[..body.len() - 1]), None, "a broken one");
    }
}
