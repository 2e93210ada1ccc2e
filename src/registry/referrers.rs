//! Referrers: what is attached to a manifest, from the index and from fallback tags.
//!
//! A client that found no referrers API kept an index under the tag `sha256-<hex>`. Where such
//! a tag exists, its entries are part of the answer (distribution-spec, "Enabling the Referrers
//! API").

use std::collections::BTreeMap;

use super::error::Result;
use super::{Referrers, Registry};
use crate::oci::media_type::{DOCKER_LIST, OCI_INDEX};
use crate::oci::{Descriptor, Digest, Reference, RepositoryName, Tag, descriptor};

/// Descriptors in one answer, in bytes of JSON; clients read no more than 4 MiB of an index.
const PAGE_SIZE_BYTES_MAX: usize = 3 * 1024 * 1024;

impl Registry {
    /// A page of descriptors whose subject is `subject`, by digest, after `after`.
    /// `artifact_types` empty: all. An unknown repository or subject has none.
    pub async fn referrers(
        &self,
        repo: &RepositoryName,
        subject: &Digest,
        artifact_types: &[String],
        after: Option<&Digest>,
    ) -> Result<Referrers> {
        let page = self
            .inner
            .meta
            .referrers(repo, subject, artifact_types, after, PAGE_SIZE_BYTES_MAX)
            .await?;
        // Beyond the last one on this page, the fallback's entries belong to the next.
        let last = page.items.last().filter(|_| page.more).map(|descriptor| descriptor.digest);
        let mut by_digest: BTreeMap<Digest, Descriptor> = self
            .fallback_referrers(repo, subject)
            .await?
            .into_iter()
            .filter(|entry| after.is_none_or(|after| entry.digest > *after))
            .filter(|entry| last.is_none_or(|last| entry.digest <= last))
            .filter(|entry| matches(entry, artifact_types))
            .map(|entry| (entry.digest, entry))
            .collect();
        by_digest.extend(page.items.into_iter().map(|entry| (entry.digest, entry)));
        Ok(paginate(by_digest.into_values(), page.more))
    }

    /// The entries of the fallback tag's index; none when there is no such tag, or when it is no
    /// index.
    async fn fallback_referrers(
        &self,
        repo: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let Some(tag) = fallback_tag(subject) else { return Ok(Vec::new()) };
        let manifest = match self.manifest(repo, &Reference::Tag(tag)).await {
            Ok(manifest) => manifest,
            Err(super::Error::ManifestUnknown) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if !matches!(manifest.media_type.as_str(), OCI_INDEX | DOCKER_LIST) {
            return Ok(Vec::new());
        }
        Ok(descriptor::entries(&manifest.bytes))
    }
}

fn matches(descriptor: &Descriptor, artifact_types: &[String]) -> bool {
    artifact_types.is_empty()
        || descriptor.artifact_type.as_ref().is_some_and(|own| artifact_types.contains(own))
}

/// Cuts the merged list where it would grow beyond a page.
fn paginate(descriptors: impl Iterator<Item = Descriptor>, more: bool) -> Referrers {
    let (mut kept, mut size_bytes, mut cut) = (Vec::<Descriptor>::new(), 0, more);
    for descriptor in descriptors {
        size_bytes += descriptor.json_size_bytes();
        if size_bytes > PAGE_SIZE_BYTES_MAX && !kept.is_empty() {
            cut = true;
            break;
        }
        kept.push(descriptor);
    }
    let next = kept.last().filter(|_| cut).map(|last| last.digest);
    Referrers { descriptors: kept, next }
}

/// `<algorithm>-<encoded>`, cut to 32 and 64 characters.
fn fallback_tag(subject: &Digest) -> Option<Tag> {
    let hex = subject.hex();
    let encoded = hex.get(..64).unwrap_or(&hex);
    Tag::parse(&format!("{}-{encoded}", subject.algorithm())).ok()
}
