//! Label and field selectors, as they stand in a query.

use serde_json::Value;

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Condition>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    of: Of,
    is: Is,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    Label(String),
    /// A JSON pointer.
    Field(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Is {
    There,
    Absent,
    OneOf(Vec<String>),
    NoneOf(Vec<String>),
}

impl Selector {
    /// Reads the two selectors of a query.
    ///
    /// # Errors
    /// When one is not understood; nothing is passed over.
    pub(super) fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Self, String> {
        let mut conditions = Vec::new();
        for part in split(labels.unwrap_or_default()) {
            let (key, is) = condition(part)?;
            conditions.push(Condition { of: Of::Label(key.to_owned()), is });
        }
        for part in split(fields.unwrap_or_default()) {
            let (key, is) = condition(part)?;
            if matches!(is, Is::There | Is::Absent) {
                return Err(format!("field selector {part:?} has no value"));
            }
            conditions.push(Condition { of: Of::Field(format!("/{}", key.replace('.', "/"))), is });
        }
        Ok(Self(conditions))
    }

    /// Whether `object` is selected.
    pub(super) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|Condition { of, is }| {
            let value = match of {
                Of::Label(key) => object.pointer("/metadata/labels").and_then(|labels| labels.get(key)),
                // A field that is not set counts as empty.
                Of::Field(pointer) => Some(object.pointer(pointer).unwrap_or(&Value::Null)),
            };
            let text = value.map(|value| value.as_str().unwrap_or_default());
            match is {
                Is::There => text.is_some(),
                Is::Absent => text.is_none(),
                Is::OneOf(any) => text.is_some_and(|text| any.iter().any(|one| one == text)),
                Is::NoneOf(any) => text.is_none_or(|text| !any.iter().any(|one| one == text)),
            }
        })
    }
}

/// Splits at commas outside of brackets.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    text.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn condition(part: &str) -> Result<(&str, Is), String> {
    let list = |text: &str| {
        let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect::<Vec<_>>())
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some(key) = part.strip_prefix('!') {
        return Ok((key.trim(), Is::Absent));
    }
    if let Some((key, values)) = part.split_once(" notin ") {
        return Ok((key.trim(), Is::NoneOf(list(values).ok_or_else(|| format!("{part:?} has no list"))?)));
    }
    if let Some((key, values)) = part.split_once(" in ") {
        return Ok((key.trim(), Is::OneOf(list(values).ok_or_else(|| format!("{part:?} has no list"))?)));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok((key.trim(), Is::NoneOf(one(value))));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok((key.trim(), Is::OneOf(one(value))));
    }
    Ok((part, Is::There))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_is_understood() {
        let object = json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"clusterIP": "None"}});
        let labels = |text: &str| Selector::parse(Some(text), None).expect(text).matches(&object);
        for text in ["x", "x=1", "x==1", "x in (0,1), x", "!y", "y!=1", "y notin (1)", "x,!y"] {
            assert!(labels(text), "{text}");
        }
        for text in ["!x", "x=2", "x!=1", "x in (0,2)", "x notin (1)", "y", "x,y"] {
            assert!(!labels(text), "{text}");
        }
        let fields = |text: &str| Selector::parse(None, Some(text)).expect(text).matches(&object);
        assert!(fields("metadata.name=a") && fields("spec.type!=x") && !fields("spec.clusterIP!=None"));
        assert!(Selector::parse(None, Some("metadata.name")).is_err());
    }
}
