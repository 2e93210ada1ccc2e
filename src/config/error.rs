//! What is wrong with a configuration, told in places an operator can find.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file and the line, counted from 1.
    File(Arc<Path>, usize),
    /// The environment variable of this name.
    Environment(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A setting that Kelson cannot start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was set; [`Origin::Default`]: it is missing.
    pub origin: Origin,
    /// Its path, such as `http.tls.certificate`; empty: the file as a whole.
    pub key: String,
    /// What is wrong: value, and what is allowed.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if self.key.is_empty() {
            return write!(f, "{}", self.text);
        }
        write!(f, "{} {}", self.key, self.text)
    }
}

/// How much a [`Notice`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something every stock configuration has.
    Info,
    /// The operator probably expects an effect that there is not.
    Warning,
}

/// Something about a configuration that the operator should know; Kelson starts all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How much it matters.
    pub severity: Severity,
    /// One line.
    pub text: String,
}

impl Notice {
    pub(super) fn warning(text: String) -> Self {
        Self { severity: Severity::Warning, text }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("{} is larger than {max} bytes, so it is no configuration", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// Settings that Kelson cannot start with: all of them, not only the first.
    #[error("{}", list(_0))]
    Invalid(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    match problems {
        [one] => one.to_string(),
        many => {
            let lines: Vec<String> = many.iter().map(|it| format!("\n  {it}")).collect();
            format!("{} settings are not usable:{}", many.len(), lines.concat())
        }
    }
}
