//! YAML as a tree of literal texts, each with the place it came from.
//!
//! Scalars stay text because distribution decodes by the type of the field: `1.10` is the text
//! `1.10` in a string field, and `yes` is true in a boolean one (gopkg.in/yaml.v2). Limits:
//! [`NODES_MAX`] nodes after aliases are followed, nested at most [`DEPTH_MAX`] deep.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, options};

use super::error::Origin;

/// Nodes of one document, aliases followed: an alias bomb ends here.
const NODES_MAX: usize = 20_000;
/// Nesting; no known key lies deeper than 8.
const DEPTH_MAX: usize = 40;

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub origin: Origin,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// The tree of a document, and each key that stands twice in one map: line and name.
#[derive(Debug)]
pub(super) struct Document {
    pub root: Node,
    pub repeated: Vec<(usize, String)>,
}

/// Text that is no YAML, or not YAML of the shape a configuration has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    pub text: String,
}

impl Node {
    pub fn null(origin: Origin) -> Self {
        Self { value: Value::Null, origin }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    pub fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub fn child(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The text of a scalar that is not empty.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Whether anything at all is set in here.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar(text) => text.is_empty(),
            Value::List(items) => items.iter().all(Self::is_empty),
            Value::Map(entries) => entries.iter().all(|(_, node)| node.is_empty()),
        }
    }

    fn count(&self) -> usize {
        let within: usize = match &self.value {
            Value::Null | Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.count()).sum(),
        };
        within + 1
    }
}

/// Reads the first document of `text`; `origin` says where line n is.
pub(super) fn parse(text: &str, origin: impl Fn(usize) -> Origin) -> Result<Document, SyntaxError> {
    let limits = options! { flow_nesting_limit: DEPTH_MAX, block_nesting_limit: DEPTH_MAX };
    let mut builder = Builder {
        origin,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        nodes: 0,
        root: None,
        repeated: Vec::new(),
    };
    for event in Parser::new_from_str_with_options(text, limits) {
        let (event, span) = event.map_err(|error| SyntaxError {
            line: error.marker().line(),
            text: format!("not valid YAML: {}", error.kind()),
        })?;
        let line = span.start.line();
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder.take(event, line).map_err(|text| SyntaxError { line, text })?;
    }
    let root = builder.root.unwrap_or_else(|| Node::null((builder.origin)(1)));
    Ok(Document { root, repeated: builder.repeated })
}

/// A list or map whose end has not come yet.
struct Open {
    value: Value,
    /// The key that waits for its value.
    key: Option<(String, usize)>,
    line: usize,
    anchor: usize,
}

struct Builder<F> {
    origin: F,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
    repeated: Vec<(usize, String)>,
}

impl<F: Fn(usize) -> Origin> Builder<F> {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.add(value, line, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Value::List(Vec::new()), line, anchor),
            Event::MappingStart(_, anchor, _) => self.begin(Value::Map(Vec::new()), line, anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err("an alias refers to what it stands in".to_owned());
                };
                self.nodes += node.count();
                self.add(node.value, line, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Value, line: usize, anchor: usize) -> Result<(), String> {
        let awaits_key = self
            .open
            .last()
            .is_some_and(|open| matches!(open.value, Value::Map(_)) && open.key.is_none());
        if awaits_key {
            return Err("a key must be a plain text".to_owned());
        }
        self.open.push(Open { value, key: None, line, anchor });
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        if let Value::Map(entries) = &mut open.value {
            merge(entries);
        }
        self.add(open.value, open.line, open.anchor)
    }

    fn add(&mut self, value: Value, line: usize, anchor: usize) -> Result<(), String> {
        let mut node = Node { value, origin: (self.origin)(line) };
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(format!("more than {NODES_MAX} values"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { value: Value::Map(entries), key, .. }) => match key.take() {
                None => *key = Some((name(node.value)?, line)),
                Some((key, key_line)) => {
                    node.origin = (self.origin)(key_line);
                    self.repeated.extend(set(entries, key, node).map(|key| (key_line, key)));
                }
            },
            Some(Open { value: Value::List(items), .. }) => items.push(node),
            Some(_) => return Err("a scalar cannot hold values".to_owned()),
        }
        Ok(())
    }
}

fn name(value: Value) -> Result<String, String> {
    match value {
        Value::Scalar(text) => Ok(text),
        Value::Null => Ok(String::new()),
        _ => Err("a key must be a plain text".to_owned()),
    }
}

/// Sets `key`, the last one wins as in yaml.v2; gives the key back when it was there already.
fn set(entries: &mut Vec<(String, Node)>, key: String, node: Node) -> Option<String> {
    match entries.iter_mut().find(|(name, _)| *name == key) {
        Some(entry) => {
            entry.1 = node;
            Some(key)
        }
        None => {
            entries.push((key, node));
            None
        }
    }
}

/// Follows the merge key `<<`: what it brings yields to what stands beside it.
fn merge(entries: &mut Vec<(String, Node)>) {
    let Some(at) = entries.iter().position(|(name, _)| name == "<<") else { return };
    let (_, source) = entries.remove(at);
    let sources = match source.value {
        Value::List(items) => items,
        _ => vec![source],
    };
    for (key, node) in sources.into_iter().flat_map(|it| it.entries().to_vec()) {
        if entries.iter().all(|(name, _)| *name != key) {
            entries.push((key, node));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Result<Document, SyntaxError> {
        let path: Arc<Path> = Path::new("c.yml").into();
        parse(text, |line| Origin::File(Arc::clone(&path), line))
    }

    #[test]
    fn every_value_knows_the_line_of_its_key() {
        let root = lines("a: 1\nb:\n  c:\n    - x\n    - y\n").unwrap().root;
        let node = root.child("b").unwrap().child("c").unwrap();
        assert_eq!(node.origin.to_string(), "c.yml:3");
        assert_eq!(node.items()[1].origin.to_string(), "c.yml:5");
    }

    #[test]
    fn scalars_keep_their_literal_text() {
        let root = lines("a: 1.10\nb: 0123\nc: yes\nd: 'null'\ne: null\n").unwrap().root;
        let text = |key: &str| root.child(key).unwrap().text().map(str::to_owned);
        assert_eq!(text("a").as_deref(), Some("1.10"));
        assert_eq!(text("b").as_deref(), Some("0123"));
        assert_eq!(text("d").as_deref(), Some("null"));
        assert_eq!(text("e"), None);
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let text = "x: &a {k: 1, l: 2}\ny:\n  <<: *a\n  l: 3\nz: *a\n";
        let root = lines(text).unwrap().root;
        let y = root.child("y").unwrap();
        assert_eq!(y.child("k").unwrap().text(), Some("1"));
        assert_eq!(y.child("l").unwrap().text(), Some("3"));
        assert_eq!(root.child("z").unwrap().child("l").unwrap().text(), Some("2"));
    }

    #[test]
    fn an_alias_bomb_ends_in_an_error() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(lines(&text).unwrap_err().text.contains("more than"));
    }

    #[test]
    fn a_tower_of_aliases_is_bounded() {
        let mut text = "a0: &a0 x\n".to_owned();
        for level in 1..2000 {
            let (open, close) = ("[".repeat(30), "]".repeat(30));
            text.push_str(&format!("a{level}: &a{level} {open}*a{}{close}\n", level - 1));
        }
        assert!(lines(&text).unwrap_err().text.contains("more than"));
    }

    #[test]
    fn deep_nesting_ends_in_an_error() {
        assert!(lines(&"[".repeat(100_000)).is_err());
        assert!(lines(&"- ".repeat(10_000)).is_err());
    }

    #[test]
    fn a_repeated_key_is_told_and_the_last_one_wins() {
        let document = lines("a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(document.repeated, [(3, "a".to_owned())]);
        assert_eq!(document.root.child("a").unwrap().text(), Some("3"));
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        assert_eq!(lines("a: 1\nb: [1, 2\nc: 3\n").unwrap_err().line, 3);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
            let _ = lines(&text);
        }

        #[test]
        fn text_of_yaml_pieces_never_panics(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "a", ": ", "- ", "\n", "  ", "&a ", "*a ", "<<: ", "{", "}", "[", "]", "'", "\"",
                "|", ">", "#", "---\n", "...", "? ", "!!str ", ",", "\t", "%TAG", "\u{feff}", "~",
            ]), 0..60),
        ) {
            let _ = lines(&pieces.concat());
        }
    }
}
