//! The example and the documentation say what is so.

use super::*;
use crate::config::keys::{ACCEPTED, EFFECTIVE};

/// `config.example.yml` with every held-back setting set, in its two parts.
fn example() -> (String, String) {
    let text = include_str!("../../../config.example.yml");
    let set = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') || rest.starts_with("  ") => rest.to_owned(),
        _ => line.to_owned(),
    };
    let text: String = text.lines().map(|line| set(line) + "\n").collect();
    let (ours, accepted) = text.split_once("# ---- Accepted").unwrap();
    (ours.to_owned(), format!("version: 0.1\n# {accepted}"))
}

/// The node of a key; of lists the first item.
fn at<'a>(root: &'a Node, path: &str) -> Option<&'a Node> {
    path.split('.').try_fold(root, |node, segment| match segment {
        "[]" => node.items().first(),
        name => node.child(name),
    })
}

#[test]
fn the_example_runs_as_it_is_and_is_the_default() {
    let example = load(include_str!("../../../config.example.yml"), &[]).unwrap();
    assert_eq!(example.notices, []);
    assert_eq!(meaning(&example), meaning(&load(MINIMAL, &[]).unwrap()));
}

#[test]
fn the_example_documents_every_key_with_its_default() {
    let (ours, accepted) = example();
    let (ours_root, accepted_root) = (tree_of(&ours), tree_of(&accepted));
    for key in EFFECTIVE {
        let node = at(&ours_root, key.path).or_else(|| at(&accepted_root, key.path));
        let node = node.unwrap_or_else(|| panic!("{} is not in the example", key.path));
        assert!(!node.is_empty(), "{} has no value", key.path);
        if !key.default.is_empty() {
            assert_eq!(node.text(), Some(key.default), "{}", key.path);
        }
    }
    for key in ACCEPTED {
        let node = at(&accepted_root, key.path);
        assert!(node.is_some_and(|it| !it.is_empty()), "{} is not in the example", key.path);
    }
    let loaded = load(&ours, &[]).unwrap();
    assert_eq!(loaded.notices, [], "all settings with an effect together");
    let address = [("REGISTRY_HTTP_ADDR", ":5000")];
    let loaded = load(&accepted, &address).unwrap();
    let texts: Vec<&str> = loaded.notices.iter().map(|it| it.text.as_str()).collect();
    for (section, ..) in schema::IGNORED {
        assert!(texts.iter().any(|text| text.contains(section)), "{section}: {texts:?}");
    }
    assert!(texts.iter().all(|text| !text.contains("not known")), "{texts:?}");
}

#[test]
fn the_documentation_names_every_key_with_an_effect_and_every_other_section() {
    let text = include_str!("../../../docs/CONFIGURATION.md");
    for key in EFFECTIVE {
        let name = key.path.replace(".[]", "[]");
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
    let sections =
        schema::IGNORED.iter().map(|it| it.0).chain(schema::REFUSED.iter().map(|it| it.0));
    for section in sections.chain(["storage.inmemory", "storage.s3"]) {
        assert!(text.contains(&format!("`{section}`")), "{section}");
    }
}
