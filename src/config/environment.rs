//! `REGISTRY_*` variables over the file, by the rules of distribution
//! (`configuration/parser.go`), of which this keeps every one that works there:
//!
//! - variables apply in the order of their names, each value is YAML;
//! - a name is split at each `_`; a segment is a Go field or, here, also the key as the file
//!   spells it;
//! - maps are made on the way, their new keys in lower case; lists take an index, and the index
//!   after the last appends;
//! - a name that leads nowhere is a warning: Kubernetes sets such names for a service that is
//!   called `registry`.

use std::sync::Arc;

use super::check::{Findings, nearest};
use super::error::{Notice, Origin};
use super::keys::{DRIVERS, FIELDS};
use super::schema::{self, Kind};
use super::tree::{self, Node, Value};

/// What every variable begins with.
const PREFIX: &str = "REGISTRY_";
/// The variable that stands in for the path of the file.
pub(super) const PATH: &str = "REGISTRY_CONFIGURATION_PATH";
/// Segments of one name.
const SEGMENTS_MAX: usize = 32;

/// Why a variable was not applied.
enum Miss {
    /// It leads nowhere; a warning.
    Nowhere(String),
    /// It cannot be applied; Kelson does not start.
    Unusable(String),
}

/// What lies under a point of the tree.
enum At {
    /// A known path, list indexes as `[]`.
    Known(String),
    /// A list of texts.
    Texts,
    /// Anything.
    Free,
    /// One value.
    Leaf,
}

/// Applies every variable that is for the registry.
pub(super) fn apply(root: &mut Node, variables: &[(String, String)], findings: &mut Findings) {
    let mut ours: Vec<_> =
        variables.iter().filter(|(name, _)| name.starts_with(PREFIX) && name != PATH).collect();
    ours.sort_by(|a, b| a.0.cmp(&b.0));
    let (links, settings): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|(name, value)| is_service_link(name, value));
    if !links.is_empty() {
        let names: Vec<&str> = links.iter().map(|(name, _)| name.as_str()).collect();
        let text = format!("ignored, Kubernetes made them for a service: {}", names.join(", "));
        findings.notices.push(Notice::warning(text));
    }
    for (name, value) in settings {
        apply_one(root, name, value, findings);
    }
}

fn apply_one(root: &mut Node, name: &str, value: &str, findings: &mut Findings) {
    let origin = Origin::Environment(Arc::from(name));
    let key = name.strip_prefix(PREFIX).unwrap_or(name);
    let node = match tree::parse(value, |_| origin.clone()) {
        Ok(document) => document.root,
        Err(error) => {
            let text = format!("{}; a text with special characters needs quotes", error.text);
            findings.problem(&Node::null(origin), "", text);
            return;
        }
    };
    let segments: Vec<&str> = key.split('_').collect();
    match descend(root, At::Known(String::new()), &segments, node) {
        Ok(()) => spread_drivers(root),
        Err(Miss::Nowhere(why)) => {
            findings.notices.push(Notice::warning(format!("{origin}: ignored, {why}")));
        }
        Err(Miss::Unusable(why)) => findings.problem(&Node::null(origin), "", why),
    }
}

/// `storage: filesystem` is `storage: {filesystem: {}}`; `auth` the same.
pub(super) fn spread_drivers(root: &mut Node) {
    let Value::Map(entries) = &mut root.value else { return };
    for (_, node) in entries.iter_mut().filter(|(name, _)| DRIVERS.contains(&name.as_str())) {
        if let Some(driver) = node.text() {
            let inner = Node::null(node.origin.clone());
            node.value = Value::Map(vec![(driver.to_owned(), inner)]);
        }
    }
}

/// Names of the variables that Kubernetes sets for each service of a namespace.
fn is_service_link(name: &str, value: &str) -> bool {
    let segments: Vec<&str> = name.split('_').collect();
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let transport = |text: &str| matches!(text, "TCP" | "UDP" | "SCTP");
    let port = |rest: &[&str]| match rest {
        ["PORT", number, kind] => numeric(number) && transport(kind),
        ["PORT", number, kind, "ADDR" | "PORT" | "PROTO"] => numeric(number) && transport(kind),
        ["PORT"] => ["tcp://", "udp://", "sctp://"].iter().any(|it| value.starts_with(it)),
        ["SERVICE", "HOST" | "PORT"] | ["SERVICE", "PORT", ..] => true,
        _ => false,
    };
    (1..segments.len()).any(|at| segments.get(at..).is_some_and(port))
}

fn descend(node: &mut Node, at: At, segments: &[&str], value: Node) -> Result<(), Miss> {
    let Some((first, rest)) = segments.split_first() else {
        *node = value;
        return Ok(());
    };
    if segments.len() > SEGMENTS_MAX {
        return Err(Miss::Nowhere(format!("its name has more than {SEGMENTS_MAX} parts")));
    }
    match at {
        At::Leaf => Err(Miss::Nowhere("its name goes on after a single value".to_owned())),
        At::Texts => descend(item(node, first, &value)?, At::Leaf, rest, value),
        At::Free if matches!(node.value, Value::List(_)) => {
            descend(item(node, first, &value)?, At::Free, rest, value)
        }
        At::Free => {
            let name = existing(node, first).unwrap_or_else(|| first.to_lowercase());
            descend(entry(node, &name, &value)?, At::Free, rest, value)
        }
        At::Known(path) => descend_known(node, &path, segments, value),
    }
}

fn descend_known(node: &mut Node, path: &str, segments: &[&str], value: Node) -> Result<(), Miss> {
    let Some((first, rest)) = segments.split_first() else { return Ok(()) };
    match schema::key(path).map(|key| key.kind) {
        Some(Kind::Texts | Kind::Patterns) => return descend(node, At::Texts, segments, value),
        Some(Kind::Free | Kind::TextMap) => return descend(node, At::Free, segments, value),
        Some(Kind::Headers) => {
            let name = existing(node, first).unwrap_or_else(|| first.to_lowercase());
            return descend(entry(node, &name, &value)?, At::Texts, rest, value);
        }
        Some(_) => return descend(node, At::Leaf, segments, value),
        None => {}
    }
    let children = schema::children(path);
    if children.contains(&"[]") {
        let below = At::Known(schema::join(path, "[]"));
        return descend(item(node, first, &value)?, below, rest, value);
    }
    if path.is_empty() && *first == "VERSION" {
        return Err(Miss::Nowhere("the version is that of the file".to_owned()));
    }
    let known = children.into_iter().find(|child| is_named(path, child, first));
    let name = match known {
        Some(name) => name.to_owned(),
        None if DRIVERS.contains(&path) && !first.is_empty() => first.to_lowercase(),
        None => {
            let key = schema::join(path, &first.to_lowercase());
            let nearest = nearest(path, first);
            return Err(Miss::Nowhere(format!("there is no key {key}{nearest}")));
        }
    };
    let below = At::Known(schema::join(path, &name));
    descend(entry(node, &name, &value)?, below, rest, value)
}

/// Whether the segment of a variable means this key: by its Go field, or as the file spells it.
fn is_named(parent: &str, key: &str, segment: &str) -> bool {
    let path = schema::join(parent, key);
    let field = FIELDS.iter().find(|(known, _)| *known == path).map(|(_, field)| *field);
    key.to_uppercase() == segment || field == Some(segment)
}

/// The key of a map that reads like this segment in capitals.
fn existing(node: &Node, segment: &str) -> Option<String> {
    let found = node.entries().iter().find(|(name, _)| name.to_uppercase() == segment);
    found.map(|(name, _)| name.clone())
}

/// The value under `name`, made when it is not there.
fn entry<'a>(node: &'a mut Node, name: &str, value: &Node) -> Result<&'a mut Node, Miss> {
    if matches!(node.value, Value::Null) {
        *node = Node { value: Value::Map(Vec::new()), origin: value.origin.clone() };
    }
    let Value::Map(entries) = &mut node.value else {
        return Err(Miss::Nowhere(format!("what should hold {name} is no section")));
    };
    let at = entries.iter().position(|(known, _)| known == name).unwrap_or(entries.len());
    if at == entries.len() {
        entries.push((name.to_owned(), Node::null(value.origin.clone())));
    }
    match entries.get_mut(at) {
        Some((_, node)) => Ok(node),
        None => Err(Miss::Nowhere(format!("{name} is not there"))),
    }
}

/// The item at an index; the one after the last is made.
fn item<'a>(node: &'a mut Node, segment: &str, value: &Node) -> Result<&'a mut Node, Miss> {
    if matches!(node.value, Value::Null) {
        *node = Node { value: Value::List(Vec::new()), origin: value.origin.clone() };
    }
    let Value::List(items) = &mut node.value else {
        return Err(Miss::Nowhere("what it goes into is no list".to_owned()));
    };
    let next = items.len();
    let wrong = || Miss::Unusable(format!("undefined index {segment:?}; allowed: 0 to {next}"));
    let index = segment.parse::<usize>().ok().filter(|index| *index <= next).ok_or_else(wrong)?;
    if index == next {
        items.push(Node::null(value.origin.clone()));
    }
    items.get_mut(index).ok_or_else(wrong)
}
