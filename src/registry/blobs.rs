//! Blobs: who may read them goes by the repository's own row (R4).

use bytes::Bytes;

use super::error::{Error, Result};
use super::{Content, Registry};
use crate::meta::{BlobRecord, MountBlob, Place, UnlinkBlob, Use};
use crate::oci::{Digest, RepositoryName};

/// Repositories looked at for a mount without a source.
const SOURCES_MAX: usize = 100;

impl Registry {
    /// The length of a blob that the repository may read.
    pub async fn stat_blob(&self, repo: &RepositoryName, digest: &Digest) -> Result<u64> {
        Ok(self.served_blob(repo, digest).await?.size_bytes)
    }

    /// A blob that the repository may read: its length and its bytes.
    pub async fn blob(&self, repo: &RepositoryName, digest: &Digest) -> Result<(u64, Content)> {
        let blob = self.served_blob(repo, digest).await?;
        let content = self.content(digest, &blob).await?.ok_or(Error::BlobUnknown)?;
        Ok((blob.size_bytes, content))
    }

    /// The same content, for who sends all of it, in order: with verify-on-read the read of its
    /// last part fails when the bytes are not those of the digest.
    pub fn verifying(&self, digest: &Digest, content: Content) -> Content {
        match content {
            Content::File(file) if self.inner.options.verify_on_read => {
                let (registry, damaged) = (self.clone(), *digest);
                let on_damage = Box::new(move || registry.suspect(&damaged));
                Content::File(file.verifying(digest, on_damage))
            }
            other => other,
        }
    }

    /// The blob's row, and a lease on it when nothing holds it (R7).
    async fn served_blob(&self, repo: &RepositoryName, digest: &Digest) -> Result<BlobRecord> {
        let lease = self.lease(repo, digest);
        let found = self.inner.meta.blob(repo, digest).await?;
        let (blob, standing) = found.ok_or(Error::BlobUnknown)?;
        if !self.rely_on(lease, repo, digest, (Use::Blob, standing)).await? {
            return Err(Error::BlobUnknown);
        }
        Ok(blob)
    }

    /// The bytes of a stored content, from the place that its row names.
    pub(super) async fn content(
        &self,
        digest: &Digest,
        blob: &BlobRecord,
    ) -> Result<Option<Content>> {
        if blob.place != Place::File
            && let Some(bytes) = self.inner.meta.small_content(digest).await?
        {
            return Ok(self.is_served(digest, &bytes).then_some(Content::Inline(bytes)));
        }
        // A blob's inline copy goes when its file is there, perhaps since its row was read.
        let file = self.inner.blobs.open(digest).await?;
        let found_size_bytes = file.as_ref().map(|file| file.size_bytes);
        if found_size_bytes == Some(blob.size_bytes) {
            return Ok(file.map(Content::File));
        }
        let size_bytes = blob.size_bytes;
        tracing::error!(
            blob.digest = %digest,
            size_bytes,
            ?found_size_bytes,
            "the file of a known blob is not there"
        );
        self.suspect(digest);
        Ok(None)
    }

    /// Whether a small content may be sent: with verify-on-read, only what has the digest.
    pub(super) fn is_served(&self, digest: &Digest, bytes: &Bytes) -> bool {
        let served =
            !self.inner.options.verify_on_read || Digest::of(digest.algorithm(), bytes) == *digest;
        if !served {
            self.suspect(digest);
        }
        served
    }

    /// Ends the repository's permission to read the blob. The bytes go when nothing needs them.
    pub async fn delete_blob(&self, repo: &RepositoryName, digest: &Digest) -> Result<()> {
        self.check_deletable()?;
        match self.inner.meta.unlink_blob(repo, digest, self.moment()).await? {
            UnlinkBlob::Removed => {
                self.inner.garbage_made.notify_one();
                Ok(())
            }
            UnlinkBlob::Unknown => Err(Error::BlobUnknown),
            UnlinkBlob::Referenced => Err(Error::BlobReferenced),
        }
    }

    /// Makes a blob of another repository readable in `repo` without its bytes being sent. Without
    /// `from`, any repository that `readable` allows serves. `false`: the caller opens a session.
    pub async fn mount_blob(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        readable: &(dyn Fn(&RepositoryName) -> bool + Sync),
    ) -> Result<bool> {
        self.check_writable()?;
        self.inner.room.check(0).await?;
        if let Some(from) = from {
            return Ok(readable(from) && self.mount_from(repo, digest, from).await?);
        }
        let meta = &self.inner.meta;
        let sources = meta.repositories_with_blob(digest, None, SOURCES_MAX).await?;
        for from in sources.items.iter().filter(|name| readable(name)) {
            if self.mount_from(repo, digest, from).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn mount_from(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<bool> {
        let mount = MountBlob {
            from: from.clone(),
            to: repo.clone(),
            digest: *digest,
            moment: self.moment(),
        };
        Ok(self.inner.meta.mount_blob(mount).await?)
    }
}
