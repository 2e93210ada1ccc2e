//! F-2: a manifest or an index is understood exactly as an independent walk over its
//! `serde_json::Value` understands it. The first byte chooses the `Content-Type`, the rest is
//! the document.
#![no_main]

use kelson::oci::MediaType;
use kelson::oci::manifest::{ChildRef, Manifest, ManifestKind};
use kelson::oci::media_type::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

#[path = "../../src/oci/manifest/tests/walk.rs"]
mod walk;

const TYPES: [Option<&str>; 6] = [
    None,
    Some(OCI_MANIFEST),
    Some(OCI_INDEX),
    Some(DOCKER_MANIFEST),
    Some(DOCKER_LIST),
    Some("a/b"),
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, document)) = data.split_first() else { return };
    let content_type = TYPES[usize::from(*choice) % TYPES.len()];
    let parsed_type = content_type.and_then(|text| MediaType::parse(text).ok());
    let read = |document: &[u8]| {
        Manifest::parse(parsed_type.as_ref(), document).ok().map(walk::Summary::from)
    };
    let manifest = read(document);
    // Texts that `Value` cannot hold (a lone surrogate, 1e999) may stand in members that have no
    // meaning; there the parser only has to survive.
    let Ok(value) = serde_json::from_slice::<Value>(document) else { return };
    let expected = walk::read(content_type, &value);
    if manifest.is_some() {
        assert_eq!(manifest, expected);
    }
    // A `Value` has each member once, and the walk knows no case folding.
    if !has_folded_member(&value) {
        assert_eq!(read(value.to_string().as_bytes()), expected);
    }
});

/// Whether a member's name may be a known one in another case, which the parser refuses.
fn has_folded_member(value: &Value) -> bool {
    let is_folded = |name: &str| {
        name.chars().any(|c| matches!(c, '\u{17f}' | '\u{212a}'))
            || MEMBERS.iter().any(|known| *known != name && known.eq_ignore_ascii_case(name))
    };
    match value {
        Value::Object(object) => {
            object.iter().any(|(name, value)| is_folded(name) || has_folded_member(value))
        }
        Value::Array(items) => items.iter().any(has_folded_member),
        _ => false,
    }
}

/// The known members of documents, descriptors and platforms.
const MEMBERS: [&str; 16] = [
    "annotations",
    "architecture",
    "artifactType",
    "config",
    "data",
    "digest",
    "fsLayers",
    "layers",
    "manifests",
    "mediaType",
    "os",
    "platform",
    "schemaVersion",
    "size",
    "subject",
    "urls",
];
