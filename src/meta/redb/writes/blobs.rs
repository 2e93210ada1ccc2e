//! Blobs arrive in repositories and leave them.

use super::super::super::{LinkBlob, Moment, MountBlob, Result, UnlinkBlob, Use};
use super::super::codec::ContentRow;
use super::super::rows;
use super::super::tables::Tables;
use super::repositories::Repository;
use super::{Decision, Operation};
use crate::oci::{Digest, RepositoryName};

/// [`super::super::super::MetaStore::link_blob`]
pub struct Link(pub LinkBlob);

impl Operation for Link {
    type Plan = ();
    type Answer = ();

    fn content_size_bytes(&self) -> usize {
        self.0.content.as_ref().map_or(0, bytes::Bytes::len)
    }

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<(), ()>> {
        tables.check_size(&self.0.digest, self.0.size_bytes)?;
        Ok(Decision::Apply(()))
    }

    fn apply(&self, (): (), tables: &mut Tables<'_>) -> Result<()> {
        let LinkBlob { repository, digest, size_bytes, content, upload, moment } = &self.0;
        let row = tables.arrive(digest, *size_bytes, content.as_deref(), Use::Blob)?;
        tables.give(repository, digest, row, *moment)?;
        match upload {
            Some(id) => tables.forget_upload(*id).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Tables<'_> {
    /// Links a content that is there.
    fn give(
        &mut self,
        name: &RepositoryName,
        digest: &Digest,
        row: ContentRow,
        moment: Moment,
    ) -> Result<()> {
        let mut repository = self.repository_or_new(name)?;
        let size_bytes = row.record.size_bytes;
        self.hold(row, digest, repository.id, Use::Blob)?;
        if self.link(repository.id, digest, size_bytes, moment)? {
            repository.row.blobs = repository.row.blobs.saturating_add(1);
            repository.row.size_bytes = repository.row.size_bytes.saturating_add(size_bytes);
            self.save_repository(&repository)?;
        }
        Ok(())
    }
}

/// [`super::super::super::MetaStore::mount_blob`]
pub struct Mount(pub MountBlob);

impl Operation for Mount {
    type Plan = ContentRow;
    type Answer = bool;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<ContentRow, bool>> {
        let Some(from) = rows::id_of(&tables.repository_ids, &self.0.from)? else {
            return Ok(Decision::Answer(false));
        };
        Ok(match tables.readable(from, &self.0.digest)? {
            Some(row) => Decision::Apply(row),
            None => Decision::Answer(false),
        })
    }

    fn apply(&self, row: ContentRow, tables: &mut Tables<'_>) -> Result<bool> {
        tables.give(&self.0.to, &self.0.digest, row, self.0.moment)?;
        Ok(true)
    }
}

/// [`super::super::super::MetaStore::unlink_blob`]
pub struct Unlink {
    pub repository: RepositoryName,
    pub digest: Digest,
    pub moment: Moment,
}

impl Operation for Unlink {
    type Plan = Repository;
    type Answer = UnlinkBlob;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, UnlinkBlob>> {
        let Some(repository) = tables.repository(&self.repository)? else {
            return Ok(Decision::Answer(UnlinkBlob::Unknown));
        };
        if tables.readable(repository.id, &self.digest)?.is_none() {
            return Ok(Decision::Answer(UnlinkBlob::Unknown));
        }
        if tables.is_referenced(repository.id, &self.digest)? {
            return Ok(Decision::Answer(UnlinkBlob::Referenced));
        }
        Ok(Decision::Apply(repository))
    }

    fn apply(&self, repository: Repository, tables: &mut Tables<'_>) -> Result<UnlinkBlob> {
        let eligible = self.moment.eligible_uptime_seconds;
        tables.remove_link(repository, &self.digest, eligible)?;
        Ok(UnlinkBlob::Removed)
    }
}
