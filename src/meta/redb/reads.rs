//! Reads, each on one snapshot. A page costs what it shows: every list is a range of keys.

use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;

use super::super::{
    BlobRecord, BlobState, Counters, Error, ManifestRecord, Page, RepositoryRecord, Result,
    Standing, TagRecord, UploadRecord,
};
use super::codec::{Key, Reader, Row, SmallContent, TagRow, Uses};
use super::rows;
use super::tables::Snapshot;
use super::writes::{TRANSACTIONS, UPTIME, counter, store_id};
use crate::oci::{Descriptor, Digest, Reference, RepositoryName, Tag, UploadId};

impl Snapshot {
    pub(super) fn id(&self, name: &RepositoryName) -> Result<Option<u64>> {
        rows::id_of(&self.repository_ids()?, name)
    }

    /// [`super::super::MetaStore::repositories`]
    pub fn repository_page(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RepositoryName>> {
        let names = self.repository_names()?;
        let mut page = Page { items: Vec::new(), more: false };
        for row in names.range::<&str>((after.map_or(Unbounded, Excluded), Unbounded))? {
            if page.items.len() >= limit {
                page.more = true;
                break;
            }
            let (name, _) = row?;
            let parsed = RepositoryName::parse(name.value());
            page.items.push(parsed.map_err(|_| {
                Error::Corrupt("a key of repository_names is no repository name".to_owned())
            })?);
        }
        Ok(page)
    }

    /// [`super::super::MetaStore::repository`]
    pub fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryRecord>> {
        let Some(id) = self.id(name)? else {
            return Ok(None);
        };
        Ok(Some(rows::repository(&self.repositories()?, id)?.record(id)))
    }

    /// [`super::super::MetaStore::blob`]
    pub fn blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(BlobRecord, Standing)>> {
        let Some(id) = self.id(name)? else {
            return Ok(None);
        };
        let found = rows::get(&self.repo_blobs()?, &Key::number(id).and_digest(digest))?;
        let Some(row) = found else {
            return Ok(None);
        };
        let record = self.must_be_stored(digest)?;
        if record.state != BlobState::Live {
            return Ok(None);
        }
        Ok(Some((record, self.link_standing(id, digest, &row)?)))
    }

    /// [`super::super::MetaStore::stored`]
    pub fn stored(&self, digest: &Digest) -> Result<Option<BlobRecord>> {
        Ok(rows::content(&self.blobs()?, digest)?.map(|row| row.record))
    }

    fn must_be_stored(&self, digest: &Digest) -> Result<BlobRecord> {
        let found = self.stored(digest)?;
        found.ok_or_else(|| Error::Corrupt(format!("{digest} is linked, but not in blobs")))
    }

    /// [`super::super::MetaStore::small_content`]
    pub fn small_content(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let found: Option<SmallContent> = rows::get(&self.small_contents()?, &Key::digest(digest))?;
        Ok(found.map(|content| content.0.into()))
    }

    /// [`super::super::MetaStore::blobs`]
    pub fn blob_page(
        &self,
        name: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<(Digest, BlobRecord)>> {
        let Some(id) = self.id(name)? else {
            return Ok(Page { items: Vec::new(), more: false });
        };
        let prefix = Key::number(id);
        let after = after.map(|digest| prefix.clone().and_digest(digest));
        rows::page(&self.repo_blobs()?, &prefix, after.as_ref(), limit, |key, _| {
            let (_, digest) = Reader::number_digest_key("a key of repo_blobs", key)?;
            let record = self.must_be_stored(&digest)?;
            Ok((record.state == BlobState::Live).then_some((digest, record)))
        })
    }

    /// [`super::super::MetaStore::repositories_with_blob`], in the order of ids.
    pub fn repositories_with_blob(
        &self,
        digest: &Digest,
        after: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Page<RepositoryName>> {
        let nothing = Page { items: Vec::new(), more: false };
        let prefix = Key::digest(digest);
        let after = match after.map(|name| self.id(name)).transpose()? {
            Some(None) => return Ok(nothing),
            Some(Some(id)) => Some(prefix.clone().and_number(id)),
            None => None,
        };
        if self.stored(digest)?.is_none_or(|record| record.state != BlobState::Live) {
            return Ok(nothing);
        }
        let repositories = self.repositories()?;
        let table = self.blob_repositories()?;
        rows::page(&table, &prefix, after.as_ref(), limit, |key, value| {
            if !Uses::decode(value)?.blob {
                return Ok(None);
            }
            let (_, id) = Reader::digest_number_key("a key of blob_repositories", key)?;
            Ok(Some(rows::repository(&repositories, id)?.name))
        })
    }

    /// [`super::super::MetaStore::stat_manifest`]
    pub fn stat_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestRecord>> {
        let Some(id) = self.id(name)? else {
            return Ok(None);
        };
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => {
                let key = Key::number(id).and_tag(tag.as_str());
                let found: Option<TagRow> = rows::get(&self.tags()?, &key)?;
                match found {
                    Some(row) => row.digest,
                    None => return Ok(None),
                }
            }
        };
        let row = rows::manifest(&self.manifests()?, id, &digest)?;
        let Some(row) = row else {
            return match reference {
                Reference::Digest(_) => Ok(None),
                Reference::Tag(_) => {
                    Err(Error::Corrupt(format!("a tag of {name} points at no manifest")))
                }
            };
        };
        let is_live = self.must_be_stored(&digest)?.state == BlobState::Live;
        Ok(is_live.then(|| row.record(digest)))
    }

    /// [`super::super::MetaStore::manifest`]
    pub fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<(ManifestRecord, Option<Bytes>)>> {
        let Some(record) = self.stat_manifest(name, reference)? else {
            return Ok(None);
        };
        let content = self.small_content(&record.digest)?;
        Ok(Some((record, content)))
    }

    /// [`super::super::MetaStore::manifests`]
    pub fn manifest_page(
        &self,
        name: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<ManifestRecord>> {
        let Some(id) = self.id(name)? else {
            return Ok(Page { items: Vec::new(), more: false });
        };
        let prefix = Key::number(id);
        let after = after.map(|digest| prefix.clone().and_digest(digest));
        rows::page(&self.manifests()?, &prefix, after.as_ref(), limit, |key, value| {
            let (_, digest) = Reader::number_digest_key("a key of manifests", key)?;
            Ok(Some(super::codec::ManifestRow::decode(value)?.record(digest)))
        })
    }

    /// [`super::super::MetaStore::tags`]
    pub fn tag_page(
        &self,
        name: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<TagRecord>>> {
        let Some(id) = rows::id_of(&self.repository_names()?, name)? else {
            return Ok(None);
        };
        let prefix = Key::number(id);
        let after = after.map(|tag| prefix.clone().and_tag(tag));
        let page = rows::page(&self.tags()?, &prefix, after.as_ref(), limit, |key, value| {
            let (_, tag) = Reader::tag_key(key)?;
            let TagRow { digest, updated_at } = TagRow::decode(value)?;
            Ok(Some(TagRecord { tag, digest, updated_at }))
        })?;
        Ok(Some(page))
    }

    /// [`super::super::MetaStore::tags_of`]
    pub fn tags_of(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Page<Tag>> {
        let Some(id) = self.id(name)? else {
            return Ok(Page { items: Vec::new(), more: false });
        };
        let prefix = Key::number(id).and_digest(digest);
        let after = after.map(|tag| prefix.clone().and_tag(tag.as_str()));
        rows::page(&self.tags_by_manifest()?, &prefix, after.as_ref(), limit, |key, _| {
            Ok(Some(Reader::tag_by_manifest_key(key)?.2))
        })
    }

    /// [`super::super::MetaStore::referrers`]
    pub fn referrers_page(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_types: &[String],
        after: Option<&Digest>,
        size_bytes_max: usize,
    ) -> Result<Page<Descriptor>> {
        let mut page = Page { items: Vec::new(), more: false };
        let Some(id) = self.id(name)? else {
            return Ok(page);
        };
        let prefix = Key::number(id).and_digest(subject);
        let after = after.map(|digest| prefix.clone().and_digest(digest));
        let mut size_bytes = 0;
        rows::each_after(&self.referrers()?, &prefix, after.as_ref(), |_, value| {
            let descriptor = Descriptor::decode(value)?;
            let found = descriptor.artifact_type.as_ref();
            if !artifact_types.is_empty() && !found.is_some_and(|is| artifact_types.contains(is)) {
                return Ok(true);
            }
            size_bytes += descriptor.json_size_bytes();
            if size_bytes > size_bytes_max && !page.items.is_empty() {
                page.more = true;
                return Ok(false);
            }
            page.items.push(descriptor);
            Ok(true)
        })?;
        Ok(page)
    }

    /// [`super::super::MetaStore::upload`]
    pub fn upload(&self, id: UploadId) -> Result<Option<UploadRecord>> {
        rows::get(&self.uploads()?, &Key::upload(id))
    }

    /// [`super::super::MetaStore::uploads`]
    pub fn upload_list(
        &self,
        started_before_uptime_seconds: u64,
        after: Option<(u64, UploadId)>,
        limit: usize,
    ) -> Result<Vec<UploadRecord>> {
        let (by_time, uploads) = (self.uploads_by_time()?, self.uploads()?);
        let after = after.map(|(started, id)| Key::number(started).and_upload(id));
        let end = Key::number(started_before_uptime_seconds);
        let mut found = Vec::new();
        if after.as_ref().is_some_and(|after| after.as_slice() >= end.as_slice()) {
            return Ok(found);
        }
        let start = after.as_ref().map_or(Unbounded, |after| Excluded(after.as_slice()));
        for row in by_time.range::<&[u8]>((start, Excluded(end.as_slice())))?.take(limit) {
            let (key, _) = row?;
            let (_, id) = Reader::upload_time_key(key.value())?;
            found.push(rows::must_get(&uploads, &Key::upload(id))?);
        }
        Ok(found)
    }

    /// [`super::super::MetaStore::unspilled`]
    pub fn unspilled(
        &self,
        after: Option<&Digest>,
        limit: usize,
        size_bytes_max: usize,
    ) -> Result<Vec<(Digest, Bytes)>> {
        let contents = self.small_contents()?;
        let mut found = Vec::new();
        let mut size_bytes = 0;
        let after = after.map(Key::digest);
        let start = after.as_ref().map_or(Unbounded, |after| Excluded(after.as_slice()));
        for row in self.spill_queue()?.range::<&[u8]>((start, Unbounded))? {
            if found.len() == limit {
                break;
            }
            let (key, _) = row?;
            let digest = Reader::digest_key("a key of spill_queue", key.value())?;
            let content = match rows::must_get::<SmallContent>(&contents, &Key::digest(&digest)) {
                Ok(content) => content,
                // One damaged row must not keep the others in the database; the scrub finds it.
                Err(Error::Corrupt(_)) => continue,
                Err(error) => return Err(error),
            };
            size_bytes += content.0.len();
            if size_bytes > size_bytes_max && !found.is_empty() {
                break;
            }
            found.push((digest, content.0.into()));
        }
        Ok(found)
    }

    /// [`super::super::MetaStore::counters`]
    pub fn counters(&self) -> Result<Counters> {
        let schema = self.schema()?;
        Ok(Counters {
            transactions: counter(&schema, TRANSACTIONS)?,
            uptime_seconds: counter(&schema, UPTIME)?,
        })
    }

    /// [`super::super::MetaStore::store_id`]
    pub fn store_id(&self) -> Result<Option<[u8; 16]>> {
        store_id(&self.schema()?)
    }
}
