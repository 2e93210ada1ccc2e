//! The collector's queues: what nothing holds, each once (M7, M8).
//!
//! The row that something is about says where in a queue it stands, so that a use takes it out at
//! once: the queues, and with them the leases that a collector must look at, are as long as the
//! garbage.

use super::super::super::{Garbage, Moment, Result};
use super::super::codec::{Key, LinkRow, ManifestRow, Queued};
use super::super::rows;
use super::super::tables::{Bytes, Tables};
use crate::oci::Digest;

/// A place in a queue.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Accumulated uptime from which it may go.
    pub at: u64,
    /// The repository; 0 for a content.
    pub id: u64,
    pub digest: &'a Digest,
    pub garbage: Garbage,
}

impl Place<'_> {
    fn key(&self) -> Key {
        rows::queue_key(self.at, self.id, self.digest, self.garbage)
    }
}

impl<'t> Tables<'t> {
    fn queue(&mut self, garbage: Garbage) -> &mut redb::Table<'t, Bytes, Bytes> {
        match garbage {
            Garbage::Untagged => &mut self.untagged_manifests,
            _ => &mut self.gc_queue,
        }
    }

    pub(super) fn enqueue(&mut self, place: Place<'_>, size_bytes: u64) -> Result<()> {
        rows::put(self.queue(place.garbage), &place.key(), &Queued { size_bytes })
    }

    /// Takes it out; it may not be there.
    pub(super) fn dequeue(&mut self, place: Place<'_>) -> Result<()> {
        rows::remove(self.queue(place.garbage), &place.key()).map(|_| ())
    }

    pub(super) fn is_queued(&self, place: Place<'_>) -> Result<bool> {
        match place.garbage {
            Garbage::Untagged => rows::has(&self.untagged_manifests, &place.key()),
            _ => rows::has(&self.gc_queue, &place.key()),
        }
    }

    /// Takes the link out of the queue, where it is if no manifest refers to it.
    pub(super) fn dequeue_link(&mut self, id: u64, digest: &Digest, row: &LinkRow) -> Result<()> {
        let at = row.eligible_uptime_seconds;
        self.dequeue(Place { at, id, digest, garbage: Garbage::Link })
    }

    /// Takes the manifest out of its queue, if it is in one, and says so in `row`.
    pub(super) fn dequeue_manifest(
        &mut self,
        id: u64,
        digest: &Digest,
        row: &mut ManifestRow,
    ) -> Result<()> {
        if let (Some(at), Some(garbage)) = (row.eligible_uptime_seconds, row.queue()) {
            self.dequeue(Place { at, id, digest, garbage })?;
        }
        row.eligible_uptime_seconds = None;
        row.condemned = false;
        Ok(())
    }

    /// Puts a manifest where it stands now that its tags, the indexes that refer to it, or its
    /// subject may have changed. One that stays in its queue keeps its place.
    pub(super) fn reassess(&mut self, id: u64, digest: &Digest, moment: Moment) -> Result<()> {
        let Some(row) = rows::manifest(&self.manifests, id, digest)? else {
            return Ok(());
        };
        let orphaned = row.orphaned;
        self.stand((id, digest), row, orphaned, moment)
    }

    /// [`Self::reassess`] of a manifest whose subject was deleted or has come.
    pub(super) fn set_orphaned(
        &mut self,
        id: u64,
        digest: &Digest,
        orphaned: bool,
        moment: Moment,
    ) -> Result<()> {
        let row: ManifestRow =
            rows::must_get(&self.manifests, &Key::number(id).and_digest(digest))?;
        self.stand((id, digest), row, orphaned, moment)
    }

    fn stand(
        &mut self,
        of @ (id, digest): (u64, &Digest),
        mut row: ManifestRow,
        orphaned: bool,
        moment: Moment,
    ) -> Result<()> {
        let (tags, edges) = (&self.tags_by_manifest, &self.edges);
        let held = rows::is_manifest_held(tags, edges, &self.manifests, of, row.subject)?;
        if row.orphaned == orphaned && row.eligible_uptime_seconds.is_none() == held {
            return Ok(());
        }
        self.dequeue_manifest(id, digest, &mut row)?;
        row.orphaned = orphaned;
        if !held {
            row.eligible_uptime_seconds = Some(moment.eligible_uptime_seconds);
        }
        self.enqueue_manifest(id, digest, &row)
    }

    /// Stores the manifest's row, and puts it into the queue that the row says.
    pub(super) fn enqueue_manifest(
        &mut self,
        id: u64,
        digest: &Digest,
        row: &ManifestRow,
    ) -> Result<()> {
        if let (Some(at), Some(garbage)) = (row.eligible_uptime_seconds, row.queue()) {
            self.enqueue(Place { at, id, digest, garbage }, row.size_bytes)?;
        }
        rows::put(&mut self.manifests, &Key::number(id).and_digest(digest), row)
    }
}
