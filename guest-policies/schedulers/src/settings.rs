//! Reads a policy's settings, and says of every field what is wrong with it.
//!
//! Settings are a JSON object, or nothing. A policy asks for its fields one by one; what it did not ask for, is not
//! there. All problems are told, not only the first.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// What is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `by-zone.a`; empty for the settings as a whole.
    pub path: String,
    /// What is wrong with it, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// Settings of a policy.
pub trait Settings: Sized {
    /// Takes the fields it knows. What is missing has a default; what is wrong, `fields` remembers.
    fn read(fields: &mut Fields) -> Self;

    /// Settings as the JSON of an object; empty text is an empty object.
    ///
    /// # Errors
    /// All that is wrong with them, at least one problem.
    fn parse(json: &str) -> Result<Self, Vec<Problem>> {
        let mut fields = Fields::parse(json)?;
        let settings = Self::read(&mut fields);
        let problems = fields.finish();
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

/// A policy without settings. It needs no JSON to say so, which makes its component a fifth of the size.
impl Settings for () {
    fn read(_: &mut Fields) -> Self {}

    fn parse(json: &str) -> Result<Self, Vec<Problem>> {
        match json.trim_ascii() {
            "" | "{}" => Ok(()),
            _ => Err(vec![Problem { path: String::new(), message: "this policy takes no settings".to_owned() }]),
        }
    }
}

/// The fields of settings that are being read.
#[derive(Debug)]
pub struct Fields {
    left: Map<String, Value>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl Fields {
    fn parse(json: &str) -> Result<Self, Vec<Problem>> {
        let problem = |message| Err(vec![Problem { path: String::new(), message }]);
        let left = match json {
            "" => Map::new(),
            json => match serde_json::from_str(json) {
                Ok(Value::Object(fields)) => fields,
                Ok(other) => return problem(format!("settings are an object, such as {{}}, not {}", shown(&other))),
                Err(error) => return problem(format!("no JSON: {error}")),
            },
        };
        Ok(Self { left, known: Vec::new(), problems: Vec::new() })
    }

    /// Says that something is wrong with the field `path`.
    pub fn refuse(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), message: message.into() });
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(name)
    }

    /// A whole number within `allowed`.
    pub fn number(&mut self, name: &'static str, allowed: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(name)?;
        self.checked_number(name, &value, &allowed)
    }

    fn checked_number(&mut self, path: &str, value: &Value, allowed: &RangeInclusive<u32>) -> Option<u32> {
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let found = number.filter(|number| allowed.contains(number));
        if found.is_none() {
            let (least, most) = (allowed.start(), allowed.end());
            self.refuse(path, format!("{} is no whole number from {least} to {most}", shown(value)));
        }
        found
    }

    /// A number within `allowed`, whole or not.
    pub fn decimal(&mut self, name: &'static str, allowed: RangeInclusive<f64>) -> Option<f64> {
        let value = self.take(name)?;
        let found = value.as_f64().filter(|number| allowed.contains(number));
        if found.is_none() {
            let (least, most) = (allowed.start(), allowed.end());
            self.refuse(name, format!("{} is no number from {least} to {most}", shown(&value)));
        }
        found
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        if !value.is_boolean() {
            self.refuse(name, format!("{} is neither true nor false", shown(&value)));
        }
        value.as_bool()
    }

    /// Any text.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => {
                self.refuse(name, format!("{} is no text in quotes", shown(&other)));
                None
            }
        }
    }

    /// One of the words given, as what stands beside it.
    pub fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.take(name)?;
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let allowed: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.refuse(name, format!("{} is none of {}", shown(&value), allowed.join(", ")));
        }
        found
    }

    /// An object of whole numbers within `allowed`; without the field, an empty one.
    pub fn table(&mut self, name: &'static str, allowed: RangeInclusive<u32>) -> BTreeMap<String, u32> {
        let entries = match self.take(name) {
            None => return BTreeMap::new(),
            Some(Value::Object(entries)) => entries,
            Some(other) => {
                self.refuse(name, format!("{} is no object of numbers", shown(&other)));
                return BTreeMap::new();
            }
        };
        let number = |(key, value): (String, Value)| {
            self.checked_number(&format!("{name}.{key}"), &value, &allowed).map(|number| (key, number))
        };
        entries.into_iter().filter_map(number).collect()
    }

    /// What was wrong; fields nobody asked for are, too.
    fn finish(mut self) -> Vec<Problem> {
        let known = self.known.join(", ");
        for name in std::mem::take(&mut self.left).into_iter().map(|(name, _)| name) {
            self.refuse(name, format!("no such setting; there are {known}"));
        }
        self.problems
    }
}

/// A value as a message may quote it.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string().chars().take(40).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct All {
        number: Option<u32>,
        decimal: Option<f64>,
        flag: Option<bool>,
        text: Option<String>,
        choice: Option<char>,
        table: BTreeMap<String, u32>,
    }

    impl Settings for All {
        fn read(fields: &mut Fields) -> Self {
            Self {
                number: fields.number("number", 1..=9),
                decimal: fields.decimal("decimal", 1.0..=2.5),
                flag: fields.flag("flag"),
                text: fields.text("text"),
                choice: fields.choice("choice", &[("a", 'A'), ("b", 'B')]),
                table: fields.table("table", 0..=5),
            }
        }
    }

    fn problems(json: &str) -> Vec<String> {
        let problems = All::parse(json).expect_err("it is wrong");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_are_optional_and_nothing_is_an_empty_object() {
        let none = All { number: None, decimal: None, flag: None, text: None, choice: None, table: BTreeMap::new() };
        assert_eq!(All::parse("").as_ref(), Ok(&none));
        assert_eq!(All::parse(" {}").as_ref(), Ok(&none));
        let json = r#"{"number": 9, "decimal": 2, "flag": false, "text": "x", "choice": "b", "table": {"k": 0}}"#;
        let table = [("k".to_owned(), 0)].into();
        let all = All {
            number: Some(9),
            decimal: Some(2.0),
            flag: Some(false),
            text: Some("x".to_owned()),
            choice: Some('B'),
            table,
        };
        assert_eq!(All::parse(json), Ok(all));
    }

    #[test]
    fn every_problem_names_its_field_and_what_is_allowed() {
        let json = r#"{"number": 1.5, "flag": "yes", "text": 3, "choice": "c", "table": {"k": 6, "l": 1, "m": -1}}"#;
        assert_eq!(
            problems(json),
            [
                "number: 1.5 is no whole number from 1 to 9",
                "flag: \"yes\" is neither true nor false",
                "text: 3 is no text in quotes",
                "choice: \"c\" is none of \"a\", \"b\"",
                "table.k: 6 is no whole number from 0 to 5",
                "table.m: -1 is no whole number from 0 to 5",
            ]
        );
        assert_eq!(problems(r#"{"decimal": 0.99}"#), ["decimal: 0.99 is no number from 1 to 2.5"]);
        assert_eq!(problems(r#"{"table": []}"#), ["table: a list is no object of numbers"]);
        assert_eq!(
            problems(r#"{"numbers": 1}"#),
            ["numbers: no such setting; there are number, decimal, flag, text, choice, table"]
        );
        assert_eq!(problems("[]"), ["settings are an object, such as {}, not a list"]);
        let cut_off = problems("{");
        assert!(cut_off[0].starts_with("no JSON: ") && cut_off[0].contains("line 1"), "{cut_off:?}");
    }

    #[test]
    fn a_policy_without_settings_refuses_any() {
        assert_eq!((<()>::parse(""), <()>::parse(" {} ")), (Ok(()), Ok(())));
        let problems = <()>::parse(r#"{"a": 1}"#).expect_err("there are none");
        assert_eq!(problems[0].to_string(), "this policy takes no settings");
    }
}
