//! What one document or the command line says, and nothing it does not say.

use serde::Serialize;
use serde_json::{Map, Value};

/// Some of the fields of a [`Config`](super::Config), by their names in files. Sections are objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Layer(Map<String, Value>);

impl Layer {
    /// What an object says. A field that is null says nothing.
    pub(crate) fn of(mut object: Map<String, Value>) -> Self {
        drop_nulls(&mut object);
        Self(object)
    }

    /// Says that the field at `path`, as in `conntrack.min`, is `value`.
    ///
    /// # Panics
    /// When a section is asked for inside of a plain value, or `value` is no JSON: both are slips of a programmer.
    pub(crate) fn set(&mut self, path: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).expect("settings are JSON");
        let (sections, field) = path.rsplit_once('.').map_or(("", path), |(sections, field)| (sections, field));
        let mut object = &mut self.0;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            let next = object.entry(section).or_insert_with(|| Value::Object(Map::new()));
            object = next.as_object_mut().expect("a section is an object");
        }
        object.insert(field.to_owned(), value);
    }

    /// The same for a field that may say nothing.
    pub(crate) fn set_some(&mut self, path: &str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.set(path, value);
        }
    }

    /// Puts `later` over this: whatever it says counts from now on.
    pub(crate) fn cover(&mut self, later: &Self) {
        cover(&mut self.0, &later.0);
    }

    /// Every field that is said, with its path. A list is one field.
    pub(crate) fn fields(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        collect("", &self.0, &mut found);
        found
    }

    /// As one JSON value.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

fn drop_nulls(object: &mut Map<String, Value>) {
    object.retain(|_, value| !value.is_null());
    object.values_mut().filter_map(Value::as_object_mut).for_each(drop_nulls);
}

fn cover(under: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (name, value) in over {
        match (under.get_mut(name), value) {
            (Some(Value::Object(under)), Value::Object(over)) => cover(under, over),
            (Some(field), value) => field.clone_from(value),
            (None, value) => drop(under.insert(name.clone(), value.clone())),
        }
    }
}

fn collect<'a>(before: &str, object: &'a Map<String, Value>, found: &mut Vec<(String, &'a Value)>) {
    for (name, value) in object {
        let path = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        match value {
            Value::Object(section) => collect(&path, section, found),
            value => found.push((path, value)),
        }
    }
}
