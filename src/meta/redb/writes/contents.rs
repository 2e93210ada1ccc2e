//! Contents, who has them, and what waits for the collector.
//!
//! `gc_queue` holds exactly what nothing holds, each once: a link that no manifest of its
//! repository refers to, a content that no repository has, a referrer whose subject was deleted.
//! The row it is about says where in the queue it stands, so that a use takes it out at once: the
//! queue, and with it the leases that a collector must look at, is as long as the garbage.

use super::super::super::{BlobRecord, BlobState, Error, Garbage, Moment, Place, Result};
use super::super::codec::{ContentRow, Key, LinkRow, Mark, SmallContent, Uses};
use super::super::rows;
use super::super::tables::Tables;
use super::repositories::lower;
use crate::oci::Digest;

/// As what a repository has a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Blob,
    Manifest,
}

impl Use {
    fn of(self, uses: &mut Uses) -> &mut bool {
        match self {
            Self::Blob => &mut uses.blob,
            Self::Manifest => &mut uses.manifest,
        }
    }
}

fn garbage_key(eligible: u64, id: u64, digest: &Digest, garbage: Garbage) -> Key {
    Key::number(eligible).and_number(id).and_digest(digest).and_garbage(garbage)
}

fn link_key(id: u64, digest: &Digest) -> Key {
    Key::number(id).and_digest(digest)
}

impl Tables<'_> {
    /// Refuses content whose stored length is another; the digest names one length only.
    pub(super) fn check_size(&self, digest: &Digest, size_bytes: u64) -> Result<()> {
        match rows::content(&self.blobs, digest)? {
            Some(row) if row.record.size_bytes != size_bytes => Err(Error::Corrupt(format!(
                "{digest} is stored with {} bytes, but has {size_bytes}",
                row.record.size_bytes
            ))),
            _ => Ok(()),
        }
    }

    /// The content of a blob that the repository may read. One that is not live is not there.
    pub(super) fn readable(&self, id: u64, digest: &Digest) -> Result<Option<ContentRow>> {
        if !rows::has(&self.repo_blobs, &link_key(id, digest))? {
            return Ok(None);
        }
        self.live(digest)
    }

    /// The content that a link or a manifest says is there, unless it is not live.
    pub(super) fn live(&self, digest: &Digest) -> Result<Option<ContentRow>> {
        let row: ContentRow = rows::must_get(&self.blobs, &Key::digest(digest))?;
        Ok((row.record.state == BlobState::Live).then_some(row))
    }

    /// Whether a manifest of the repository refers to the digest.
    pub(super) fn is_referenced(&self, id: u64, digest: &Digest) -> Result<bool> {
        rows::any(&self.edges, &Key::number(id).and_digest(digest))
    }

    /// Content is there, inline or (`None`) as a durable file: its row, live.
    pub(super) fn arrive(
        &mut self,
        digest: &Digest,
        size_bytes: u64,
        content: Option<&[u8]>,
        usage: Use,
    ) -> Result<ContentRow> {
        let key = Key::digest(digest);
        let found = rows::content(&self.blobs, digest)?;
        // The file of a content that is not live may be gone or wrong, so content given is stored.
        let has_file = |row: &ContentRow| {
            row.record.place != Place::Inline && row.record.state == BlobState::Live
        };
        let has_file = found.as_ref().is_some_and(has_file);
        let mut row = found.unwrap_or(ContentRow {
            record: BlobRecord {
                size_bytes,
                place: Place::File,
                state: BlobState::Live,
                repositories: 0,
            },
            manifests: 0,
            eligible_uptime_seconds: 0,
        });
        row.record.state = BlobState::Live;
        match content {
            None if row.record.place == Place::Inline => {
                row.record.place = Place::Both;
                rows::remove(&mut self.spill_queue, &key)?;
                self.drop_inline_copy(&mut row, digest)?;
            }
            None => {}
            // Manifests are read often: their bytes are worth a copy beside the file.
            Some(content) if !has_file || usage == Use::Manifest => {
                rows::put(&mut self.small_contents, &key, &SmallContent(content.to_vec()))?;
                row.record.place = if has_file { Place::Both } else { Place::Inline };
                if !has_file {
                    rows::put(&mut self.spill_queue, &key, &Mark)?;
                }
            }
            Some(_) => {}
        }
        Ok(row)
    }

    /// The repository has the content from now on (M1); stores the content's row.
    pub(super) fn hold(
        &mut self,
        mut row: ContentRow,
        digest: &Digest,
        id: u64,
        usage: Use,
    ) -> Result<()> {
        let key = Key::digest(digest).and_number(id);
        let mut uses: Uses = rows::get(&self.blob_repositories, &key)?.unwrap_or_default();
        if uses == Uses::default() {
            if row.record.repositories == 0 {
                let queued = row.eligible_uptime_seconds;
                let garbage = garbage_key(queued, 0, digest, Garbage::Content);
                rows::remove(&mut self.gc_queue, &garbage)?;
            }
            row.record.repositories = row.record.repositories.saturating_add(1);
        }
        if !std::mem::replace(usage.of(&mut uses), true) {
            row.manifests = row.manifests.saturating_add(u64::from(usage == Use::Manifest));
            rows::put(&mut self.blob_repositories, &key, &uses)?;
        }
        rows::put(&mut self.blobs, &Key::digest(digest), &row)
    }

    /// The repository has the content no longer, as this.
    pub(super) fn release(
        &mut self,
        digest: &Digest,
        id: u64,
        usage: Use,
        moment: Moment,
    ) -> Result<()> {
        let content_key = Key::digest(digest);
        let key = Key::digest(digest).and_number(id);
        let mut row: ContentRow = rows::must_get(&self.blobs, &content_key)?;
        let mut uses: Uses = rows::must_get(&self.blob_repositories, &key)?;
        *usage.of(&mut uses) = false;
        if usage == Use::Manifest {
            lower(&mut row.manifests, 1)?;
            self.drop_inline_copy(&mut row, digest)?;
        }
        if uses == Uses::default() {
            rows::remove(&mut self.blob_repositories, &key)?;
            lower(&mut row.record.repositories, 1)?;
        } else {
            rows::put(&mut self.blob_repositories, &key, &uses)?;
        }
        if row.record.repositories == 0 {
            row.eligible_uptime_seconds = moment.eligible_uptime_seconds;
            let queued = row.eligible_uptime_seconds;
            let garbage = garbage_key(queued, 0, digest, Garbage::Content);
            rows::put(&mut self.gc_queue, &garbage, &Mark)?;
        }
        rows::put(&mut self.blobs, &content_key, &row)
    }

    /// Only manifests keep an inline copy beside their file.
    pub(super) fn drop_inline_copy(&mut self, row: &mut ContentRow, digest: &Digest) -> Result<()> {
        if row.manifests == 0 && row.record.place == Place::Both {
            rows::remove(&mut self.small_contents, &Key::digest(digest))?;
            row.record.place = Place::File;
        }
        Ok(())
    }

    /// Makes the blob readable in the repository, or starts its grace anew; whether it was not
    /// readable before.
    pub(super) fn link(&mut self, id: u64, digest: &Digest, moment: Moment) -> Result<bool> {
        let key = link_key(id, digest);
        let found: Option<LinkRow> = rows::get(&self.repo_blobs, &key)?;
        let linked_at = found.map_or(moment.time, |row| row.linked_at);
        let eligible_uptime_seconds = moment.eligible_uptime_seconds;
        let row = LinkRow { linked_at, eligible_uptime_seconds };
        if let Some(found) = found {
            let queued = found.eligible_uptime_seconds;
            rows::remove(&mut self.gc_queue, &garbage_key(queued, id, digest, Garbage::Link))?;
        }
        rows::put(&mut self.repo_blobs, &key, &row)?;
        if !self.is_referenced(id, digest)? {
            let queued = row.eligible_uptime_seconds;
            let garbage = garbage_key(queued, id, digest, Garbage::Link);
            rows::put(&mut self.gc_queue, &garbage, &Mark)?;
        }
        Ok(found.is_none())
    }

    /// Takes the link and its place in the queue away.
    pub(super) fn unlink(&mut self, id: u64, digest: &Digest) -> Result<()> {
        let key = link_key(id, digest);
        let row: LinkRow = rows::must_get(&self.repo_blobs, &key)?;
        let queued = row.eligible_uptime_seconds;
        rows::remove(&mut self.gc_queue, &garbage_key(queued, id, digest, Garbage::Link))?;
        rows::remove(&mut self.repo_blobs, &key)?;
        Ok(())
    }

    /// A manifest refers to the digest: a link to it is no garbage.
    pub(super) fn use_child(&mut self, id: u64, digest: &Digest) -> Result<()> {
        let key = link_key(id, digest);
        let found: Option<LinkRow> = rows::get(&self.repo_blobs, &key)?;
        if let Some(row) = found {
            let queued = row.eligible_uptime_seconds;
            rows::remove(&mut self.gc_queue, &garbage_key(queued, id, digest, Garbage::Link))?;
        }
        Ok(())
    }

    /// The last reference to a digest may have gone: a link that nothing uses is queued.
    pub(super) fn disuse_link(&mut self, id: u64, digest: &Digest, moment: Moment) -> Result<()> {
        let key = link_key(id, digest);
        let found: Option<LinkRow> = rows::get(&self.repo_blobs, &key)?;
        let Some(mut row) = found else {
            return Ok(());
        };
        if self.is_referenced(id, digest)? {
            return Ok(());
        }
        row.eligible_uptime_seconds = moment.eligible_uptime_seconds;
        let queued = row.eligible_uptime_seconds;
        rows::put(&mut self.repo_blobs, &key, &row)?;
        rows::put(&mut self.gc_queue, &garbage_key(queued, id, digest, Garbage::Link), &Mark)
    }

    /// Puts a content that is there into a state.
    #[cfg(any(test, feature = "conformance"))]
    pub fn set_state(&mut self, digest: &Digest, state: BlobState) -> Result<()> {
        if let Some(mut row) = rows::content(&self.blobs, digest)? {
            row.record.state = state;
            rows::put(&mut self.blobs, &Key::digest(digest), &row)?;
        }
        Ok(())
    }

    /// Queues a manifest whose subject is gone, or takes it out (`None`).
    pub(super) fn queue_referrer(
        &mut self,
        id: u64,
        digest: &Digest,
        eligible: Option<u64>,
    ) -> Result<()> {
        let Some(mut row) = rows::manifest(&self.manifests, id, digest)? else {
            return Err(Error::Corrupt(format!("the referrer {digest} has no manifest")));
        };
        if row.eligible_uptime_seconds == eligible {
            return Ok(());
        }
        if let Some(queued) = row.eligible_uptime_seconds {
            let garbage = garbage_key(queued, id, digest, Garbage::Referrer);
            rows::remove(&mut self.gc_queue, &garbage)?;
        }
        if let Some(queued) = eligible {
            let garbage = garbage_key(queued, id, digest, Garbage::Referrer);
            rows::put(&mut self.gc_queue, &garbage, &Mark)?;
        }
        row.eligible_uptime_seconds = eligible;
        rows::put(&mut self.manifests, &link_key(id, digest), &row)
    }
}
