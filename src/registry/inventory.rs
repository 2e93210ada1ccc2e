//! What is in the registry, for people and scripts beside the API: what `find` on the volume of
//! distribution used to show.

use serde::{Deserialize, Serialize};

use super::Registry;
use super::error::{Error, Result};
use crate::meta::Place;
use crate::oci::{Digest, RepositoryName};

/// Entries on one page.
const PAGE_MAX: usize = 500;

/// Tags shown of one manifest.
const TAGS_MAX: usize = 1000;

/// A page of entries, and where the next one starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing<T> {
    /// The entries, in order.
    pub entries: Vec<T>,
    /// Where the next page starts, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One repository with at least one manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryEntry {
    /// Its name.
    pub name: String,
    /// Tags in it.
    pub tags: u64,
    /// Manifests in it.
    pub manifests: u64,
    /// Blobs that it may read.
    pub blobs: u64,
    /// Bytes of its manifests and blobs.
    pub size_bytes: u64,
}

/// One manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Its name.
    pub digest: String,
    /// Its type.
    pub media_type: String,
    /// Its length.
    pub size_bytes: u64,
    /// Tags on it.
    pub tags: Vec<String>,
    /// What it is attached to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was last pushed: milliseconds since the Unix epoch.
    pub pushed_at_ms: u64,
}

/// One blob that the repository may read: a layer, a config, or not used yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobEntry {
    /// Its name.
    pub digest: String,
    /// Its length.
    pub size_bytes: u64,
    /// Whether its file is written already; before that, its bytes are in the database.
    pub has_file: bool,
    /// Repositories that share it.
    pub repositories: u64,
}

impl Registry {
    /// Repositories by name, after `after`.
    pub async fn list_repositories(&self, after: Option<&str>) -> Result<Listing<RepositoryEntry>> {
        let page = self.inner.meta.repositories(after, PAGE_MAX).await?;
        let next = page.items.last().filter(|_| page.more).map(ToString::to_string);
        let mut entries = Vec::with_capacity(page.items.len());
        for name in page.items {
            // One that was deleted since the page was read is not shown.
            let Some(record) = self.inner.meta.repository(&name).await? else { continue };
            entries.push(RepositoryEntry {
                name: name.to_string(),
                tags: record.tags,
                manifests: record.manifests,
                blobs: record.blobs,
                size_bytes: record.size_bytes,
            });
        }
        Ok(Listing { entries, next })
    }

    /// Manifests of a repository by digest, after `after`, with their tags.
    pub async fn list_manifests(
        &self,
        repo: &RepositoryName,
        after: Option<&Digest>,
    ) -> Result<Listing<ManifestEntry>> {
        self.known(repo).await?;
        let page = self.inner.meta.manifests(repo, after, PAGE_MAX).await?;
        let next = page.items.last().filter(|_| page.more).map(|last| last.digest.to_string());
        let mut entries = Vec::with_capacity(page.items.len());
        for record in page.items {
            let tags = self.inner.meta.tags_of(repo, &record.digest, None, TAGS_MAX).await?;
            entries.push(ManifestEntry {
                digest: record.digest.to_string(),
                media_type: record.media_type.to_string(),
                size_bytes: record.size_bytes,
                tags: tags.items.iter().map(ToString::to_string).collect(),
                subject: record.subject.map(|subject| subject.to_string()),
                pushed_at_ms: record.pushed_at.0,
            });
        }
        Ok(Listing { entries, next })
    }

    /// Blobs that a repository may read, by digest, after `after`.
    pub async fn list_blobs(
        &self,
        repo: &RepositoryName,
        after: Option<&Digest>,
    ) -> Result<Listing<BlobEntry>> {
        self.known(repo).await?;
        let page = self.inner.meta.blobs(repo, after, PAGE_MAX).await?;
        let next = page.items.last().filter(|_| page.more).map(|(last, _)| last.to_string());
        let entry = |(digest, blob): (Digest, crate::meta::BlobRecord)| BlobEntry {
            digest: digest.to_string(),
            size_bytes: blob.size_bytes,
            has_file: blob.place != Place::Inline,
            repositories: blob.repositories,
        };
        Ok(Listing { entries: page.items.into_iter().map(entry).collect(), next })
    }

    async fn known(&self, repo: &RepositoryName) -> Result<()> {
        let record = self.inner.meta.repository(repo).await?;
        record.map(|_| ()).ok_or(Error::RepositoryUnknown)
    }
}
