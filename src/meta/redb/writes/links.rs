//! Links: which repository may read which blob.

use super::super::super::{Garbage, Moment, Result, Use};
use super::super::codec::{ContentRow, Key, LinkRow};
use super::super::rows;
use super::super::tables::Tables;
use super::queues::Place;
use super::repositories::{Repository, lower};
use crate::oci::Digest;

fn link_key(id: u64, digest: &Digest) -> Key {
    Key::number(id).and_digest(digest)
}

impl Tables<'_> {
    /// The content of a blob that the repository may read. One that is not live is not there.
    pub(super) fn readable(&self, id: u64, digest: &Digest) -> Result<Option<ContentRow>> {
        if !rows::has(&self.repo_blobs, &link_key(id, digest))? {
            return Ok(None);
        }
        self.live(digest)
    }

    /// The link's row.
    pub(super) fn link_row(&self, id: u64, digest: &Digest) -> Result<Option<LinkRow>> {
        rows::get(&self.repo_blobs, &link_key(id, digest))
    }

    /// Whether a manifest of the repository refers to the digest.
    pub(super) fn is_referenced(&self, id: u64, digest: &Digest) -> Result<bool> {
        rows::any(&self.edges, &link_key(id, digest))
    }

    /// Makes the blob readable in the repository, or starts its grace anew; whether it was not
    /// readable before.
    pub(super) fn link(
        &mut self,
        id: u64,
        digest: &Digest,
        size_bytes: u64,
        moment: Moment,
    ) -> Result<bool> {
        let found = self.link_row(id, digest)?;
        let linked_at = found.map_or(moment.time, |row| row.linked_at);
        let eligible_uptime_seconds = moment.eligible_uptime_seconds;
        let row = LinkRow { linked_at, eligible_uptime_seconds, condemned: false };
        if let Some(found) = found {
            self.dequeue_link(id, digest, &found)?;
        }
        if self.is_referenced(id, digest)? {
            rows::put(&mut self.repo_blobs, &link_key(id, digest), &row)?;
        } else {
            self.enqueue_link(id, digest, size_bytes, row)?;
        }
        Ok(found.is_none())
    }

    /// Stores the link's row and puts it into the queue, at the place that it says.
    pub(super) fn enqueue_link(
        &mut self,
        id: u64,
        digest: &Digest,
        size_bytes: u64,
        row: LinkRow,
    ) -> Result<()> {
        rows::put(&mut self.repo_blobs, &link_key(id, digest), &row)?;
        let at = row.eligible_uptime_seconds;
        self.enqueue(Place { at, id, digest, garbage: Garbage::Link }, size_bytes)
    }

    /// A manifest refers to the digest: a link to it is no garbage.
    pub(super) fn use_link(&mut self, id: u64, digest: &Digest) -> Result<()> {
        let Some(row) = self.link_row(id, digest)? else {
            return Ok(());
        };
        self.dequeue_link(id, digest, &row)?;
        if row.condemned {
            let row = LinkRow { condemned: false, ..row };
            rows::put(&mut self.repo_blobs, &link_key(id, digest), &row)?;
        }
        Ok(())
    }

    /// The last reference to a digest may have gone: a link that nothing uses is queued.
    pub(super) fn disuse_link(&mut self, id: u64, digest: &Digest, moment: Moment) -> Result<()> {
        let Some(row) = self.link_row(id, digest)? else {
            return Ok(());
        };
        if self.is_referenced(id, digest)? {
            return Ok(());
        }
        let content: ContentRow = rows::must_get(&self.blobs, &Key::digest(digest))?;
        let row = LinkRow { eligible_uptime_seconds: moment.eligible_uptime_seconds, ..row };
        self.enqueue_link(id, digest, content.record.size_bytes, row)
    }

    /// The repository may read the blob no longer; a content that nobody has then may go from
    /// `eligible`.
    pub(super) fn remove_link(
        &mut self,
        mut repository: Repository,
        digest: &Digest,
        eligible: u64,
    ) -> Result<ContentRow> {
        let key = link_key(repository.id, digest);
        let row: LinkRow = rows::must_get(&self.repo_blobs, &key)?;
        self.dequeue_link(repository.id, digest, &row)?;
        rows::remove(&mut self.repo_blobs, &key)?;
        let content = self.release(digest, repository.id, Use::Blob, eligible)?;
        lower(&mut repository.row.blobs, 1)?;
        lower(&mut repository.row.size_bytes, content.record.size_bytes)?;
        self.save_repository(&repository)?;
        Ok(content)
    }
}
