//! Tags move and go (M3).

use super::super::super::{Moment, Result};
use super::super::codec::{Key, Mark, TagRow};
use super::super::rows;
use super::super::tables::Tables;
use super::repositories::{Repository, lower};
use super::{Decision, Operation};
use crate::oci::{Digest, RepositoryName, Tag};

fn tag_key(id: u64, tag: &Tag) -> Key {
    Key::number(id).and_tag(tag.as_str())
}

fn by_manifest_key(id: u64, digest: &Digest, tag: &Tag) -> Key {
    Key::number(id).and_digest(digest).and_tag(tag.as_str())
}

impl Tables<'_> {
    /// What a tag points at.
    pub(super) fn tag(&self, id: u64, tag: &Tag) -> Result<Option<TagRow>> {
        rows::get(&self.tags, &tag_key(id, tag))
    }

    /// Points a tag at a manifest of the repository, which the caller reassesses; the caller also
    /// saves the repository.
    pub(super) fn move_tag(
        &mut self,
        repository: &mut Repository,
        tag: &Tag,
        digest: &Digest,
        moment: Moment,
    ) -> Result<()> {
        let id = repository.id;
        let found = self.tag(id, tag)?;
        match &found {
            Some(found) if found.digest == *digest => return Ok(()),
            Some(found) => {
                let key = by_manifest_key(id, &found.digest, tag);
                rows::remove(&mut self.tags_by_manifest, &key)?;
            }
            None => repository.row.tags = repository.row.tags.saturating_add(1),
        }
        let row = TagRow { digest: *digest, updated_at: moment.time };
        rows::put(&mut self.tags, &tag_key(id, tag), &row)?;
        rows::put(&mut self.tags_by_manifest, &by_manifest_key(id, digest, tag), &Mark)?;
        found.map_or(Ok(()), |found| self.reassess(id, &found.digest, moment))
    }

    /// Removes a tag that is there; the caller saves the repository.
    pub(super) fn remove_tag(
        &mut self,
        repository: &mut Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<()> {
        rows::remove(&mut self.tags, &tag_key(repository.id, tag))?;
        let key = by_manifest_key(repository.id, digest, tag);
        rows::remove(&mut self.tags_by_manifest, &key)?;
        lower(&mut repository.row.tags, 1)
    }
}

/// [`super::super::super::MetaStore::delete_tag`]
pub struct DeleteTag {
    pub repository: RepositoryName,
    pub tag: Tag,
    pub moment: Moment,
}

impl Operation for DeleteTag {
    type Plan = (Repository, Digest);
    type Answer = bool;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, bool>> {
        let Some(repository) = tables.repository(&self.repository)? else {
            return Ok(Decision::Answer(false));
        };
        Ok(match tables.tag(repository.id, &self.tag)? {
            Some(row) => Decision::Apply((repository, row.digest)),
            None => Decision::Answer(false),
        })
    }

    fn apply(&self, (mut repository, digest): Self::Plan, tables: &mut Tables<'_>) -> Result<bool> {
        tables.remove_tag(&mut repository, &self.tag, &digest)?;
        tables.save_repository(&repository)?;
        tables.reassess(repository.id, &digest, self.moment)?;
        Ok(true)
    }
}
