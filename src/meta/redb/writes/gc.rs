//! The collector's decisions. Each looks again at what it decides about, here in the writer, so
//! that no use can slip in between.

use super::super::super::{Amount, BlobState, Candidate, Collected, Garbage, Moment, Result, Use};
use super::super::codec::{ContentRow, Key, LinkRow, ManifestRow};
use super::super::rows;
use super::super::tables::Tables;
use super::queues::Place;
use super::{Decision, Operation};
use crate::oci::{Digest, RepositoryName};

impl Candidate {
    fn place(&self) -> Place<'_> {
        Place {
            at: self.eligible_uptime_seconds,
            id: self.repository_id,
            digest: &self.digest,
            garbage: self.garbage,
        }
    }
}

/// [`super::super::super::MetaStore::condemn`]
pub struct Condemn(pub Vec<Candidate>);

impl Operation for Condemn {
    type Plan = Vec<Candidate>;
    type Answer = Vec<Candidate>;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, Self::Answer>> {
        let mut standing = Vec::new();
        let mut changes = false;
        for candidate in &self.0 {
            if tables.is_queued(candidate.place())? {
                changes |= !tables.is_condemned(candidate)?;
                standing.push(candidate.clone());
            }
        }
        Ok(if changes { Decision::Apply(standing) } else { Decision::Answer(standing) })
    }

    fn apply(&self, standing: Self::Plan, tables: &mut Tables<'_>) -> Result<Self::Answer> {
        for candidate in &standing {
            tables.condemn(candidate)?;
        }
        Ok(standing)
    }
}

/// [`super::super::super::MetaStore::spare`]
pub struct Spare {
    pub batch: Vec<Candidate>,
    pub eligible_uptime_seconds: u64,
}

impl Operation for Spare {
    type Plan = Vec<Candidate>;
    type Answer = ();

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, ()>> {
        let condemned = tables.condemned(&self.batch)?;
        Ok(if condemned.is_empty() { Decision::Answer(()) } else { Decision::Apply(condemned) })
    }

    fn apply(&self, condemned: Self::Plan, tables: &mut Tables<'_>) -> Result<()> {
        for Candidate { repository_id: id, digest, garbage, .. } in &condemned {
            match garbage {
                Garbage::Link => tables.delay_link(*id, digest, self.eligible_uptime_seconds)?,
                Garbage::Referrer | Garbage::Untagged => {
                    tables.delay_manifest(*id, digest, self.eligible_uptime_seconds)?;
                }
                Garbage::Content => {}
            }
        }
        Ok(())
    }
}

/// [`super::super::super::MetaStore::collect`]
pub struct Collect {
    pub batch: Vec<Candidate>,
    pub moment: Moment,
}

impl Operation for Collect {
    type Plan = Vec<Candidate>;
    type Answer = Collected;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, Collected>> {
        let condemned = tables.condemned(&self.batch)?;
        Ok(if condemned.is_empty() {
            Decision::Answer(Collected::default())
        } else {
            Decision::Apply(condemned)
        })
    }

    fn apply(&self, condemned: Self::Plan, tables: &mut Tables<'_>) -> Result<Collected> {
        let mut collected = Collected::default();
        for candidate in &condemned {
            // One of the batch may have changed what another stands on.
            if tables.is_condemned(candidate)? {
                tables.collect(candidate, self.moment, &mut collected)?;
            }
        }
        Ok(collected)
    }
}

/// [`super::super::super::MetaStore::forget_contents`]
pub struct ForgetContents(pub Vec<Digest>);

impl Operation for ForgetContents {
    type Plan = Vec<(Digest, ContentRow)>;
    type Answer = Amount;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, Amount>> {
        let mut gone = Vec::new();
        for digest in &self.0 {
            let row = rows::content(&tables.blobs, digest)?;
            let unlinked = row.filter(|row| {
                row.record.state == BlobState::Unlinking && row.record.repositories == 0
            });
            gone.extend(unlinked.map(|row| (*digest, row)));
        }
        Ok(if gone.is_empty() {
            Decision::Answer(Amount::default())
        } else {
            Decision::Apply(gone)
        })
    }

    fn apply(&self, gone: Self::Plan, tables: &mut Tables<'_>) -> Result<Amount> {
        let mut amount = Amount::default();
        for (digest, row) in &gone {
            let key = Key::digest(digest);
            let at = row.eligible_uptime_seconds;
            tables.dequeue(Place { at, id: 0, digest, garbage: Garbage::Content })?;
            rows::remove(&mut tables.small_contents, &key)?;
            // A digest may be named twice.
            if rows::remove(&mut tables.blobs, &key)? {
                amount.add(row.record.size_bytes);
            }
        }
        Ok(amount)
    }
}

/// [`super::super::super::MetaStore::revive`]
pub struct Revive {
    pub repository: RepositoryName,
    pub digest: Digest,
    pub usage: Use,
    pub moment: Moment,
}

impl Operation for Revive {
    type Plan = u64;
    type Answer = bool;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<u64, bool>> {
        let Some(id) = rows::id_of(&tables.repository_ids, &self.repository)? else {
            return Ok(Decision::Answer(false));
        };
        let condemned = match self.usage {
            Use::Blob => tables.link_row(id, &self.digest)?.map(|row| row.condemned),
            Use::Manifest => {
                rows::manifest(&tables.manifests, id, &self.digest)?.map(|row| row.condemned)
            }
        };
        Ok(match condemned {
            None => Decision::Answer(false),
            Some(false) => Decision::Answer(tables.live(&self.digest)?.is_some()),
            Some(true) => Decision::Apply(id),
        })
    }

    fn apply(&self, id: u64, tables: &mut Tables<'_>) -> Result<bool> {
        let eligible = self.moment.eligible_uptime_seconds;
        match self.usage {
            Use::Blob => tables.delay_link(id, &self.digest, eligible)?,
            Use::Manifest => tables.delay_manifest(id, &self.digest, eligible)?,
        }
        Ok(tables.live(&self.digest)?.is_some())
    }
}

impl Tables<'_> {
    /// Those of the batch that stand at their place and are condemned.
    fn condemned(&self, batch: &[Candidate]) -> Result<Vec<Candidate>> {
        let mut condemned = Vec::new();
        for candidate in batch {
            if self.is_condemned(candidate)? {
                condemned.push(candidate.clone());
            }
        }
        Ok(condemned)
    }

    /// Whether it stands at its place and is condemned. A content that nobody has can be seen by
    /// nobody, so its place is enough.
    fn is_condemned(&self, candidate: &Candidate) -> Result<bool> {
        let Candidate { repository_id: id, digest, .. } = candidate;
        if !self.is_queued(candidate.place())? {
            return Ok(false);
        }
        Ok(match candidate.garbage {
            Garbage::Link => self.link_row(*id, digest)?.is_some_and(|row| row.condemned),
            Garbage::Referrer | Garbage::Untagged => {
                rows::manifest(&self.manifests, *id, digest)?.is_some_and(|row| row.condemned)
            }
            Garbage::Content => true,
        })
    }

    fn condemn(&mut self, candidate: &Candidate) -> Result<()> {
        let key = Key::number(candidate.repository_id).and_digest(&candidate.digest);
        match candidate.garbage {
            Garbage::Link => {
                let row: LinkRow = rows::must_get(&self.repo_blobs, &key)?;
                rows::put(&mut self.repo_blobs, &key, &LinkRow { condemned: true, ..row })
            }
            Garbage::Referrer | Garbage::Untagged => {
                let row: ManifestRow = rows::must_get(&self.manifests, &key)?;
                rows::put(&mut self.manifests, &key, &ManifestRow { condemned: true, ..row })
            }
            Garbage::Content => Ok(()),
        }
    }

    /// A condemned link waits again.
    fn delay_link(&mut self, id: u64, digest: &Digest, eligible: u64) -> Result<()> {
        let key = Key::number(id).and_digest(digest);
        let row: LinkRow = rows::must_get(&self.repo_blobs, &key)?;
        let content: ContentRow = rows::must_get(&self.blobs, &Key::digest(digest))?;
        self.dequeue_link(id, digest, &row)?;
        let row = LinkRow { eligible_uptime_seconds: eligible, condemned: false, ..row };
        self.enqueue_link(id, digest, content.record.size_bytes, row)
    }

    /// A condemned manifest waits again.
    fn delay_manifest(&mut self, id: u64, digest: &Digest, eligible: u64) -> Result<()> {
        let key = Key::number(id).and_digest(digest);
        let mut row: ManifestRow = rows::must_get(&self.manifests, &key)?;
        self.dequeue_manifest(id, digest, &mut row)?;
        row.eligible_uptime_seconds = Some(eligible);
        self.enqueue_manifest(id, digest, &row)
    }

    fn collect(
        &mut self,
        candidate: &Candidate,
        moment: Moment,
        collected: &mut Collected,
    ) -> Result<()> {
        let Candidate { repository_id: id, digest, .. } = candidate;
        // Nobody can have seen the content but through what goes now, and that had its grace.
        let eligible = candidate.eligible_uptime_seconds;
        let content = match candidate.garbage {
            Garbage::Content => rows::must_get(&self.blobs, &Key::digest(digest))?,
            Garbage::Link => {
                collected.links += 1;
                let repository = self.repository_of(*id)?;
                self.remove_link(repository, digest, eligible)?
            }
            Garbage::Referrer | Garbage::Untagged => {
                collected.manifests += 1;
                let doomed = self.doomed(self.repository_of(*id)?, digest)?;
                self.remove_manifest(doomed, digest, moment, eligible)?
            }
        };
        if content.record.repositories == 0 {
            self.set_state(digest, content, BlobState::Unlinking)?;
            collected.contents.push(*digest);
        }
        Ok(())
    }
}
