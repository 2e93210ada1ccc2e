//! Walks a configuration against the known keys: wrong values, unknown keys, sections without
//! effect, and sections that keep Kelson from starting.

use super::error::{Notice, Problem, Severity};
use super::keys::DRIVERS;
use super::schema::{self, Kind};
use super::tree::{Node, Value};
use super::value;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub problems: Vec<Problem>,
    pub notices: Vec<Notice>,
}

impl Findings {
    pub fn problem(&mut self, node: &Node, key: &str, text: String) {
        let problem = Problem { origin: node.origin.clone(), key: key.to_owned(), text };
        self.problems.push(problem);
    }

    pub fn warn(&mut self, node: &Node, key: &str, text: &str) {
        self.notices.push(Notice::warning(format!("{}: {key} {text}", node.origin)));
    }

    /// A value that is not allowed.
    pub fn wrong(&mut self, node: &Node, key: &str, allowed: &str) {
        let secret = schema::key(key).is_some_and(|key| key.kind == Kind::Secret);
        let value = if secret { "not usable".to_owned() } else { describe(node) };
        self.problem(node, key, format!("is {value}; allowed: {allowed}"));
    }
}

/// The value for a message: one line of bounded length.
fn describe(node: &Node) -> String {
    match &node.value {
        Value::Null => "empty".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
        Value::Scalar(text) if text.chars().count() > 80 => {
            format!("{:?}...", text.chars().take(80).collect::<String>())
        }
        Value::Scalar(text) => format!("{text:?}"),
    }
}

/// Checks everything but what the values mean together.
pub(super) fn check(root: &Node, findings: &mut Findings) {
    walk(root, "", "", findings);
    note_ignored(root, findings);
    refuse_demands(root, findings);
    check_drivers(root, findings);
}

/// `pattern` names lists by `[]`, `path` by their index.
fn walk(node: &Node, pattern: &str, path: &str, findings: &mut Findings) {
    if let Some(key) = schema::key(pattern) {
        match key.kind.check(node) {
            Err(allowed) => findings.wrong(node, path, &allowed),
            Ok(()) => note_nanoseconds(key.kind, node, path, findings),
        }
        return;
    }
    let children = schema::children(pattern);
    match &node.value {
        Value::Null => {}
        Value::List(items) if children.contains(&"[]") => {
            for (index, item) in items.iter().enumerate() {
                let pattern = schema::join(pattern, "[]");
                walk(item, &pattern, &format!("{path}[{index}]"), findings);
            }
        }
        Value::Map(entries) if !children.contains(&"[]") => {
            for (name, child) in entries {
                let path = schema::join(path, name);
                if children.contains(&name.as_str()) {
                    walk(child, &schema::join(pattern, name), &path, findings);
                } else if !DRIVERS.contains(&pattern) {
                    let nearest = nearest(pattern, name);
                    findings.warn(child, &path, &format!("is not known, so ignored{nearest}"));
                }
            }
        }
        _ if children.contains(&"[]") => findings.wrong(node, path, "a list of sections"),
        _ => {
            let known = format!("a section with the keys {}", children.join(", "));
            findings.wrong(node, path, &known);
        }
    }
}

/// `, nearest is <key>`: a sibling that is spelled alike, else the same name elsewhere.
pub(super) fn nearest(pattern: &str, name: &str) -> String {
    let lower = name.to_lowercase();
    let siblings = schema::children(pattern);
    let alike = siblings
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, known), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| schema::join(pattern, known));
    let elsewhere = || {
        schema::all().find_map(|key| {
            let at = key.path.split('.').position(|segment| segment == lower)?;
            Some(key.path.split('.').take(at + 1).collect::<Vec<_>>().join("."))
        })
    };
    match alike.or_else(elsewhere) {
        Some(known) => format!("; nearest is {}", known.replace(".[]", "[]")),
        None => String::new(),
    }
}

/// A bare number is nanoseconds, which nobody means.
fn note_nanoseconds(kind: Kind, node: &Node, path: &str, findings: &mut Findings) {
    let number = node.text().and_then(value::number).unwrap_or(0);
    if matches!(kind, Kind::Duration { .. }) && number > 0 && number < 1_000_000 {
        let text = format!("is {number} nanoseconds, as in distribution; {number}s is seconds");
        findings.warn(node, path, &text);
    }
}

fn note_ignored(root: &Node, findings: &mut Findings) {
    let mut stock = Vec::new();
    for (path, severity, why) in schema::IGNORED {
        let Some(node) = find(root, path).filter(|node| !node.is_empty()) else { continue };
        match severity {
            Severity::Warning => {
                findings.warn(node, path, &format!("is accepted without effect: {why}"));
            }
            Severity::Info => stock.push(format!("{path} ({why})")),
        }
    }
    if !stock.is_empty() {
        let text = format!("accepted without effect: {}", stock.join(", "));
        findings.notices.push(Notice { severity: Severity::Info, text });
    }
}

fn refuse_demands(root: &Node, findings: &mut Findings) {
    for (path, demand, what) in schema::REFUSED {
        if let Some(node) = find(root, path).and_then(demand) {
            findings.problem(node, path, (*what).to_owned());
        }
    }
}

/// Exactly one storage driver, of a kind that exists, and not more than one `auth` provider.
fn check_drivers(root: &Node, findings: &mut Findings) {
    let Some(storage) = find(root, "storage").filter(|node| !node.is_null()) else {
        findings.problem(&Node::null(super::Origin::Default), "storage", missing_driver());
        return;
    };
    let siblings = ["cache", "delete", "maintenance", "redirect", "tag"];
    let drivers: Vec<_> =
        storage.entries().iter().filter(|(name, _)| !siblings.contains(&name.as_str())).collect();
    if drivers.is_empty() && matches!(storage.value, Value::Map(_)) {
        findings.problem(storage, "storage", missing_driver());
    }
    for (name, node) in &drivers {
        let text = match name.as_str() {
            "filesystem" => continue,
            "inmemory" => "loses every image at the end; use storage.filesystem".to_owned(),
            "s3" | "s3aws" | "gcs" | "azure" | "swift" | "oss" => {
                "is not there: Kelson keeps its store in files, use storage.filesystem".to_owned()
            }
            _ => {
                format!("is no storage driver, use storage.filesystem{}", nearest("storage", name))
            }
        };
        findings.problem(node, &format!("storage.{name}"), text);
    }
    only_one(storage, "storage", drivers.iter().map(|(name, _)| name.as_str()), findings);
    if let Some(auth) = find(root, "auth") {
        only_one(auth, "auth", auth.entries().iter().map(|(name, _)| name.as_str()), findings);
    }
}

fn missing_driver() -> String {
    "has no driver; required: filesystem with its rootdirectory".to_owned()
}

fn only_one<'a>(
    node: &Node,
    key: &str,
    names: impl Iterator<Item = &'a str>,
    findings: &mut Findings,
) {
    let names: Vec<&str> = names.collect();
    if names.len() > 1 {
        findings.problem(node, key, format!("has {}; allowed is one of them", names.join(" and ")));
    }
}

/// The node at a path of map keys.
pub(super) fn find<'a>(root: &'a Node, path: &str) -> Option<&'a Node> {
    path.split('.').try_fold(root, |node, segment| node.child(segment))
}
