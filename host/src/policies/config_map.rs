//! ConfigMaps, and directories that look like mounted ones, into artifacts.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_policy::{Artifact, Wasi};

/// Key of the default settings (JSON).
const SETTINGS: &str = "settings";
/// Key of the name of the policy that steps in.
const FAIL_STRATEGY: &str = "fail-strategy";
/// Key of the policy's own limits (a YAML or JSON object of numbers).
const LIMITS: &str = "limits";
/// Key of the percentage of its endpoints it may take out of service at once.
const MAX_REMOVED_PERCENT: &str = "max-removed-percent";
/// Key of what it may import besides the contract.
const WASI: &str = "wasi";
/// Every key of `data`.
const KEYS: [&str; 5] = [SETTINGS, FAIL_STRATEGY, LIMITS, MAX_REMOVED_PERCENT, WASI];

/// The policy `name` out of what a ConfigMap holds under `binaryData` and `data`: one component, under any name that
/// ends in `.wasm`, `.wasm.gz` or `.wasm.zst`, its default `settings`, its `fail-strategy`, its own `limits`, its
/// `max-removed-percent`, and what it may have of `wasi`.
///
/// # Errors
/// What is missing or makes no sense, with the field.
pub fn artifact(
    name: &str,
    binary: BTreeMap<String, Vec<u8>>,
    data: &BTreeMap<String, String>,
) -> Result<Artifact, String> {
    let is_component = |key: &String| [".wasm", ".wasm.gz", ".wasm.zst"].iter().any(|end| key.ends_with(end));
    if let Some(unknown) = data.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("data.{unknown}: unknown; there are {}", KEYS.join(", ")));
    }
    if let Some(unknown) = binary.keys().find(|key| !is_component(key)) {
        return Err(format!("binaryData.{unknown}: a component's name ends in .wasm, .wasm.gz or .wasm.zst"));
    }
    let mut components = binary.into_iter();
    let Some((_, component)) = components.next() else {
        return Err("binaryData: holds no component; one entry such as policy.wasm is needed".to_owned());
    };
    if let Some((second, _)) = components.next() {
        return Err(format!("binaryData.{second}: a second component; one is needed"));
    }
    let text = |key: &str| data.get(key).map(|text| text.trim().to_owned()).unwrap_or_default();
    Ok(Artifact {
        name: name.to_owned(),
        component,
        settings: text(SETTINGS),
        fail_strategy: text(FAIL_STRATEGY),
        limits: limits(&text(LIMITS))?,
        max_removed_percent: percent(&text(MAX_REMOVED_PERCENT))?,
        wasi: match &*text(WASI) {
            "" | "none" => Wasi::Pure,
            "inert" => Wasi::Inert,
            other => return Err(format!("data.{WASI}: must be none or inert, not {other:?}")),
        },
    })
}

/// The numbers of `data.limits`; the engine knows which there are, and how large they may be.
fn limits(text: &str) -> Result<BTreeMap<String, u64>, String> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let values: BTreeMap<String, Value> = serde_saphyr::from_str(text)
        .map_err(|error| format!("data.{LIMITS}: not an object such as {{\"fuel\": 20000000}}: {error}"))?;
    let number = |(name, value): (String, Value)| match value.as_u64() {
        Some(number) => Ok((name, number)),
        None => Err(format!("data.{LIMITS}.{name}: must be a whole number, not {value}")),
    };
    values.into_iter().map(number).collect()
}

/// The number of `data.max-removed-percent`.
fn percent(text: &str) -> Result<Option<u8>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(percent @ 0..=100) => Ok(Some(percent)),
        _ => Err(format!("data.{MAX_REMOVED_PERCENT}: must be 0 to 100, not {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(binary: &[&str], data: &[(&str, &str)]) -> Result<Artifact, String> {
        let binary = binary.iter().map(|key| ((*key).to_owned(), key.as_bytes().to_vec())).collect();
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        artifact("mine", binary, &data)
    }

    #[test]
    fn one_component_and_what_is_set_for_it() {
        let data = [
            ("settings", " {\"a\": 1}\n"),
            ("fail-strategy", "random\n"),
            ("limits", "fuel: 70\nmemory-bytes: 80\n"),
            ("max-removed-percent", "100\n"),
            ("wasi", "inert\n"),
        ];
        let read = read(&["policy.wasm.zst"], &data);
        let expected = Artifact {
            name: "mine".to_owned(),
            component: b"policy.wasm.zst".to_vec(),
            settings: "{\"a\": 1}".to_owned(),
            fail_strategy: "random".to_owned(),
            limits: [("fuel".to_owned(), 70), ("memory-bytes".to_owned(), 80)].into(),
            max_removed_percent: Some(100),
            wasi: Wasi::Inert,
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn mistakes_name_their_field() {
        for (binary, data, expected) in [
            (&[][..], &[][..], "binaryData: holds no component"),
            (&["a.wasm", "b.wasm"], &[], "binaryData.b.wasm: a second component"),
            (&["policy.bin"], &[], "binaryData.policy.bin: "),
            (&["a.wasm"], &[("setings", "{}")], "data.setings: unknown"),
            (&["a.wasm"], &[("limits", "much")], "data.limits: not an object"),
            (&["a.wasm"], &[("limits", "{\"fuel\": -1}")], "data.limits.fuel: must be a whole number, not -1"),
            (&["a.wasm"], &[("wasi", "yes")], "data.wasi: must be none or inert"),
            (&["a.wasm"], &[("max-removed-percent", "101")], "data.max-removed-percent: must be 0 to 100"),
        ] {
            let told = read(binary, data).expect_err("a mistake");
            assert!(told.starts_with(expected), "{told}");
        }
    }
}
