//! Rows that follow from others are made to agree with them: marks, edges, counters, queues, the
//! catalog. What follows from nothing else (tags, manifests, links, contents) is never changed.
//!
//! One transaction, page by page: memory does not grow with the store, and only rows that are
//! wrong are written. The order matters: each step relies on the ones before it.

use redb::{ReadableTable, Table};

use super::super::{BlobState, Garbage, Place, Result, UploadRecord};
use super::codec::{
    ContentRow, Key, LinkRow, ManifestRow, Mark, Queued, Reader, References, RepositoryRow, Row,
    TagRow, Uses,
};
use super::rows::{self, each_after, has, put, remove};
use super::tables::{Bytes, Tables};
use crate::oci::Digest;

/// Rows that are looked at before the changes that they ask for are made.
const PAGE_LENGTH: usize = 512;

/// Names without a repository that one repair removes.
const NAMES_MAX: usize = 10_000;

/// Names a table that is read.
type Select = for<'a, 't> fn(&'a Tables<'t>) -> &'a Table<'t, Bytes, Bytes>;

/// Names a table that is changed.
type SelectMut = for<'a, 't> fn(&'a mut Tables<'t>) -> &'a mut Table<'t, Bytes, Bytes>;

/// Makes derived rows agree; how many were wrong. What turns out to be garbage may go from the
/// accumulated uptime `eligible` on.
pub fn rebuild(tables: &mut Tables<'_>, eligible: u64) -> Result<u64> {
    let mut rebuild = Rebuild { tables, eligible, changed: 0 };
    rebuild.tags()?;
    rebuild.references()?;
    rebuild.referrers()?;
    rebuild.uses()?;
    rebuild.contents()?;
    rebuild.links()?;
    rebuild.manifests()?;
    rebuild.queues()?;
    rebuild.repositories()?;
    rebuild.names()?;
    rebuild.uploads()?;
    Ok(rebuild.changed)
}

struct Rebuild<'r, 't> {
    tables: &'r mut Tables<'t>,
    eligible: u64,
    changed: u64,
}

fn of(id: u64, digest: &Digest) -> Key {
    Key::number(id).and_digest(digest)
}

impl<'t> Rebuild<'_, 't> {
    /// Calls `work` with every row that the table had when its page was read.
    fn each(
        &mut self,
        select: Select,
        mut work: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut after: Option<Vec<u8>> = None;
        loop {
            let start = after.as_deref().map_or(Unbounded, Excluded);
            let range = select(self.tables).range::<&[u8]>((start, Unbounded))?;
            let mut page = Vec::new();
            for row in range.take(PAGE_LENGTH) {
                let (key, value) = row?;
                page.push((key.value().to_vec(), value.value().to_vec()));
            }
            for (key, value) in &page {
                work(self, key, value)?;
            }
            let is_last = page.len() < PAGE_LENGTH;
            after = page.pop().map(|(key, _)| key);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Stores a row unless it is stored already.
    fn ensure<R: Row>(&mut self, table: SelectMut, key: &Key, row: &R) -> Result<()> {
        let table = table(self.tables);
        let is_right =
            table.get(key.as_slice())?.is_some_and(|found| found.value() == row.encode());
        if !is_right {
            put(table, key, row)?;
            self.changed += 1;
        }
        Ok(())
    }

    /// Removes a row if it is there.
    fn drop_row(&mut self, table: SelectMut, key: &Key) -> Result<()> {
        self.changed += u64::from(remove(table(self.tables), key)?);
        Ok(())
    }

    fn tags(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.tags,
            |this, key, value| {
                let (id, tag) = Reader::tag_key(key)?;
                let digest = TagRow::decode(value)?.digest;
                let key = of(id, &digest).and_tag(tag.as_str());
                this.ensure(|tables| &mut tables.tags_by_manifest, &key, &Mark)
            },
        )?;
        self.each(
            |tables| &tables.tags_by_manifest,
            |this, key, _| {
                let (id, digest, tag) = Reader::tag_by_manifest_key(key)?;
                let key = Key::number(id).and_tag(tag.as_str());
                let row: Option<TagRow> = rows::get(&this.tables.tags, &key)?;
                if row.is_some_and(|row| row.digest == digest) {
                    return Ok(());
                }
                let key = of(id, &digest).and_tag(tag.as_str());
                this.drop_row(|tables| &mut tables.tags_by_manifest, &key)
            },
        )
    }

    fn references(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.references,
            |this, key, value| {
                let (id, parent) = Reader::number_digest_key("a key of references", key)?;
                if !has(&this.tables.manifests, &of(id, &parent))? {
                    return this.drop_row(|tables| &mut tables.references, &of(id, &parent));
                }
                for (child, kind) in References::decode(value)?.0 {
                    let key = of(id, &child).and_kind(kind).and_digest(&parent);
                    this.ensure(|tables| &mut tables.edges, &key, &Mark)?;
                }
                Ok(())
            },
        )?;
        self.each(
            |tables| &tables.edges,
            |this, key, _| {
                let (id, child, kind, parent) = Reader::edge_key(key)?;
                let listed: Option<References> =
                    rows::get(&this.tables.references, &of(id, &parent))?;
                // Without its list nothing says that the edge is wrong: it holds the child.
                let lost = has(&this.tables.manifests, &of(id, &parent))? && listed.is_none();
                if lost || listed.is_some_and(|listed| listed.0.contains(&(child, kind))) {
                    return Ok(());
                }
                let key = of(id, &child).and_kind(kind).and_digest(&parent);
                this.drop_row(|tables| &mut tables.edges, &key)
            },
        )
    }

    fn referrers(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.referrers,
            |this, key, _| {
                let (id, subject, digest) = Reader::referrer_key(key)?;
                let row = rows::manifest(&this.tables.manifests, id, &digest)?;
                if row.is_some_and(|row| row.subject == Some(subject)) {
                    return Ok(());
                }
                let key = of(id, &subject).and_digest(&digest);
                this.drop_row(|tables| &mut tables.referrers, &key)
            },
        )
    }

    /// Which repository has which content, from links and manifests.
    fn uses(&mut self) -> Result<()> {
        for select in [(|tables| &tables.repo_blobs) as Select, |tables| &tables.manifests] {
            self.each(select, |this, key, _| {
                let (id, digest) = Reader::number_digest_key("a key of links", key)?;
                this.use_of(id, &digest)
            })?;
        }
        self.each(
            |tables| &tables.blob_repositories,
            |this, key, _| {
                let (digest, id) = Reader::digest_number_key("a key of blob_repositories", key)?;
                this.use_of(id, &digest)
            },
        )
    }

    fn use_of(&mut self, id: u64, digest: &Digest) -> Result<()> {
        let uses = Uses {
            blob: has(&self.tables.repo_blobs, &of(id, digest))?,
            manifest: has(&self.tables.manifests, &of(id, digest))?,
        };
        let key = Key::digest(digest).and_number(id);
        if uses == Uses::default() {
            return self.drop_row(|tables| &mut tables.blob_repositories, &key);
        }
        self.ensure(|tables| &mut tables.blob_repositories, &key, &uses)
    }

    fn contents(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.blobs,
            |this, key, value| {
                let digest = Reader::digest_key("a key of blobs", key)?;
                let key = Key::digest(&digest);
                let mut row = ContentRow::decode(value)?;
                (row.record.repositories, row.manifests) = (0, 0);
                each_after(&this.tables.blob_repositories, &key, None, |_, value| {
                    row.record.repositories += 1;
                    row.manifests += u64::from(Uses::decode(value)?.manifest);
                    Ok(true)
                })?;
                let queued = row.record.repositories == 0;
                let at = this
                    .begin((row.eligible_uptime_seconds, 0, &digest, Garbage::Content), queued)?;
                row.eligible_uptime_seconds = at;
                if row.record.state == BlobState::Unlinking && row.record.repositories > 0 {
                    // Its file may be gone: whoever examines it finds out.
                    row.record.state = BlobState::Quarantined;
                }
                this.ensure(|tables| &mut tables.blobs, &key, &row)?;
                if row.record.place == Place::File {
                    this.drop_row(|tables| &mut tables.small_contents, &key)?;
                }
                if row.record.place == Place::Inline && row.record.state != BlobState::Unlinking {
                    this.ensure(|tables| &mut tables.spill_queue, &key, &Mark)?;
                } else {
                    this.drop_row(|tables| &mut tables.spill_queue, &key)?;
                }
                this.queue((at, 0, &digest, Garbage::Content), queued)
            },
        )?;
        for select in [(|tables| &tables.small_contents) as Select, |tables| &tables.spill_queue] {
            self.each(select, |this, key, _| {
                let key = Key::digest(&Reader::digest_key("a key of contents", key)?);
                if has(&this.tables.blobs, &key)? {
                    return Ok(());
                }
                this.drop_row(|tables| &mut tables.small_contents, &key)?;
                this.drop_row(|tables| &mut tables.spill_queue, &key)
            })?;
        }
        Ok(())
    }

    fn links(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.repo_blobs,
            |this, key, value| {
                let (id, digest) = Reader::number_digest_key("a key of repo_blobs", key)?;
                let mut row = LinkRow::decode(value)?;
                let waits = !rows::any(&this.tables.edges, &of(id, &digest))?;
                row.condemned &= waits;
                let at =
                    this.begin((row.eligible_uptime_seconds, id, &digest, Garbage::Link), waits)?;
                row.eligible_uptime_seconds = at;
                this.ensure(|tables| &mut tables.repo_blobs, &of(id, &digest), &row)?;
                this.queue((at, id, &digest, Garbage::Link), waits)
            },
        )
    }

    fn manifests(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.manifests,
            |this, key, value| {
                let (id, digest) = Reader::number_digest_key("a key of manifests", key)?;
                let mut row = ManifestRow::decode(value)?;
                let Tables { tags_by_manifest, edges, manifests, .. } = &*this.tables;
                let of_one = (id, &digest);
                let held = rows::is_manifest_held(
                    tags_by_manifest,
                    edges,
                    manifests,
                    of_one,
                    row.subject,
                )?;
                let living = match row.subject {
                    Some(subject) => has(manifests, &of(id, &subject))?,
                    None => true,
                };
                row.orphaned &= !living;
                if held {
                    (row.eligible_uptime_seconds, row.condemned) = (None, false);
                } else {
                    row.eligible_uptime_seconds.get_or_insert(this.eligible);
                }
                this.ensure(|tables| &mut tables.manifests, &of(id, &digest), &row)?;
                match (row.eligible_uptime_seconds, row.queue()) {
                    (Some(at), Some(garbage)) => this.queue((at, id, &digest, garbage), true),
                    _ => Ok(()),
                }
            },
        )
    }

    /// When something may go: as it stands in the queue, or, if it has to be put there, not before
    /// a grace from now.
    fn begin(&self, place: (u64, u64, &Digest, Garbage), waits: bool) -> Result<u64> {
        let (at, id, digest, garbage) = place;
        let key = rows::queue_key(at, id, digest, garbage);
        if !waits || has(&self.tables.gc_queue, &key)? {
            return Ok(at);
        }
        Ok(at.max(self.eligible))
    }

    /// Puts something into its queue, with the length that its content has, or takes it out.
    fn queue(
        &mut self,
        (at, id, digest, garbage): (u64, u64, &Digest, Garbage),
        waits: bool,
    ) -> Result<()> {
        let table: SelectMut = match garbage {
            Garbage::Untagged => |tables| &mut tables.untagged_manifests,
            _ => |tables| &mut tables.gc_queue,
        };
        let key = rows::queue_key(at, id, digest, garbage);
        let content = rows::content(&self.tables.blobs, digest)?;
        match content.filter(|_| waits) {
            Some(row) => self.ensure(table, &key, &Queued { size_bytes: row.record.size_bytes }),
            None => self.drop_row(table, &key),
        }
    }

    /// Takes out what does not say that it stands there.
    fn queues(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.gc_queue,
            |this, key, _| {
                let (at, id, digest, garbage) = Reader::garbage_key(key)?;
                this.place((at, id, &digest, garbage))
            },
        )?;
        self.each(
            |tables| &tables.untagged_manifests,
            |this, key, _| {
                let (at, id, digest) = Reader::untagged_key(key)?;
                this.place((at, id, &digest, Garbage::Untagged))
            },
        )
    }

    fn place(&mut self, place: (u64, u64, &Digest, Garbage)) -> Result<()> {
        let (at, id, digest, garbage) = place;
        let tables = &self.tables;
        let says = match garbage {
            Garbage::Link => {
                let row: Option<LinkRow> = rows::get(&tables.repo_blobs, &of(id, digest))?;
                let used = rows::any(&tables.edges, &of(id, digest))?;
                row.filter(|_| !used).map(|row| row.eligible_uptime_seconds)
            }
            Garbage::Referrer | Garbage::Untagged => {
                let row = rows::manifest(&tables.manifests, id, digest)?;
                let row = row.filter(|row| row.queue() == Some(garbage));
                row.and_then(|row| row.eligible_uptime_seconds)
            }
            Garbage::Content => {
                let row = rows::content(&tables.blobs, digest)?;
                let row = row.filter(|row| row.record.repositories == 0);
                row.map(|row| row.eligible_uptime_seconds)
            }
        };
        self.queue(place, says == Some(at))
    }

    fn repositories(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.repositories,
            |this, key, value| {
                let id = Reader::new("a key of repositories", key).u64()?;
                let key = Key::number(id);
                let mut row = RepositoryRow::new(RepositoryRow::decode(value)?.name);
                let Tables { tags, manifests, repo_blobs, blobs, .. } = &*this.tables;
                each_after(tags, &key, None, |_, _| {
                    row.tags += 1;
                    Ok(true)
                })?;
                each_after(manifests, &key, None, |_, value| {
                    row.manifests += 1;
                    // A damaged row may say anything.
                    let size_bytes = ManifestRow::decode(value)?.size_bytes;
                    row.size_bytes = row.size_bytes.saturating_add(size_bytes);
                    Ok(true)
                })?;
                each_after(repo_blobs, &key, None, |key, _| {
                    let (_, digest) = Reader::number_digest_key("a key of repo_blobs", key)?;
                    row.blobs += 1;
                    let content = rows::content(blobs, &digest)?;
                    let size_bytes = content.map_or(0, |content| content.record.size_bytes);
                    row.size_bytes = row.size_bytes.saturating_add(size_bytes);
                    Ok(true)
                })?;
                if row.manifests + row.blobs == 0 {
                    return this.drop_row(|tables| &mut tables.repositories, &key);
                }
                this.name(row.name.as_str(), id, row.manifests > 0)?;
                this.ensure(|tables| &mut tables.repositories, &key, &row)
            },
        )
    }

    fn name(&mut self, name: &str, id: u64, listed: bool) -> Result<()> {
        let Tables { repository_ids, repository_names, .. } = &mut *self.tables;
        let wanted = [(repository_ids, true), (repository_names, listed)];
        for (table, wanted) in wanted {
            let found = table.get(name)?.map(|found| found.value());
            if found == wanted.then_some(id) {
                continue;
            }
            self.changed += 1;
            match wanted {
                true => drop(table.insert(name, id)?),
                false => drop(table.remove(name)?),
            }
        }
        Ok(())
    }

    /// Names of repositories that have no row.
    fn names(&mut self) -> Result<()> {
        let Tables { repository_ids, repository_names, repositories, .. } = &mut *self.tables;
        for table in [repository_ids, repository_names] {
            let mut lost = Vec::new();
            for row in table.iter()? {
                let (name, id) = row?;
                let found: Option<RepositoryRow> =
                    rows::get(&*repositories, &Key::number(id.value()))?;
                if found.is_none_or(|row| row.name.as_str() != name.value()) {
                    lost.push(name.value().to_owned());
                }
                // The next repair takes the rest.
                if lost.len() >= NAMES_MAX {
                    break;
                }
            }
            for name in lost {
                table.remove(name.as_str())?;
                self.changed += 1;
            }
        }
        Ok(())
    }

    fn uploads(&mut self) -> Result<()> {
        self.each(
            |tables| &tables.uploads,
            |this, _, value| {
                let row = UploadRecord::decode(value)?;
                let key = Key::number(row.started_uptime_seconds).and_upload(row.id);
                this.ensure(|tables| &mut tables.uploads_by_time, &key, &Mark)
            },
        )?;
        self.each(
            |tables| &tables.uploads_by_time,
            |this, key, _| {
                let (started, id) = Reader::upload_time_key(key)?;
                let row: Option<UploadRecord> = rows::get(&this.tables.uploads, &Key::upload(id))?;
                if row.is_some_and(|row| row.started_uptime_seconds == started) {
                    return Ok(());
                }
                let key = Key::number(started).and_upload(id);
                this.drop_row(|tables| &mut tables.uploads_by_time, &key)
            },
        )
    }
}
