//! `/v2/<name>/referrers/<digest>` (distribution-spec, end-12).

use std::collections::BTreeMap;

use axum::http::header;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::link;
use super::reply::{OCI_FILTERS_APPLIED, Reply};
use crate::oci::{Descriptor, Digest, RepositoryName, media_type};

/// An image index (image-spec, image-index.md).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Descriptor> for Entry<'a> {
    fn from(descriptor: &'a Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.as_str(),
            digest: &descriptor.digest,
            size: descriptor.size_bytes,
            artifact_type: descriptor.artifact_type.as_deref(),
            annotations: &descriptor.annotations,
        }
    }
}

/// `GET`: the manifests whose subject this is, as an index; empty for an unknown subject.
pub async fn list(
    api: &Api,
    repo: &RepositoryName,
    subject: &Digest,
    artifact_types: &[String],
    last: Option<&Digest>,
) -> Result<Reply, ApiError> {
    let listed = api.registry().referrers(repo, subject, artifact_types, last).await?;
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX,
        manifests: listed.descriptors.iter().map(Entry::from).collect(),
    };
    // Strings and numbers always serialise.
    let document = serde_json::to_vec(&index).unwrap_or_default();
    let mut reply = Reply::json(media_type::OCI_INDEX, document);
    if !artifact_types.is_empty() {
        // The filter's name only: its value is the client's text.
        reply = reply.text(OCI_FILTERS_APPLIED, "artifactType");
    }
    if let Some(next) = listed.next {
        let path = format!("{}v2/{repo}/referrers/{subject}", api.options().prefix);
        let next = next.to_string();
        let mut parameters = vec![("last", next.as_str())];
        parameters.extend(artifact_types.iter().map(|kind| ("artifactType", kind.as_str())));
        reply = reply.text(header::LINK, &link::next(&path, &parameters));
    }
    Ok(reply)
}
