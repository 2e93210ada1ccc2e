//! Publishing: the one place where staged bytes get their content's name.

use super::Registry;
use super::error::Result;
use super::stripes::Stripe;
use crate::blob::Staging;
use crate::meta::{BlobRecord, BlobState, Place};
use crate::oci::Digest;

impl Registry {
    /// Makes checked bytes durable under their digest. The caller commits the facts while it
    /// holds the returned stripe, so that nothing removes the file in between. Content whose
    /// file is there already is not written again.
    pub(super) async fn publish(
        &self,
        mut staging: Box<dyn Staging>,
        digest: &Digest,
    ) -> Result<Stripe<'_>> {
        let size_bytes = staging.offset();
        let mut synced = false;
        if !self.has_file(digest, size_bytes).await? {
            // The long sync, before the stripe: no lock is held while bytes flow.
            staging.sync().await?;
            synced = true;
        }
        let stripe = self.inner.stripes.lock(digest).await;
        if !synced && self.has_file(digest, size_bytes).await? {
            return Ok(stripe);
        }
        if !synced {
            staging.sync().await?;
        }
        let live = self.live(digest).await?.is_some_and(|blob| blob.size_bytes == size_bytes);
        let published = self.inner.blobs.publish(staging, digest, size_bytes, live).await?;
        self.inner.blobs.sync_directories(published).await?;
        Ok(stripe)
    }

    /// Whether a good file of that content is known and really there.
    async fn has_file(&self, digest: &Digest, size_bytes: u64) -> Result<bool> {
        if self.live(digest).await?.is_none() {
            return Ok(false);
        }
        let file = self.inner.blobs.open(digest).await?;
        Ok(file.is_some_and(|file| file.size_bytes == size_bytes))
    }

    /// The row that vouches for the content's file.
    pub(super) async fn live(&self, digest: &Digest) -> Result<Option<BlobRecord>> {
        let stored = self.inner.meta.stored(digest).await?;
        Ok(stored.filter(|blob| blob.place != Place::Inline && blob.state == BlobState::Live))
    }
}
