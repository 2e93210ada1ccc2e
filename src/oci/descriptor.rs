//! Descriptors (image-spec, descriptor.md), as lists of referrers show them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, MediaType};

/// What a list of referrers says of a manifest. Properties that such a list has no use for are
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Type of the content.
    pub media_type: MediaType,
    /// Name of the content.
    pub digest: Digest,
    /// Its length.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// Type of the artifact, when the content is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Arbitrary texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Its length as JSON.
    pub fn json_size_bytes(&self) -> usize {
        // Maps with text keys always have a JSON form.
        serde_json::to_vec(self).map_or(0, |json| json.len())
    }
}

/// The entries of an image index, as descriptors; those that are none, and a document that is no
/// index, are left out.
pub fn entries(index: &[u8]) -> Vec<Descriptor> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<serde_json::Value>,
    }
    let Ok(index) = serde_json::from_slice::<Index>(index) else { return Vec::new() };
    index.manifests.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_an_index_are_read_and_others_are_left_out() {
        let digest = Digest::of(super::super::Algorithm::Sha256, b"x");
        let index = format!(
            r#"{{"manifests":[{{"mediaType":"a/b","digest":"{digest}","size":1,"artifactType":"c/d",
            "annotations":{{"k":"v"}},"platform":{{}}}},{{"digest":"nonsense"}},7]}}"#
        );
        let [entry] = <[Descriptor; 1]>::try_from(entries(index.as_bytes())).unwrap();
        assert_eq!(entry.digest, digest);
        assert_eq!(entry.artifact_type.as_deref(), Some("c/d"));
        assert_eq!(entry.json_size_bytes(), serde_json::to_string(&entry).unwrap().len());
        assert!(entries(b"[]").is_empty());
    }
}
