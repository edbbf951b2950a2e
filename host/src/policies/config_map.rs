//! ConfigMaps, and directories that look like mounted ones, into offers.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_policy::{Artifact, Wasi};

use super::offer::{DigestPrefix, Offer, Rollout};

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
/// Key that lets a policy rest.
const ENABLED: &str = "enabled";
/// Key of the version that runs on every node.
const USE_DIGEST: &str = "use-digest";
/// Key of the names of nodes that run the canary.
const CANARY_NODES: &str = "canary-nodes";
/// Key of the share of nodes that run the canary.
const CANARY_PERCENT: &str = "canary-percent";
/// Every key of `data`.
const KEYS: [&str; 9] =
    [SETTINGS, FAIL_STRATEGY, LIMITS, MAX_REMOVED_PERCENT, WASI, ENABLED, USE_DIGEST, CANARY_NODES, CANARY_PERCENT];

/// How the name of a component ends.
const ENDS: [&str; 3] = [".wasm", ".wasm.gz", ".wasm.zst"];

/// The policy `name` out of what a ConfigMap holds under `binaryData` and `data`: one component, under any name that
/// ends in `.wasm`, `.wasm.gz` or `.wasm.zst`, its default `settings`, its `fail-strategy`, its own `limits`, its
/// `max-removed-percent` and what it may have of `wasi`; one more component called `canary` with such an end, and who
/// runs it; and the keys that choose a version or none.
///
/// # Errors
/// What is missing or makes no sense, with the field.
pub fn offer(name: &str, binary: BTreeMap<String, Vec<u8>>, data: &BTreeMap<String, String>) -> Result<Offer, String> {
    if let Some(unknown) = data.keys().find(|key| !KEYS.contains(&key.as_str())) {
        if ENDS.iter().any(|end| unknown.ends_with(end)) {
            return Err(format!("data.{unknown}: this is text; a component stands in binaryData"));
        }
        return Err(format!("data.{unknown}: unknown; there are {}", KEYS.join(", ")));
    }
    let (component, canary) = components(binary)?;
    let text = |key: &str| data.get(key).map(|text| text.trim().to_owned()).unwrap_or_default();
    let rollout = rollout(text).map_err(|(key, why)| format!("data.{key}: {why}"))?;
    let wanted = !rollout.canary_nodes.is_empty() || data.contains_key(CANARY_PERCENT);
    if wanted && canary.is_none() {
        return Err(format!(
            "binaryData: holds no canary.wasm, which data.{CANARY_NODES} and .{CANARY_PERCENT} ask for"
        ));
    }
    if canary.is_some() && !wanted {
        return Err(format!("data: says of no node that it runs the canary; {CANARY_NODES} or {CANARY_PERCENT} does"));
    }
    let artifact = Artifact {
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
    };
    Ok(Offer { artifact, canary, rollout })
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

/// The component, and the canary.
fn components(binary: BTreeMap<String, Vec<u8>>) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
    let (mut stable, mut canary) = (None, None);
    for (key, bytes) in binary {
        let Some(stem) = ENDS.iter().find_map(|end| key.strip_suffix(end)) else {
            return Err(format!("binaryData.{key}: a component's name ends in .wasm, .wasm.gz or .wasm.zst"));
        };
        let place = if stem == "canary" { &mut canary } else { &mut stable };
        if place.replace(bytes).is_some() {
            return Err(format!("binaryData.{key}: a second component; one is needed, and one called canary may be"));
        }
    }
    let missing = || "binaryData: holds no component; one entry such as policy.wasm is needed".to_owned();
    Ok((stable.ok_or_else(missing)?, canary))
}

/// What the keys say by their `text`, which is empty for those that are not there. Errors name their key.
fn rollout(text: impl Fn(&str) -> String) -> Result<Rollout, (&'static str, String)> {
    let off = match &*text(ENABLED) {
        "" | "true" => false,
        "false" => true,
        other => return Err((ENABLED, format!("must be true or false, not {other:?}"))),
    };
    let pin = Some(text(USE_DIGEST)).filter(|text| !text.is_empty());
    let pin = pin.map(|pin| DigestPrefix::read(&pin)).transpose().map_err(|why| (USE_DIGEST, why))?;
    let canary_nodes =
        text(CANARY_NODES).split([',', ' ', '\n']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let percent = text(CANARY_PERCENT);
    let canary_percent = match percent.parse::<u8>() {
        _ if percent.is_empty() => 0,
        Ok(percent) if percent <= 100 => percent,
        _ => return Err((CANARY_PERCENT, format!("must be 0 to 100, not {percent:?}"))),
    };
    Ok(Rollout { off, pin, canary_nodes, canary_percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(binary: &[&str], data: &[(&str, &str)]) -> Result<Offer, String> {
        let binary = binary.iter().map(|key| ((*key).to_owned(), key.as_bytes().to_vec())).collect();
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        offer("mine", binary, &data)
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
        assert_eq!(read, Ok(expected.into()));
    }

    #[test]
    fn which_version_runs_where() {
        let keys = [
            ("canary-nodes", "n1, n2\n"),
            ("canary-percent", "10"),
            ("use-digest", "sha256:0123abcd"),
            ("enabled", "false"),
        ];
        let read = read(&["policy.wasm", "canary.wasm.gz"], &keys).expect("an offer");
        assert_eq!(read.canary.as_deref(), Some(&b"canary.wasm.gz"[..]));
        let expected = Rollout {
            off: true,
            pin: DigestPrefix::read("0123abcd").ok(),
            canary_nodes: vec!["n1".to_owned(), "n2".to_owned()],
            canary_percent: 10,
        };
        assert_eq!(read.rollout, expected);
    }

    #[test]
    fn mistakes_name_their_field() {
        for (binary, data, expected) in [
            (&[][..], &[][..], "binaryData: holds no component"),
            (&["canary.wasm"], &[("canary-percent", "5")], "binaryData: holds no component"),
            (&["a.wasm", "b.wasm"], &[], "binaryData.b.wasm: a second component"),
            (&["policy.bin"], &[], "binaryData.policy.bin: "),
            (&["a.wasm"], &[("setings", "{}")], "data.setings: unknown"),
            (&["a.wasm"], &[("limits", "much")], "data.limits: not an object"),
            (&["a.wasm"], &[("limits", "{\"fuel\": -1}")], "data.limits.fuel: must be a whole number, not -1"),
            (&["a.wasm"], &[("wasi", "yes")], "data.wasi: must be none or inert"),
            (&["a.wasm"], &[("max-removed-percent", "101")], "data.max-removed-percent: must be 0 to 100"),
            (&["a.wasm"], &[("canary-percent", "5")], "binaryData: holds no canary.wasm"),
            (&["a.wasm", "canary.wasm"], &[], "data: says of no node"),
            (&["a.wasm", "canary.wasm"], &[("canary-percent", "101")], "data.canary-percent: must be 0 to 100"),
            (&["a.wasm"], &[("enabled", "no")], "data.enabled: must be true or false"),
            (&["a.wasm"], &[("use-digest", "v2")], "data.use-digest: \"v2\""),
        ] {
            let told = read(binary, data).expect_err("a mistake");
            assert!(told.starts_with(expected), "{told}");
        }
    }
}
