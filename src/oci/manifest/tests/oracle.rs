//! Random documents, read by the parser and by a walk over their values.

use base64::Engine as _;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::walk::{Summary, read};
use super::*;

fn descriptor() -> impl Strategy<Value = Value> {
    let algorithm = proptest::sample::select(&["sha256", "sha512", "blake3", "md5"]);
    let extra = prop_oneof![
        3 => Just(json!({})),
        1 => Just(json!({"urls": ["http://a/b", "c"], "annotations": {"k": "v"}})),
        1 => Just(json!({"platform": {"os": "linux", "architecture": "amd64"}, "x": [{}]})),
    ];
    (algorithm, any::<[u8; 3]>(), any::<bool>(), extra).prop_map(
        |(algorithm, content, embedded, extra)| {
            let digest = match Algorithm::from_name(algorithm) {
                Some(algorithm) => Digest::of(algorithm, &content).to_string(),
                None => format!("{algorithm}:00ff"),
            };
            let mut value = json!({"mediaType": "a/b+c", "digest": digest, "size": 3});
            let object = value.as_object_mut().unwrap();
            if embedded {
                let data = base64::prelude::BASE64_STANDARD.encode(content);
                object.insert("data".to_owned(), json!(data));
            }
            object.extend(extra.as_object().unwrap().clone());
            value
        },
    )
}

/// A valid document and its type.
fn document() -> impl Strategy<Value = (String, Value)> {
    let media_type =
        proptest::sample::select(&[OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST]);
    let list = proptest::collection::vec(descriptor(), 0..3);
    let optional = proptest::option::of(descriptor());
    (media_type, descriptor(), list, optional, any::<[bool; 2]>()).prop_map(
        |(media_type, config, list, subject, [annotated, typed])| {
            let mut value = json!({"schemaVersion": 2, "mediaType": media_type, "unknown": [1.5]});
            if [OCI_MANIFEST, DOCKER_MANIFEST].contains(&media_type) {
                value["config"] = config;
                value["layers"] = json!(list);
            } else {
                value["manifests"] = json!(list);
            }
            if let Some(subject) = subject {
                value["subject"] = subject;
            }
            if annotated {
                value["annotations"] = json!({"a": "1", "b": ""});
            }
            if typed {
                value["artifactType"] = json!("x/y");
            }
            (media_type.to_owned(), value)
        },
    )
}

/// Every place in a document, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let children: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(array) => array.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        places(child, &format!("{at}/{name}"), found);
    }
}

/// Replaces what is at a place, or removes it when there is nothing to replace it with.
fn change(document: &mut Value, place: &str, new: Option<Value>) {
    let (parent, name) = place.rsplit_once('/').unwrap_or_default();
    match new {
        Some(new) => *document.pointer_mut(place).unwrap() = new,
        None => {
            if let Some(Value::Object(object)) = document.pointer_mut(parent) {
                object.remove(name);
            }
        }
    }
}

fn replacement() -> impl Strategy<Value = Option<Value>> {
    proptest::sample::select(vec![
        None,
        Some(json!(null)),
        Some(json!(true)),
        Some(json!(-1)),
        Some(json!(1)),
        Some(json!(2)),
        Some(json!(3.0)),
        Some(json!(u64::MAX)),
        Some(json!("")),
        Some(json!("x")),
        Some(json!("a/b")),
        Some(json!("a b")),
        Some(json!("sha256:zz")),
        Some(json!("sha1:ab")),
        Some(json!(OCI_MANIFEST)),
        Some(json!([])),
        Some(json!([1])),
        Some(json!(["x"])),
        Some(json!({})),
        Some(json!({"a": "b"})),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn documents_mean_what_a_walk_over_their_values_says(
        (media_type, mut value) in document(),
        changes in proptest::collection::vec((any::<Index>(), replacement()), 0..3),
        extra in proptest::option::weighted(0.2, proptest::sample::select(
            &["config", "layers", "manifests", "fsLayers"])),
        header in 0..4_u8,
    ) {
        for (index, new) in changes {
            let mut found = Vec::new();
            places(&value, "", &mut found);
            change(&mut value, &found[index.index(found.len())], new);
        }
        if let (Some(name), Value::Object(object)) = (extra, &mut value) {
            object.entry(name).or_insert_with(|| json!([]));
        }
        let content_type = match header {
            0 => None,
            1 => Some(OCI_INDEX),
            _ => Some(media_type.as_str()),
        };
        let parsed = content_type.map(|text| MediaType::parse(text).unwrap());
        let actual = Manifest::parse(parsed.as_ref(), value.to_string().as_bytes());
        let expected = read(content_type, &value);
        prop_assert_eq!(actual.clone().ok().map(Summary::from), expected, "{:?}", actual);
    }

    #[test]
    fn no_bytes_make_it_panic(
        (media_type, value) in document(),
        cut in any::<Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut bytes = value.to_string().into_bytes();
        let at = cut.index(bytes.len());
        let end = (at + noise.len()).min(bytes.len());
        bytes.splice(at..end, noise);
        let content_type = MediaType::parse(&media_type).unwrap();
        if let Ok(manifest) = Manifest::parse(Some(&content_type), &bytes) {
            prop_assert_eq!(manifest.media_type, content_type);
        }
    }
}
