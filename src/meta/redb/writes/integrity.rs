//! What is known of damage.

use super::super::super::{BlobState, Place, Result, ScrubRecord, Verdict};
use super::super::codec::{ContentRow, Key, Mark, Row, SmallContent};
use super::super::integrity::SCRUB;
use super::super::rebuild::rebuild;
use super::super::rows;
use super::super::tables::Tables;
use super::{Decision, Operation};
use crate::oci::Digest;

/// [`super::super::super::MetaStore::judge`]
pub struct Judge {
    pub digest: Digest,
    pub file_is_right: bool,
}

impl Operation for Judge {
    type Plan = (ContentRow, Verdict);
    type Answer = Verdict;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, Verdict>> {
        let found = rows::content(&tables.blobs, &self.digest)?;
        let Some(row) = found.filter(|row| row.record.state != BlobState::Unlinking) else {
            return Ok(Decision::Answer(Verdict::Gone));
        };
        let copy_is_right = tables.inline_copy_is_right(&row, &self.digest)?;
        let (place, right) = (row.record.place, self.file_is_right);
        let verdict = match (row.record.state == BlobState::Live, copy_is_right) {
            // Without a copy there is no need to look at where it should be.
            (true, Some(true)) if place == Place::Inline || right => Verdict::Sound,
            (true, None) if right => Verdict::Sound,
            (true, Some(true)) => Verdict::Rewrite,
            _ if right => Verdict::Kept,
            (false, _) => return Ok(Decision::Answer(Verdict::Quarantined)),
            (true, _) => Verdict::Quarantined,
        };
        Ok(match verdict {
            Verdict::Sound => Decision::Answer(verdict),
            _ => Decision::Apply((row, verdict)),
        })
    }

    fn apply(&self, (mut row, verdict): Self::Plan, tables: &mut Tables<'_>) -> Result<Verdict> {
        let key = Key::digest(&self.digest);
        if verdict == Verdict::Rewrite {
            row.record.place = Place::Inline;
            rows::put(&mut tables.spill_queue, &key, &Mark)?;
        } else {
            row.record.place = Place::File;
            row.record.state = match verdict {
                Verdict::Quarantined => BlobState::Quarantined,
                _ => BlobState::Live,
            };
            rows::remove(&mut tables.small_contents, &key)?;
            rows::remove(&mut tables.spill_queue, &key)?;
        }
        rows::put(&mut tables.blobs, &key, &row)?;
        Ok(verdict)
    }
}

impl Tables<'_> {
    /// Whether the inline copy has the content's digest; `None` when the row names none.
    fn inline_copy_is_right(&self, row: &ContentRow, digest: &Digest) -> Result<Option<bool>> {
        if row.record.place == Place::File {
            return Ok(None);
        }
        let copy: Option<SmallContent> = rows::get(&self.small_contents, &Key::digest(digest))?;
        let right = copy.is_some_and(|copy| Digest::of(digest.algorithm(), &copy.0) == *digest);
        Ok(Some(right))
    }
}

/// [`super::super::super::MetaStore::save_scrub`]
pub struct SaveScrub(pub ScrubRecord);

impl Operation for SaveScrub {
    type Plan = ();
    type Answer = ();

    fn check(&self, _: &Tables<'_>) -> Result<Decision<(), ()>> {
        Ok(Decision::Apply(()))
    }

    fn apply(&self, (): (), tables: &mut Tables<'_>) -> Result<()> {
        tables.schema.insert(SCRUB, self.0.encode().as_slice())?;
        Ok(())
    }
}

/// [`super::super::super::MetaStore::rebuild_facts`]
pub struct Rebuild {
    pub eligible_uptime_seconds: u64,
}

impl Operation for Rebuild {
    type Plan = ();
    type Answer = u64;

    fn check(&self, _: &Tables<'_>) -> Result<Decision<(), u64>> {
        Ok(Decision::Apply(()))
    }

    fn apply(&self, (): (), tables: &mut Tables<'_>) -> Result<u64> {
        rebuild(tables, self.eligible_uptime_seconds)
    }
}
