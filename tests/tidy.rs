//! Rules of the code base that no compiler checks: who imports whom, sizes, and words that
//! belong into one file only. Each rule is a function from a source text to its violations;
//! the unit tests at the end show that each of them can fail.
//!
//! Comments, strings and character literals are blanked before a rule looks at a text, and
//! test code (`#[cfg(test)]` items and the files of such modules) is exempt where it says so.

#![expect(clippy::expect_used, reason = "a rule that cannot read its input must fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_LINE_CHARS: usize = 100;

/// Lowest first. A module imports only modules of a lower rank, never one of its own rank.
/// `disk` stands above `ops` because blocking work and waiting come from there.
const RANKS: &[&[&str]] = &[
    &["oci", "ops"],
    &["disk"],
    &["blob", "meta", "auth"],
    &["registry"],
    &["proxy", "notify"],
    &["http"],
    &["config"],
    &["app"],
    &["sim"],
    &["cli"],
    &["lib", "main", "bin"],
];

/// A text that may stand only in files whose path begins with one of `only_in`.
struct Confined {
    needle: &'static str,
    only_in: &'static [&'static str],
    why: &'static str,
}

const fn confined(
    needle: &'static str,
    only_in: &'static [&'static str],
    why: &'static str,
) -> Confined {
    Confined { needle, only_in, why }
}

const PANICS: &str = "return an error; output of commands goes through writeln!";
const DURABLE: &[&str] = &["src/disk/durable.rs"];
const SYNC: &str = "syncing is disk::durable's alone";
const TABLES: &[&str] = &["src/meta/redb/tables.rs", "migrations/"];
const REDB: &[&str] = &["src/meta/redb/", "src/meta/mod.rs", "migrations/"];
const WIRE: &[&str] = &["src/http/", "src/app", "src/cli/"];
const WIRE_WHY: &str = "the wire belongs to http (and app, cli for the admin socket)";
const MACHINE: &[&str] =
    &["src/ops/blocking.rs", "src/ops/clock.rs", "src/app", "src/cli/", "src/main.rs"];
const MACHINE_WHY: &str = "threads and time come from ops, so that simulation can drive them";

const CONFINED: &[Confined] = &[
    confined(".unwrap()", &[], PANICS),
    confined(".unwrap_err()", &[], PANICS),
    confined(".expect(", &[], PANICS),
    confined(".expect_err(", &[], PANICS),
    // Cut in two, so that a search for what is left over finds none of it here.
    confined(concat!("todo", "!"), &[], PANICS),
    confined(concat!("unimplemented", "!"), &[], PANICS),
    confined(concat!("dbg", "!"), &[], PANICS),
    confined("print!", &[], PANICS),
    confined("println!", &[], PANICS),
    confined("eprint!", &[], PANICS),
    confined("eprintln!", &[], PANICS),
    confined(".sync_data(", DURABLE, SYNC),
    confined(".sync_all(", DURABLE, SYNC),
    confined(".sync_dir(", DURABLE, SYNC),
    confined("File::sync_", DURABLE, SYNC),
    confined("fsync", DURABLE, SYNC),
    confined("fdatasync", DURABLE, SYNC),
    confined("syncfs", DURABLE, SYNC),
    confined("TableDefinition", TABLES, "tables are defined in one place"),
    confined("MultimapTableDefinition", TABLES, "tables are defined in one place"),
    confined("StatusCode", &["src/http/"], "http/error.rs knows status codes"),
    confined("redb::", REDB, "no type of the database crosses MetaStore"),
    confined("axum::", WIRE, WIRE_WHY),
    confined("hyper::", WIRE, WIRE_WHY),
    confined("hyper_util::", WIRE, WIRE_WHY),
    confined("http::", WIRE, WIRE_WHY),
    confined("std::thread", MACHINE, MACHINE_WHY),
    confined("thread::spawn", MACHINE, MACHINE_WHY),
    confined("thread::sleep", MACHINE, MACHINE_WHY),
    confined("spawn_blocking", MACHINE, MACHINE_WHY),
    confined("tokio::time", MACHINE, MACHINE_WHY),
    confined("time::sleep", MACHINE, MACHINE_WHY),
    confined("time::timeout", MACHINE, MACHINE_WHY),
    confined("time::interval", MACHINE, MACHINE_WHY),
    confined("Instant::now", MACHINE, MACHINE_WHY),
    confined("SystemTime::now", MACHINE, MACHINE_WHY),
];

/// Words that no file of the repository mentions: paths of one machine, hosts of one network.
/// Cut in two, so that this file does not mention them either.
const PRIVATE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/tmp/", "wt"),
    concat!("arti", "factory"),
    concat!("index.crates", ".io"),
    concat!("proxy.", "golang"),
];

/// A source file: `code` is `raw` with comments and literals blanked, index for index.
struct Source<'a> {
    path: &'a str,
    raw: Vec<char>,
    code: Vec<char>,
    /// Which characters belong to test code.
    test: Vec<bool>,
}

impl<'a> Source<'a> {
    fn new(path: &'a str, text: &str, is_test: bool) -> Self {
        let raw: Vec<char> = text.chars().collect();
        let code = blank(&raw);
        let test = if is_test { vec![true; raw.len()] } else { test_mask(&code) };
        Self { path, raw, code, test }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.raw[..at].iter().filter(|c| **c == '\n').count()
    }

    fn violation(&self, at: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, self.line(at))
    }

    /// Positions of `needle` in the code, not as the end of a longer word or path.
    fn find(&self, needle: &str) -> Vec<usize> {
        let starts_word = needle.starts_with(is_word);
        find(&self.code, needle)
            .into_iter()
            .filter(|at| !starts_word || !continues(&self.code, *at))
            .collect()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether what stands before `at` makes the word there a part of a longer word or path
/// (`tokio::`, which is written out in a needle of its own, and `std::` do not count).
fn continues(code: &[char], at: usize) -> bool {
    let before: String = code[at.saturating_sub(7)..at].iter().collect();
    let path = before.ends_with("::") && !before.ends_with("std::") && !before.ends_with("tokio::");
    before.ends_with(is_word) || path
}

fn find(code: &[char], needle: &str) -> Vec<usize> {
    let needle: Vec<char> = needle.chars().collect();
    let starts = 0..(code.len() + 1).saturating_sub(needle.len());
    starts.filter(|at| code[*at..*at + needle.len()] == needle[..]).collect()
}

fn word_at(code: &[char], at: usize) -> String {
    code[at..].iter().take_while(|c| is_word(**c)).collect()
}

fn skip_space(code: &[char], at: usize) -> usize {
    at + code[at..].iter().take_while(|c| c.is_whitespace()).count()
}

/// Replaces comments, strings and character literals by spaces; keeps line ends.
fn blank(raw: &[char]) -> Vec<char> {
    let mut code = raw.to_vec();
    let mut at = 0;
    while at < raw.len() {
        let end = literal_end(raw, at);
        for c in &mut code[at..end] {
            if *c != '\n' {
                *c = ' ';
            }
        }
        at = end.max(at + 1);
    }
    code
}

/// The end of the comment or literal that begins at `at`; `at` itself when none does.
fn literal_end(raw: &[char], at: usize) -> usize {
    let next = |offset: usize| raw.get(at + offset).copied().unwrap_or(' ');
    let until = |from: usize, stop: &str| {
        let stop: Vec<char> = stop.chars().collect();
        let found = raw[from..].windows(stop.len()).position(|w| w == stop);
        found.map_or(raw.len(), |n| from + n + stop.len())
    };
    let in_word = at > 0 && is_word(raw[at - 1]) && !matches!(raw[at - 1], 'b' | 'c');
    match raw[at] {
        '/' if next(1) == '/' => until(at, "\n") - usize::from(until(at, "\n") < raw.len()),
        '/' if next(1) == '*' => until(at + 2, "*/"),
        'r' if !in_word && matches!(next(1), '"' | '#') => {
            let hashes = raw[at + 1..].iter().take_while(|c| **c == '#').count();
            if next(1 + hashes) != '"' {
                return at;
            }
            until(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes)))
        }
        '"' => escaped_end(raw, at + 1, '"'),
        '\'' if next(1) == '\\' => escaped_end(raw, at + 1, '\''),
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn escaped_end(raw: &[char], mut at: usize, quote: char) -> usize {
    while at < raw.len() && raw[at] != quote {
        at += 1 + usize::from(raw[at] == '\\');
    }
    (at + 1).min(raw.len())
}

/// The end of the item at `at`: behind its first `;` or block outside of brackets.
fn item_end(code: &[char], at: usize) -> usize {
    let mut depth = 0_i32;
    for (offset, c) in code[at..].iter().enumerate() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth <= 0 && matches!(c, ';' | '}') {
            return at + offset + 1;
        }
    }
    code.len()
}

/// Marks the items that stand behind `#[cfg(test)]` or `#[cfg(any(test, ...))]`.
fn test_mask(code: &[char]) -> Vec<bool> {
    let mut mask = vec![false; code.len()];
    for at in find(code, "#[cfg(") {
        let end = at + code[at..].iter().take_while(|c| **c != ']').count();
        let condition: String = code[at + 6..end].iter().collect();
        if mentions_test(&condition) {
            let end = item_end(code, end + 1);
            mask[at..end].fill(true);
        }
    }
    mask
}

fn mentions_test(condition: &str) -> bool {
    let mut words = condition.split(|c| !is_word(c));
    !condition.contains("not(test") && words.any(|word| word == "test")
}

// ------------------------------------------------------------------------------------- rules

fn check_sizes(source: &Source) -> Vec<String> {
    let text: String = source.raw.iter().collect();
    let mut found = Vec::new();
    if text.lines().count() > MAX_FILE_LINES {
        found.push(format!("{}: more than {MAX_FILE_LINES} lines", source.path));
    }
    for (number, line) in text.lines().enumerate() {
        if line.chars().count() > MAX_LINE_CHARS {
            found.push(format!(
                "{}:{}: longer than {MAX_LINE_CHARS} characters",
                source.path,
                number + 1
            ));
        }
    }
    for at in source.find("fn ") {
        let lines = source.line(item_end(&source.code, at) - 1) - source.line(at) + 1;
        if lines > MAX_FUNCTION_LINES {
            let name = word_at(&source.code, skip_space(&source.code, at + 3));
            let what = format!("fn {name} has {lines} lines, the limit is {MAX_FUNCTION_LINES}");
            found.push(source.violation(at, &what));
        }
    }
    found
}

fn check_confined(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for rule in CONFINED {
        if rule.only_in.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for at in source.find(rule.needle).into_iter().filter(|at| !source.test[*at]) {
            let what = format!("`{}` may not stand here: {}", rule.needle, rule.why);
            found.push(source.violation(at, &what));
        }
    }
    found
}

fn check_lints(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for needle in ["#[allow(", "#![allow("] {
        for at in find(&source.code, needle) {
            found.push(source.violation(at, "bare allow; use #[expect(lint, reason = \"...\")]"));
        }
    }
    for at in find(&source.code, "expect(").into_iter().filter(|at| {
        let before: String = source.code[at.saturating_sub(3)..*at].iter().collect();
        before.ends_with("#[") || before.ends_with("#![")
    }) {
        let end = at + source.code[at..].iter().take_while(|c| **c != ']').count();
        if find(&source.code[at..end], "reason").is_empty() {
            found.push(source.violation(at, "#[expect] without a reason"));
        }
    }
    found
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|group| group.contains(&module))
}

/// The path of the module that a file under `src` is: `src/meta/redb/mod.rs` is `meta redb`.
fn module_path(path: &str) -> Vec<&str> {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let mut parts: Vec<&str> = inner.split('/').collect();
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    parts
}

/// The crate's modules that a file names, with the positions: `crate::x`, `crate::{x, y}`,
/// chains of `super::` that reach the root of the crate, and `kelson::x` in `main.rs`.
fn imported_modules(source: &Source) -> Vec<(usize, String)> {
    let mut roots: Vec<(usize, usize)> = Vec::new();
    for name in ["crate::", "kelson::"] {
        roots.extend(find(&source.code, name).into_iter().filter_map(|at| {
            let starts = at == 0 || !is_word(source.code[at - 1]) && source.code[at - 1] != ':';
            starts.then_some((at, at + name.len()))
        }));
    }
    for at in source.find("super::") {
        let mut end = at;
        let mut levels = 0;
        while word_at(&source.code, end) == "super"
            && find(&source.code[end..], "::").first() == Some(&5)
        {
            levels += 1;
            end += "super::".len();
        }
        if levels >= module_path(source.path).len() + inline_depth(&source.code, at) {
            roots.push((at, end));
        }
    }
    let mut modules = Vec::new();
    for (at, end) in roots {
        modules.extend(first_segments(&source.code, end).into_iter().map(|name| (at, name)));
    }
    modules
}

/// How many inline modules enclose `at`.
fn inline_depth(code: &[char], at: usize) -> usize {
    let encloses = |start: &usize| {
        let name = skip_space(code, start + 4);
        let body = skip_space(code, name + word_at(code, name).chars().count());
        code.get(body) == Some(&'{') && item_end(code, *start) > at
    };
    let starts = find(&code[..at], "mod ");
    starts.iter().filter(|s| !continues(code, **s)).filter(|s| encloses(s)).count()
}

/// The first segment of the path, or of each path of the group, that begins at `at`.
fn first_segments(code: &[char], at: usize) -> Vec<String> {
    if code.get(at) != Some(&'{') {
        return vec![word_at(code, at)];
    }
    let mut depth = 0_i32;
    let mut segments = Vec::new();
    for (offset, c) in code[at..].iter().enumerate() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(c, '{' | ',') {
            segments.push(word_at(code, skip_space(code, at + offset + 1)));
        }
    }
    segments.retain(|name| !name.is_empty());
    segments
}

fn check_imports(source: &Source) -> Vec<String> {
    let module = module_path(source.path)[0];
    let Some(own) = rank(module) else {
        return vec![format!("{}: module `{module}` has no rank in tests/tidy.rs", source.path)];
    };
    let mut found = Vec::new();
    for (at, name) in imported_modules(source) {
        match rank(&name) {
            _ if name == module => {}
            Some(other) if other < own => {}
            Some(other) => {
                let what = format!("{module} may not import {name} (rank {own} -> {other})");
                found.push(source.violation(at, &what));
            }
            None => {
                let what = format!("import `{name}` from the module that defines it");
                found.push(source.violation(at, &what));
            }
        }
    }
    found
}

/// Migrations are frozen: what they use must not change under them.
fn check_migration(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for at in source.find("use ").into_iter().filter(|at| !source.test[*at]) {
        let first = word_at(&source.code, skip_space(&source.code, at + 4));
        if !matches!(first.as_str(), "redb" | "std" | "super") {
            found.push(source.violation(at, "a migration imports only redb, std and super"));
        }
    }
    for name in ["crate::", "kelson::"] {
        for at in source.find(name).into_iter().filter(|at| !source.test[*at]) {
            found.push(source.violation(at, "a migration imports only redb, std and super"));
        }
    }
    found
}

fn check_private_words(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in PRIVATE.iter().filter(|word| line.contains(**word)) {
            found.push(format!("{path}:{}: mentions `{word}`", number + 1));
        }
    }
    found
}

fn check_source(path: &str, text: &str, is_test: bool) -> Vec<String> {
    let source = Source::new(path, text, is_test);
    let mut found = check_sizes(&source);
    found.extend(check_lints(&source));
    if path.starts_with("src/") {
        found.extend(check_confined(&source));
        found.extend(check_imports(&source));
    }
    if path.starts_with("migrations/") {
        found.extend(check_migration(&source));
    }
    found
}

// ---------------------------------------------------------------------------- files and modules

/// The `mod name;` declarations of a file: the path of each, and whether it is test code.
fn declared_modules(source: &Source) -> Vec<(Vec<String>, bool)> {
    let file = Path::new(source.path);
    let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let folder = file.parent().unwrap_or(Path::new(""));
    let owns_folder = matches!(stem, "mod" | "lib" | "main");
    let inner = if owns_folder { folder.to_owned() } else { folder.join(stem) };
    let mut declared = Vec::new();
    for at in source.find("mod ") {
        let name = word_at(&source.code, at + 4);
        if source.code.get(at + 4 + name.chars().count()) != Some(&';') {
            continue;
        }
        let boundary = |c: &char| matches!(c, ';' | '{' | '}');
        let before = source.code[..at].iter().rposition(boundary).map_or(0, |n| n + 1);
        let attributes: String = source.raw[before..at].iter().collect();
        let path = attributes.split_once("#[path = \"").and_then(|(_, rest)| rest.split_once('"'));
        let candidates = match path {
            Some((path, _)) => vec![normal(&folder.join(path))],
            None => ["{}.rs", "{}/mod.rs"]
                .map(|form| normal(&inner.join(form.replace("{}", &name))))
                .to_vec(),
        };
        declared.push((candidates, source.test[at]));
    }
    declared
}

/// A path with forward slashes and its `..` resolved.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part.as_os_str().to_string_lossy().as_ref() {
            ".." => drop(parts.pop()),
            name => parts.push(name.to_owned()),
        }
    }
    parts.join("/")
}

/// Every file that `lib.rs` and `main.rs` reach by `mod`, and whether it is test code.
fn reached(files: &BTreeMap<String, String>) -> BTreeMap<String, bool> {
    let mut reached = BTreeMap::new();
    let roots = ["src/lib.rs", "src/main.rs", "src/bin/kelson-sim.rs"];
    let mut queue: Vec<_> = roots.map(|root| (root.to_owned(), false)).into();
    while let Some((path, is_test)) = queue.pop() {
        let Some(text) = files.get(&path) else { continue };
        if reached.insert(path.clone(), is_test).is_some() {
            continue;
        }
        for (candidates, is_test) in declared_modules(&Source::new(&path, text, is_test)) {
            queue.extend(candidates.into_iter().map(|candidate| (candidate, is_test)));
        }
    }
    reached
}

fn check_reached(files: &BTreeMap<String, String>) -> Vec<String> {
    let reached = reached(files);
    let unreached = files.keys().filter(|path| {
        let compiled = path.starts_with("src/") || path.starts_with("migrations/");
        compiled && path.ends_with(".rs") && !reached.contains_key(*path)
    });
    unreached.map(|path| format!("{path}: no `mod` line reaches this file")).collect()
}

/// The file that numbers the syncs.
const STEPS: &str = "src/disk/durable/step.rs";

/// Every sync has a number of its own: the steps count from 1 without a gap, and each is named by
/// one call outside of tests. The compiler sees to it that each call names one.
fn check_steps(files: &BTreeMap<String, String>, reached: &BTreeMap<String, bool>) -> Vec<String> {
    let steps = Source::new(STEPS, files.get(STEPS).map_or("", String::as_str), false);
    let text: String = steps.code.iter().collect();
    let variants =
        text.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(" = "));
    let named: Vec<(&str, usize)> =
        variants.filter_map(|(name, number)| Some((name, number.parse().ok()?))).collect();
    let mut found = Vec::new();
    for (place, (name, number)) in named.iter().enumerate() {
        if *number != place + 1 {
            found.push(format!("{STEPS}: {name} is {number}, its place is {}", place + 1));
        }
        let calls = files.iter().filter(|(path, _)| path.starts_with("src/") && *path != STEPS);
        let calls =
            calls.filter(|(path, _)| reached.get(*path) == Some(&false)).map(|(path, text)| {
                let source = Source::new(path, text, false);
                let needle = format!("Step::{name}");
                let whole = |at: &usize| word_at(&source.code, at + needle.len()).is_empty();
                let places = find(&source.code, &needle).into_iter().filter(whole);
                places.filter(|at| !source.test[*at]).count()
            });
        let calls: usize = calls.sum();
        if calls != 1 {
            found.push(format!("{STEPS}: {name} is named by {calls} calls instead of one"));
        }
        // Each list is shown to be needed as a whole.
        let lists = text.matches(&format!("Self::{name},")).count();
        if lists != 1 {
            found.push(format!("{STEPS}: {name} stands in {lists} lists of steps instead of one"));
        }
    }
    if named.is_empty() {
        found.push(format!("{STEPS}: there are no steps"));
    }
    found
}

/// Every text file of the repository by its path; what git ignores at the top is left out.
fn read_repository(root: &Path) -> BTreeMap<String, String> {
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let ignored: Vec<&str> = ignored.lines().filter_map(|l| l.trim().strip_prefix('/')).collect();
    let mut files = BTreeMap::new();
    let mut queue: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = queue.pop() {
        let entries = fs::read_dir(&folder).expect("a folder of the repository is readable");
        for path in entries.map(|entry| entry.expect("an entry is readable").path()) {
            let name = normal(path.strip_prefix(root).expect("the entry lies below the root"));
            let skipped = name == ".git" || ignored.iter().any(|i| i.trim_end_matches('/') == name);
            if path.is_symlink() || skipped {
                continue;
            }
            if path.is_dir() {
                queue.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                files.insert(name, text);
            }
        }
    }
    files
}

#[test]
fn the_repository_is_tidy() {
    let files = read_repository(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(files.contains_key("src/lib.rs"), "the repository was not found");
    let reached = reached(&files);
    let mut found = check_reached(&files);
    found.extend(check_steps(&files, &reached));
    for (path, text) in &files {
        found.extend(check_private_words(path, text));
        if path.ends_with(".rs") {
            found.extend(check_source(path, text, reached.get(path) == Some(&true)));
        }
    }
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

// --------------------------------------------------------------------- each rule is able to fail

/// Asserts that the rules accept each text, or that each has exactly one violation.
fn expect(path: &str, texts: &[&str], violations: usize) {
    for text in texts {
        let found = check_source(path, text, false);
        assert_eq!(found.len(), violations, "{path}: {text}\n{}", found.join("\n"));
    }
}

#[test]
fn imports_follow_the_ranks() {
    let upward = [
        "use crate::http::Route;",
        "use crate::{oci::Digest, http as wire};",
        "use super::super::http::Route;",
        "fn f() -> crate::config::Config { g() }",
        "mod a { mod b { use super::super::super::super::http; } }",
        "use crate::Digest;",
        "pub(in crate::http) struct S;",
    ];
    expect("src/registry/blobs.rs", &upward, 1);
    expect("src/blob/fs.rs", &["use crate::meta::MetaStore;"], 1);
    expect("src/unknown.rs", &[""], 1);
    let downward = [
        "use crate::{blob::Store, oci::{Digest, Tag}};",
        "use super::gc; // use crate::http;",
        "use super::super::meta::Error;",
        "mod a { mod b { use super::super::http; } }",
        "pub(crate) fn f() { let _ = \"crate::http::Route\"; }",
    ];
    expect("src/registry/blobs.rs", &downward, 0);
    expect("src/main.rs", &["fn main() { kelson::cli::run() }"], 0);
}

#[test]
fn sizes_are_limited() {
    let body = "\n    g();".repeat(MAX_FUNCTION_LINES - 1);
    expect("src/oci/a.rs", &[&format!("fn f() {{{body}\n}}")], 1);
    expect("src/oci/a.rs", &[&format!("fn f() {{{}\n}}", &body[9..])], 0);
    expect("src/oci/a.rs", &[&"\n".repeat(MAX_FILE_LINES + 1)], 1);
    expect("src/oci/a.rs", &[&"\n".repeat(MAX_FILE_LINES)], 0);
    expect("tests/it/a.rs", &[&format!("// {}", "x".repeat(MAX_LINE_CHARS - 2))], 1);
    expect("tests/it/a.rs", &[&format!("// {}", "x".repeat(MAX_LINE_CHARS - 3))], 0);
}

#[test]
fn words_stay_where_they_belong() {
    for rule in CONFINED {
        let text = format!("fn f() {{ x{}y }}", rule.needle);
        let separated = format!("fn f() {{ x {}y }}", rule.needle);
        let text = if rule.needle.starts_with('.') { text } else { separated };
        let source = Source::new("src/oci/a.rs", &text, false);
        assert!(!check_confined(&source).is_empty(), "{text}");
        let test = format!("#[cfg(test)]\nmod tests {{ {text} }}");
        assert_eq!(check_confined(&Source::new("src/oci/a.rs", &test, false)), [""; 0], "{test}");
        assert_eq!(check_confined(&Source::new("src/oci/tests.rs", &text, true)), [""; 0]);
        for home in rule.only_in {
            assert_eq!(check_confined(&Source::new(home, &text, false)), [""; 0], "{home}: {text}");
        }
    }
    expect(
        "src/oci/a.rs",
        &["/// x.unwrap()\nfn f() { g(r#\"print!\"#, '\"', \"eprint!\\\"\") }"],
        0,
    );
    expect("src/oci/a.rs", &["#[cfg(not(test))]\nfn f() { g().unwrap() }"], 1);
    expect("src/oci/a.rs", &["#[cfg(test)]\nuse a::B;\nfn f() { g().unwrap() }"], 1);
    expect("src/disk/os.rs", &["fn sync_data(&self) { durable::sync_os_data(&self.file) }"], 0);
    expect("src/cli/mod.rs", &["use crate::meta::redb::Store;"], 0);
    expect("src/meta/memory.rs", &["use redb::Database;"], 1);
}

#[test]
fn lints_are_expected_with_a_reason() {
    expect("src/oci/a.rs", &["#[allow(dead_code)]\nfn f() {}", "#![allow(dead_code)]"], 1);
    expect("src/oci/a.rs", &["#[expect(dead_code)]\nfn f() {}"], 1);
    expect("src/oci/a.rs", &["#[expect(dead_code, reason = \"soon\")]\nfn f() {}"], 0);
}

#[test]
fn migrations_import_nothing_that_changes() {
    let path = "migrations/redb/m0001_initial.rs";
    expect(path, &["use crate::oci::Digest;"], 2);
    expect(path, &["use serde::Serialize;", "fn f(d: kelson::oci::Digest) {}"], 1);
    expect(path, &["use redb::TableDefinition;\nuse std::fmt;\nuse super::Step;"], 0);
}

#[test]
fn private_words_are_found() {
    for word in PRIVATE {
        assert_eq!(check_private_words("README.md", &format!("see {word}x")).len(), 1, "{word}");
    }
    assert_eq!(check_private_words("README.md", "see docs/"), [""; 0]);
}

#[test]
fn every_sync_has_one_number_and_every_number_one_sync() {
    let steps = "pub enum Step {\n    A = 1,\n    B = 2,\n}\nconst ALL: x = [Self::A,];\n\
                 const BACKUPS: x = [Self::B,];";
    let check = |steps: &str, calls: &str| {
        let texts = [(STEPS, steps), ("src/blob/fs.rs", calls)];
        let files = texts.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        let reached = texts.map(|(path, _)| (path.to_owned(), false)).into();
        check_steps(&files, &reached).len()
    };
    assert_eq!(check(steps, "f(Step::A); g(durable::Step::B); // Step::A"), 0);
    assert_eq!(check(steps, "f(Step::A); f(Step::A); f(Step::B)"), 1);
    assert_eq!(check(steps, "f(Step::A); f(Step::Bb)"), 1);
    assert_eq!(check(steps, "f(Step::A);\n#[cfg(test)]\nfn f() { Step::B }"), 1);
    assert_eq!(check(&steps.replace('2', "3"), "f(Step::A); f(Step::B)"), 1);
    assert_eq!(check("", ""), 1);
    for lists in [steps.replace("Self::A", "Self::B"), steps.replace("Self::B,", "")] {
        assert!(check(&lists, "f(Step::A); f(Step::B)") > 0, "each is in one list");
    }
}

#[test]
fn every_file_is_reached_by_a_mod_line() {
    let files = |texts: &[(&str, &str)]| {
        texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    };
    let complete = files(&[
        ("src/lib.rs", "pub mod oci;\n#[path = \"../migrations/m1.rs\"]\nmod m1;"),
        ("src/main.rs", ""),
        ("src/oci/mod.rs", "mod digest; // mod forgotten;\n#[cfg(test)]\nmod tests;"),
        ("src/oci/digest.rs", "#[cfg(test)]\nmod tests;"),
        ("src/oci/digest/tests.rs", ""),
        ("src/oci/tests.rs", "mod more;"),
        ("src/oci/tests/more.rs", ""),
        ("migrations/m1.rs", ""),
    ]);
    assert_eq!(check_reached(&complete), [""; 0]);
    let is_test = reached(&complete);
    assert!(is_test["src/oci/tests/more.rs"] && is_test["src/oci/digest/tests.rs"]);
    assert!(!is_test["src/oci/digest.rs"] && !is_test["migrations/m1.rs"]);
    let forgotten = files(&[("src/lib.rs", "mod oci;"), ("src/oci/forgotten.rs", "")]);
    assert_eq!(check_reached(&forgotten).len(), 1);
}
