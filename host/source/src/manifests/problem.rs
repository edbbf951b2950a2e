//! What the reader of a manifest should hear.

use std::fmt;
use std::path::PathBuf;

use tracing::{error, info, warn};

use crate::convert::FieldProblem;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong; an object is none of our business.
    Note,
    /// The object is used, but a part of it is not.
    Warning,
    /// The object, or the whole document or file, is not used.
    Error,
}

/// Something to tell about a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, or the directory, as reached from the path that was given.
    pub file: PathBuf,
    /// Number of the document in the file, from 1; empty documents do not count.
    pub document: Option<usize>,
    /// Kind, namespace and name, as in `Service default/web`.
    pub object: Option<String>,
    /// Path of the field, as in `spec.ports[0].port`; begins with `items[n].` inside a list.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(document) = self.document {
            write!(f, ", document {document}")?;
        }
        if let Some(object) = &self.object {
            write!(f, " ({object})")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Problem {
    /// Writes it to the log, as loud as it is bad.
    pub fn log(&self) {
        match self.severity {
            Severity::Note => info!("{self}"),
            Severity::Warning => warn!("{self}"),
            Severity::Error => error!("{self}"),
        }
    }

    /// A problem of a file as a whole.
    pub(super) fn of_file(severity: Severity, file: impl Into<PathBuf>, message: impl fmt::Display) -> Self {
        Self { severity, file: file.into(), document: None, object: None, field: None, message: message.to_string() }
    }
}

/// Where an object stands, for its problems.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) document: usize,
    /// Kind, namespace and name, as far as known.
    pub(super) object: Option<String>,
    /// Position in the list the object is part of.
    pub(super) item: Option<usize>,
}

impl Place {
    /// A problem of the whole object.
    pub(super) fn problem(&self, severity: Severity, message: impl fmt::Display) -> Problem {
        Problem {
            severity,
            file: self.file.clone(),
            document: Some(self.document),
            object: self.object.clone(),
            field: self.item.map(|item| format!("items[{item}]")),
            message: message.to_string(),
        }
    }

    /// A problem of one field of the object.
    pub(super) fn field_problem(&self, severity: Severity, problem: FieldProblem) -> Problem {
        let FieldProblem { field, message } = problem;
        let field = match self.item {
            Some(item) => format!("items[{item}].{field}"),
            None => field,
        };
        Problem { field: Some(field), ..self.problem(severity, message) }
    }
}
