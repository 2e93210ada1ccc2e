//! Contents, who has them, and links to them.

use super::super::super::{BlobRecord, BlobState, Error, Garbage, Place, Result, Use};
use super::super::codec::{ContentRow, Key, Mark, SmallContent, Uses};
use super::super::rows;
use super::super::tables::Tables;
use super::queues;
use super::repositories::lower;
use crate::oci::Digest;

impl Use {
    fn of(self, uses: &mut Uses) -> &mut bool {
        match self {
            Self::Blob => &mut uses.blob,
            Self::Manifest => &mut uses.manifest,
        }
    }
}

/// Where a content that no repository has stands.
fn place<'a>(digest: &'a Digest, row: &ContentRow) -> queues::Place<'a> {
    let at = row.eligible_uptime_seconds;
    queues::Place { at, id: 0, digest, garbage: Garbage::Content }
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

    /// The content that a link or a manifest says is there, unless it is not live.
    pub(super) fn live(&self, digest: &Digest) -> Result<Option<ContentRow>> {
        let row: ContentRow = rows::must_get(&self.blobs, &Key::digest(digest))?;
        Ok((row.record.state == BlobState::Live).then_some(row))
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
                self.dequeue(place(digest, &row))?;
            }
            row.record.repositories = row.record.repositories.saturating_add(1);
        }
        if !std::mem::replace(usage.of(&mut uses), true) {
            row.manifests = row.manifests.saturating_add(u64::from(usage == Use::Manifest));
            rows::put(&mut self.blob_repositories, &key, &uses)?;
        }
        rows::put(&mut self.blobs, &Key::digest(digest), &row)
    }

    /// The repository has the content no longer, as this. What no repository has may go from
    /// `eligible`.
    pub(super) fn release(
        &mut self,
        digest: &Digest,
        id: u64,
        usage: Use,
        eligible: u64,
    ) -> Result<ContentRow> {
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
            row.eligible_uptime_seconds = eligible;
            self.enqueue(place(digest, &row), row.record.size_bytes)?;
        }
        rows::put(&mut self.blobs, &content_key, &row)?;
        Ok(row)
    }

    /// Only manifests keep an inline copy beside their file.
    pub(super) fn drop_inline_copy(&mut self, row: &mut ContentRow, digest: &Digest) -> Result<()> {
        if row.manifests == 0 && row.record.place == Place::Both {
            rows::remove(&mut self.small_contents, &Key::digest(digest))?;
            row.record.place = Place::File;
        }
        Ok(())
    }

    /// Stores a content's state. One that is being unlinked gets no file any more (M5).
    pub(super) fn set_state(
        &mut self,
        digest: &Digest,
        mut row: ContentRow,
        state: BlobState,
    ) -> Result<()> {
        let key = Key::digest(digest);
        let (was, is) = (row.record.state, state);
        if row.record.place == Place::Inline && is == BlobState::Unlinking {
            rows::remove(&mut self.spill_queue, &key)?;
        } else if row.record.place == Place::Inline && was == BlobState::Unlinking {
            rows::put(&mut self.spill_queue, &key, &Mark)?;
        }
        row.record.state = state;
        rows::put(&mut self.blobs, &key, &row)
    }

    /// Puts a content that is there into a state.
    #[cfg(any(test, feature = "conformance"))]
    pub fn force_state(&mut self, digest: &Digest, state: BlobState) -> Result<()> {
        match rows::content(&self.blobs, digest)? {
            Some(row) => self.set_state(digest, row, state),
            None => Ok(()),
        }
    }
}
