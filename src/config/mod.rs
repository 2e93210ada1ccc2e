//! distribution's configuration: a YAML file, `REGISTRY_*` variables over it, and our own
//! settings under the one top-level key `kelson`, which distribution does not look at.
//!
//! May import everything but `app` and `cli`; nobody below `app` imports it. Options live beside
//! their component, this module composes them. Invariants:
//! C1 nothing that a file or variable asks for is ignored without a word;
//! C2 a setting that would change what the registry does, and is not there, keeps it from
//!    starting;
//! C3 all wrong settings are reported together, each with its place, key, value and what is
//!    allowed; secrets are never shown.

mod check;
mod compose;
mod environment;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod keys;
mod schema;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{ConfigError, Notice, Origin, Problem, Severity};

use crate::http::options as wire;
use crate::{ops, registry};
use check::Findings;
use tree::{Document, Node};

/// The largest configuration file.
const FILE_SIZE_BYTES_MAX: u64 = 1 << 20;

/// What runs without any file: for this machine alone, in the current directory, with deletion.
const EMBEDDED: &str = "
version: 0.1
storage:
  filesystem:
    rootdirectory: ./kelson-data
  delete:
    enabled: true
http:
  addr: 127.0.0.1:5000
  headers:
    X-Content-Type-Options: [nosniff]
";

/// A duration of Go, such as `1h30m`; a bare number is nanoseconds.
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    value::duration(text)
}

/// The options of every component.
#[derive(Debug, Clone)]
pub struct Config {
    /// `log`
    pub log: ops::telemetry::Options,
    /// `storage.filesystem.rootdirectory`
    pub root: PathBuf,
    /// `kelson.database.cachesize`
    pub database_cache_size_bytes: u64,
    /// `storage.delete`, `storage.maintenance`, `validation` and most of `kelson`
    pub registry: registry::Options,
    /// `http`, `catalog`, `tags` and `kelson.limits`
    pub http: wire::Options,
}

/// One setting in effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its path, such as `http.addr`.
    pub key: String,
    /// Its value; null: not set; a secret is `(set)`.
    pub value: serde_json::Value,
    /// Where it came from.
    pub origin: Origin,
}

/// A configuration with where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The options.
    pub config: Config,
    /// The file; `None`: the embedded defaults.
    pub path: Option<PathBuf>,
    /// Every setting in effect, in the order of the documentation.
    pub settings: Vec<Setting>,
    /// What the operator should know.
    pub notices: Vec<Notice>,
}

impl Config {
    /// Reads the file at `path`, else the one that `REGISTRY_CONFIGURATION_PATH` names, else the
    /// embedded defaults, and applies the `REGISTRY_*` variables of `environment`.
    ///
    /// # Errors
    /// A file that cannot be read, and every setting that Kelson cannot start with.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let variables: Vec<(String, String)> = environment.collect();
        let named =
            variables.iter().find(|(name, value)| name == environment::PATH && !value.is_empty());
        let path = path.map(Path::to_path_buf).or_else(|| named.map(|(_, path)| path.into()));
        let text = match &path {
            Some(path) => read(path)?,
            None => EMBEDDED.to_owned(),
        };
        Self::from_text(&text, path, &variables)
    }

    fn from_text(
        text: &str,
        path: Option<PathBuf>,
        variables: &[(String, String)],
    ) -> Result<Loaded, ConfigError> {
        let shared: Option<Arc<Path>> = path.as_deref().map(Arc::from);
        let origin = |line: usize| match &shared {
            Some(path) => Origin::File(Arc::clone(path), line),
            None => Origin::Default,
        };
        let Document { mut root, repeated } = tree::parse(text, origin).map_err(|error| {
            let text = error.text;
            ConfigError::Invalid(vec![Problem {
                origin: origin(error.line),
                key: String::new(),
                text,
            }])
        })?;
        let mut findings = Findings::default();
        for (line, key) in repeated {
            let node = Node::null(origin(line));
            findings.warn(&node, &key, "stands here a second time; this one counts");
        }
        environment::spread_drivers(&mut root);
        environment::apply(&mut root, variables, &mut findings);
        check::check(&root, &mut findings);
        let config = compose::compose(&root, &mut findings);
        if !findings.problems.is_empty() {
            return Err(ConfigError::Invalid(findings.problems));
        }
        let settings = compose::settings(&root);
        Ok(Loaded { config, path, settings, notices: findings.notices })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(FILE_SIZE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_SIZE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_path_buf(), max: FILE_SIZE_BYTES_MAX });
    }
    Ok(text)
}

/// The variables of this process that are for the registry, for [`Config::load`]. A value that is
/// not UTF-8 comes with replacement characters, so that it is seen and not skipped.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os()
        .map(move |(name, value)| (lossy(name), lossy(value)))
        .filter(|(name, _)| name.starts_with("REGISTRY_"))
}
