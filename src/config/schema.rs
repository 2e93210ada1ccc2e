//! What a key may hold, which keys stand where, and which are not in effect.

use serde_json::{Value as Json, json};

use super::error::Severity;
use super::keys::{self, Key};
use super::tree::{Node, Value};
use super::value;

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    /// A whole number in these bounds.
    Count {
        min: u64,
        max: u64,
    },
    /// Any whole number.
    Signed,
    /// Bytes, in these bounds.
    Size {
        min: u64,
        max: u64,
    },
    /// Bytes, a percentage, or both.
    Watermark,
    /// A duration of Go that is not shorter than this.
    Duration {
        min_seconds: u64,
    },
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    Text,
    /// A text that is never shown.
    Secret,
    /// Any single value; nothing here looks at it.
    Scalar,
    Texts,
    /// Regular expressions.
    Patterns,
    TextMap,
    /// Header names to lists of values.
    Headers,
    /// Anything.
    Free,
}

/// Sections that are accepted and have no effect, and why.
pub(super) const IGNORED: &[(&str, Severity, &str)] = &[
    ("log.hooks", Severity::Warning, "mail on log records is not there yet"),
    ("storage.filesystem.maxthreads", Severity::Info, "file work has its own threads"),
    ("storage.cache", Severity::Info, "the database has its own cache"),
    ("storage.redirect", Severity::Warning, "files have no other address to redirect to"),
    ("storage.tag", Severity::Info, "tags are read in one scan"),
    ("http.http2", Severity::Warning, "HTTP/2 is not spoken without TLS"),
    ("health.storagedriver", Severity::Info, "/readyz watches the store"),
    ("health.file", Severity::Warning, "own health checks are not there yet"),
    ("health.http", Severity::Warning, "own health checks are not there yet"),
    ("health.tcp", Severity::Warning, "own health checks are not there yet"),
    ("reporting", Severity::Warning, "Kelson reports to nobody"),
    ("redis", Severity::Warning, "Kelson needs no cache beside its database"),
    ("compatibility", Severity::Warning, "schema 1 manifests are not served"),
];

/// Sections that would change what the registry does: a node for which this gives something
/// keeps Kelson from starting.
type Demand = fn(&Node) -> Option<&Node>;

/// Sections that are refused when they ask for something, and what to do instead.
pub(super) const REFUSED: &[(&str, Demand, &str)] = &[
    ("http.tls", tls, "asks for TLS, which is not there yet; end TLS in a proxy before Kelson"),
    ("http.h2c.enabled", on, "asks for HTTP/2 without TLS, which is not there yet"),
    ("auth", provider, "asks for authentication, which is not there yet; let a proxy do it"),
    ("proxy.remoteurl", set, "asks for a pull-through cache, which is not there yet"),
    ("notifications.endpoints", active, "asks for notifications, which are not there yet"),
    ("middleware.registry", active, "asks for middleware, which Kelson does not load"),
    ("middleware.repository", active, "asks for middleware, which Kelson does not load"),
    ("middleware.storage", active, "asks for middleware, which Kelson does not load"),
    ("policy.repository.classes", set, "asks for limits by class, which are not there yet"),
];

fn set(node: &Node) -> Option<&Node> {
    (!node.is_empty()).then_some(node)
}

fn on(node: &Node) -> Option<&Node> {
    node.text().is_some_and(|text| value::boolean(text) == Some(true)).then_some(node)
}

fn tls(node: &Node) -> Option<&Node> {
    let asks = ["certificate", "key", "clientcas", "letsencrypt"];
    asks.iter().find_map(|key| node.child(key).and_then(set))
}

fn provider(node: &Node) -> Option<&Node> {
    node.entries().iter().find(|(name, _)| name != "none").map(|(_, node)| node)
}

fn active(node: &Node) -> Option<&Node> {
    node.items().iter().find(|it| it.child("disabled").and_then(on).is_none())
}

/// Every known key.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    keys::EFFECTIVE.iter().chain(keys::ACCEPTED).chain(keys::UNSUPPORTED)
}

/// The key with this path, list indexes written as `[]`.
pub(super) fn key(path: &str) -> Option<&'static Key> {
    all().find(|key| key.path == path)
}

/// What may stand directly under `path`, each once; `[]`: a list.
pub(super) fn children(path: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for key in all() {
        let Some(rest) = below(key.path, path) else { continue };
        let segment = rest.split('.').next().unwrap_or(rest);
        if !found.contains(&segment) {
            found.push(segment);
        }
    }
    found
}

fn below<'a>(path: &'a str, parent: &str) -> Option<&'a str> {
    if parent.is_empty() {
        return Some(path);
    }
    path.strip_prefix(parent)?.strip_prefix('.')
}

/// `parent.name`, or `name` at the top.
pub(super) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

impl Kind {
    /// Whether the node may stand here; empty ones always may and mean "not set".
    ///
    /// # Errors
    /// What may stand here instead.
    pub fn check(self, node: &Node) -> Result<(), String> {
        if self == Self::Free || node.is_empty() {
            return Ok(());
        }
        let fits = match self {
            Self::Texts | Self::Patterns => texts(node).is_some(),
            Self::TextMap => entries_are(node, |it| it.is_empty() || it.text().is_some()),
            Self::Headers => entries_are(node, |it| it.is_empty() || texts(it).is_some()),
            _ => node.text().is_some_and(|text| self.takes(text)),
        };
        if fits { Ok(()) } else { Err(self.allowed()) }
    }

    fn takes(self, text: &str) -> bool {
        match self {
            Self::Bool => value::boolean(text).is_some(),
            Self::Count { min, max } => {
                value::number(text).is_some_and(|it| it >= min && it <= max)
            }
            Self::Signed => text.parse::<i64>().is_ok(),
            Self::Size { min, max } => value::size(text).is_some_and(|it| it >= min && it <= max),
            Self::Watermark => value::watermark(text).is_some(),
            Self::Duration { min_seconds } => {
                value::duration(text).is_some_and(|it| min_seconds == 0 || !it.is_zero())
            }
            Self::Choice(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
            _ => true,
        }
    }

    fn allowed(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Count { min, max: u64::MAX } => format!("a whole number from {min}"),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Signed => "a whole number".to_owned(),
            Self::Size { min, max } => {
                format!("a size such as 4096, 64KiB or 16MiB, from {min} to {max} bytes")
            }
            Self::Watermark => {
                "a size such as 1GiB, a percentage from 1% to 90%, or both as in 1GiB, 5%; 0 is off"
                    .to_owned()
            }
            Self::Duration { min_seconds: 0 } => "a duration such as 10s, 1h30m or 168h".to_owned(),
            Self::Duration { .. } => "a duration above zero such as 10s, 1h30m or 168h".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Text | Self::Secret | Self::Scalar | Self::Free => "one value".to_owned(),
            Self::Texts => "a list of texts, such as [a, b]".to_owned(),
            Self::Patterns => "a list of regular expressions, such as ['^https://a/']".to_owned(),
            Self::TextMap => "a map of texts, such as {service: registry}".to_owned(),
            Self::Headers => {
                "a map of lists, such as {X-Content-Type-Options: [nosniff]}".to_owned()
            }
        }
    }

    /// The node as it is shown to the operator.
    pub fn shown(self, node: &Node) -> Json {
        match (self, node.text()) {
            (Self::Secret, Some(_)) => json!("(set)"),
            (Self::Bool, Some(text)) => json!(value::boolean(text)),
            (Self::Count { .. }, Some(text)) => json!(value::number(text)),
            (Self::Choice(_), Some(text)) => json!(text.to_ascii_lowercase()),
            _ => as_json(node),
        }
    }
}

fn as_json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Scalar(text) => json!(text),
        Value::List(items) => items.iter().map(as_json).collect(),
        Value::Map(entries) => {
            entries.iter().map(|(name, node)| (name.clone(), as_json(node))).collect()
        }
    }
}

/// The texts of a list of scalars.
pub(super) fn texts(node: &Node) -> Option<Vec<String>> {
    let Value::List(items) = &node.value else { return None };
    items.iter().map(|item| item.text().map(str::to_owned)).collect()
}

fn entries_are(node: &Node, fits: impl Fn(&Node) -> bool) -> bool {
    matches!(node.value, Value::Map(_)) && node.entries().iter().all(|(_, node)| fits(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::Origin;

    #[test]
    fn every_default_fits_its_own_key() {
        for key in all().filter(|key| !key.default.is_empty()) {
            let node =
                Node { value: Value::Scalar(key.default.to_owned()), origin: Origin::Default };
            assert_eq!(key.kind.check(&node), Ok(()), "{}", key.path);
        }
    }

    #[test]
    fn every_key_stands_once_and_no_key_is_a_section_too() {
        for key in all() {
            assert_eq!(all().filter(|other| other.path == key.path).count(), 1, "{}", key.path);
            assert_eq!(children(key.path), Vec::<&str>::new(), "{}", key.path);
        }
    }

    #[test]
    fn tables_of_sections_name_what_exists() {
        let known = |path: &str| key(path).is_some() || !children(path).is_empty();
        assert!(IGNORED.iter().all(|(path, ..)| known(path)));
        assert!(REFUSED.iter().all(|(path, ..)| known(path)));
        assert!(keys::FIELDS.iter().all(|(path, _)| known(path)));
        let under = |path: &str, it: &str| it == path || below(it, path).is_some();
        for key in keys::ACCEPTED {
            assert_eq!(
                IGNORED.iter().filter(|(path, ..)| under(path, key.path)).count(),
                1,
                "{} is accepted, so one entry says why it has no effect",
                key.path
            );
        }
    }
}
