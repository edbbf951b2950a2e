//! What clients ask before they ask for objects: which groups and kinds there are.

use serde_json::{Value, json};

use super::resources::{ALL, GROUPS};

/// The answer for `path`, if it is about discovery.
pub(super) fn answer(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(json!({"major": "1", "minor": "37", "gitVersion": "v1.37.0"})),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let groups: Vec<Value> = GROUPS.iter().map(|name| group(name)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] if GROUPS.contains(name) => Some(group(name)),
        ["api", "v1"] => Some(resources("")),
        ["apis", name, "v1"] if GROUPS.contains(name) => Some(resources(name)),
        _ => None,
    }
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version})
}

fn resources(group: &str) -> Value {
    let of_group = ALL.iter().filter(|resource| resource.group == group);
    let listed: Vec<Value> = of_group
        .map(|resource| {
            let short: Vec<&str> = Some(resource.short).filter(|name| !name.is_empty()).into_iter().collect();
            json!({
                "name": resource.plural, "singularName": resource.kind.to_lowercase(), "kind": resource.kind,
                "namespaced": resource.namespaced, "shortNames": short,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed})
}
