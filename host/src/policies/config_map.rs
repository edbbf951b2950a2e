//! ConfigMaps, and directories that look like mounted ones, into artifacts.

use std::collections::BTreeMap;

use weir_policy::Artifact;

/// Key of the default settings (JSON).
const SETTINGS: &str = "settings";
/// Key of the name of the policy that steps in.
const FAIL_STRATEGY: &str = "fail-strategy";

/// The policy `name` out of what a ConfigMap holds under `binaryData` and `data`: one component, under any name that
/// ends in `.wasm`, `.wasm.gz` or `.wasm.zst`, its default `settings` and its `fail-strategy`.
///
/// # Errors
/// What is missing or makes no sense, with the field.
pub fn artifact(
    name: &str,
    binary: BTreeMap<String, Vec<u8>>,
    data: &BTreeMap<String, String>,
) -> Result<Artifact, String> {
    let is_component = |key: &String| [".wasm", ".wasm.gz", ".wasm.zst"].iter().any(|end| key.ends_with(end));
    if let Some(unknown) = data.keys().find(|key| ![SETTINGS, FAIL_STRATEGY].contains(&key.as_str())) {
        return Err(format!("data.{unknown}: unknown; there are {SETTINGS} and {FAIL_STRATEGY}"));
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
    Ok(Artifact { name: name.to_owned(), component, settings: text(SETTINGS), fail_strategy: text(FAIL_STRATEGY) })
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
        let read = read(&["policy.wasm.zst"], &[("settings", " {\"a\": 1}\n"), ("fail-strategy", "random\n")]);
        let expected = Artifact {
            name: "mine".to_owned(),
            component: b"policy.wasm.zst".to_vec(),
            settings: "{\"a\": 1}".to_owned(),
            fail_strategy: "random".to_owned(),
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
        ] {
            let told = read(binary, data).expect_err("a mistake");
            assert!(told.starts_with(expected), "{told}");
        }
    }
}
