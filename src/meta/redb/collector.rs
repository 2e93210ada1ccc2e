//! What the collector reads: its queues, and whether a link is needed.

use super::super::{Candidate, Garbage, GcQueue, Result, Standing, Waiting};
use super::codec::{Key, LinkRow, Queued, Reader, Row};
use super::rows;
use super::tables::{Snapshot, View};
use crate::oci::Digest;

/// A place in a queue: eligible uptime in seconds, repository id, digest, kind.
type Place = (u64, u64, Digest, Garbage);

fn place(queue: GcQueue, key: &[u8]) -> Result<Place> {
    match queue {
        GcQueue::Garbage => Reader::garbage_key(key),
        GcQueue::Untagged => {
            let (at, id, digest) = Reader::untagged_key(key)?;
            Ok((at, id, digest, Garbage::Untagged))
        }
    }
}

impl Snapshot {
    /// Whether a manifest of the repository needs the link.
    pub(super) fn link_standing(
        &self,
        id: u64,
        digest: &Digest,
        row: &LinkRow,
    ) -> Result<Standing> {
        if row.condemned {
            return Ok(Standing::Condemned);
        }
        if rows::any(&self.edges()?, &Key::number(id).and_digest(digest))? {
            return Ok(Standing::Held);
        }
        Ok(Standing::Waiting { eligible_uptime_seconds: row.eligible_uptime_seconds })
    }

    fn queue(&self, queue: GcQueue) -> Result<View> {
        match queue {
            GcQueue::Garbage => self.gc_queue(),
            GcQueue::Untagged => self.untagged_manifests(),
        }
    }

    /// [`super::super::MetaStore::garbage`]
    pub fn candidates(
        &self,
        queue: GcQueue,
        before_uptime_seconds: u64,
        after: Option<&Candidate>,
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        let repositories = self.repositories()?;
        let after = after.map(|c| {
            rows::queue_key(c.eligible_uptime_seconds, c.repository_id, &c.digest, c.garbage)
        });
        let mut found = Vec::new();
        self.each_place(queue, after.as_ref(), |(at, id, digest, garbage), size_bytes| {
            if at >= before_uptime_seconds || found.len() >= limit {
                return Ok(false);
            }
            let repository = match garbage {
                Garbage::Content => None,
                _ => Some(rows::repository(&repositories, id)?.name),
            };
            found.push(Candidate {
                eligible_uptime_seconds: at,
                repository_id: id,
                repository,
                digest,
                garbage,
                size_bytes,
            });
            Ok(true)
        })?;
        Ok(found)
    }

    /// [`super::super::MetaStore::waiting`]. Reads keys and lengths only, 100,000 in a few
    /// milliseconds.
    pub fn waiting(&self, [garbage, untagged]: [u64; 2]) -> Result<Waiting> {
        let mut waiting = Waiting::default();
        for (queue, before) in [(GcQueue::Garbage, garbage), (GcQueue::Untagged, untagged)] {
            self.each_place(queue, None, |(at, _, _, garbage), size_bytes| {
                let Waiting { eligible, waiting, last_eligible_uptime_seconds } = &mut waiting;
                let amounts = if at < before { eligible } else { waiting };
                amounts.of(garbage).add(size_bytes);
                if queue == GcQueue::Garbage {
                    *last_eligible_uptime_seconds = Some(at);
                }
                Ok(true)
            })?;
        }
        Ok(waiting)
    }

    /// Calls `each` with the places of a queue after `after`, in order, until it returns `false`.
    fn each_place(
        &self,
        queue: GcQueue,
        after: Option<&Key>,
        mut each: impl FnMut(Place, u64) -> Result<bool>,
    ) -> Result<()> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, |after| Excluded(after.as_slice()));
        for row in self.queue(queue)?.range::<&[u8]>((start, Unbounded))? {
            let (key, value) = row?;
            let size_bytes = Queued::decode(value.value())?.size_bytes;
            if !each(place(queue, key.value())?, size_bytes)? {
                break;
            }
        }
        Ok(())
    }

    /// The whole `gc_queue`.
    #[cfg(any(test, feature = "conformance"))]
    pub fn places(&self) -> Result<Vec<Place>> {
        let mut found = Vec::new();
        self.each_place(GcQueue::Garbage, None, |place, _| {
            found.push(place);
            Ok(true)
        })?;
        Ok(found)
    }
}
