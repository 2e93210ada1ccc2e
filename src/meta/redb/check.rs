//! Whether a database keeps the invariants M1 to M9 (see [`crate::meta`]): each table is walked
//! once, and what a row says is looked up in the others. Memory does not grow with the store.

use redb::ReadableTable;

use super::super::{BlobState, Finding, Garbage, Place, Result, UploadRecord};
use super::codec::{
    ContentRow, Key, LinkRow, ManifestRow, Queued, Reader, References, RepositoryRow, Row,
    SmallContent, TagRow, Uses,
};
use super::rows::{self, any, each_after, get, has};
use super::tables::{Bytes, Rows, Snapshot, View};
use super::writes::{NEWEST_REPOSITORY, counter};
use crate::oci::{Descriptor, Digest};

/// More findings than this say nothing new.
const FINDINGS_MAX: usize = 1000;

/// Every fact that does not agree with another, up to [`FINDINGS_MAX`].
pub fn check(snapshot: &Snapshot) -> Result<Vec<Finding>> {
    let mut check = Check::new(snapshot)?;
    check.names()?;
    check.repositories()?;
    check.tags()?;
    check.manifests()?;
    check.edges()?;
    check.referrers()?;
    check.blobs()?;
    check.contents()?;
    check.links()?;
    check.uses()?;
    check.uploads()?;
    check.queue()?;
    Ok(check.findings)
}

struct Check<'a> {
    snapshot: &'a Snapshot,
    tags: View,
    tags_by_manifest: View,
    manifests: View,
    references: View,
    edges: View,
    referrers: View,
    blobs: View,
    repo_blobs: View,
    blob_repositories: View,
    small_contents: View,
    spill_queue: View,
    gc_queue: View,
    untagged_manifests: View,
    findings: Vec<Finding>,
}

fn of(id: u64, digest: &Digest) -> Key {
    Key::number(id).and_digest(digest)
}

fn each(
    table: &impl ReadableTable<Bytes, Bytes>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    for row in table.iter()? {
        let (key, value) = row?;
        each(key.value(), value.value())?;
    }
    Ok(())
}

fn count(
    table: &impl Rows,
    prefix: &Key,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<u64>,
) -> Result<(u64, u64)> {
    let (mut rows, mut sum) = (0, 0_u64);
    each_after(table, prefix, None, |key, value| {
        rows += 1;
        // A damaged row may say anything.
        sum = sum.saturating_add(each(key, value)?);
        Ok(true)
    })?;
    Ok((rows, sum))
}

impl<'a> Check<'a> {
    fn new(snapshot: &'a Snapshot) -> Result<Self> {
        Ok(Self {
            snapshot,
            tags: snapshot.tags()?,
            tags_by_manifest: snapshot.tags_by_manifest()?,
            manifests: snapshot.manifests()?,
            references: snapshot.references()?,
            edges: snapshot.edges()?,
            referrers: snapshot.referrers()?,
            blobs: snapshot.blobs()?,
            repo_blobs: snapshot.repo_blobs()?,
            blob_repositories: snapshot.blob_repositories()?,
            small_contents: snapshot.small_contents()?,
            spill_queue: snapshot.spill_queue()?,
            gc_queue: snapshot.gc_queue()?,
            untagged_manifests: snapshot.untagged_manifests()?,
            findings: Vec::new(),
        })
    }

    /// Notes a finding unless `holds`.
    fn require(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds && self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding(text()));
        }
    }

    fn content(&self, digest: &Digest) -> Result<Option<ContentRow>> {
        get(&self.blobs, &Key::digest(digest))
    }

    fn is_queued(&self, at: u64, id: u64, digest: &Digest, garbage: Garbage) -> Result<bool> {
        let queue = match garbage {
            Garbage::Untagged => &self.untagged_manifests,
            _ => &self.gc_queue,
        };
        has(queue, &rows::queue_key(at, id, digest, garbage))
    }

    fn names(&mut self) -> Result<()> {
        let (names, ids) = (self.snapshot.repository_names()?, self.snapshot.repository_ids()?);
        let repositories = self.snapshot.repositories()?;
        let newest = counter(&self.snapshot.schema()?, NEWEST_REPOSITORY)?;
        for row in ids.iter()? {
            let (name, id) = row?;
            let (name, id) = (name.value(), id.value());
            let found: Option<RepositoryRow> = get(&repositories, &Key::number(id))?;
            let agrees = found.is_some_and(|row| row.name.as_str() == name);
            self.require(agrees, || format!("repository_ids: {name} has the wrong id {id}"));
            self.require(id <= newest, || format!("M6: the id {id} may be given again"));
        }
        for row in names.iter()? {
            let (name, id) = row?;
            let (name, id) = (name.value(), id.value());
            let known = ids.get(name)?.is_some_and(|found| found.value() == id);
            let full = any(&self.manifests, &Key::number(id))?;
            self.require(known && full, || format!("M4: {name} is listed without a manifest"));
        }
        Ok(())
    }

    fn repositories(&mut self) -> Result<()> {
        let (names, ids) = (self.snapshot.repository_names()?, self.snapshot.repository_ids()?);
        each(&self.snapshot.repositories()?, |key, value| {
            let id = Reader::new("a key of repositories", key).u64()?;
            let row = RepositoryRow::decode(value)?;
            let name = row.name.as_str();
            let known = ids.get(name)?.is_some_and(|found| found.value() == id);
            self.require(known, || format!("repositories: {id} is not the id of {name}"));
            let listed = names.get(name)?.is_some();
            self.require(listed == (row.manifests > 0), || format!("M4: {name} is not listed"));
            let prefix = Key::number(id);
            let (tags, _) = count(&self.tags, &prefix, |_, _| Ok(0))?;
            let (manifests, manifest_bytes) = count(&self.manifests, &prefix, |_, value| {
                Ok(ManifestRow::decode(value)?.size_bytes)
            })?;
            let (blobs, blob_bytes) = count(&self.repo_blobs, &prefix, |key, _| {
                let (_, digest) = Reader::number_digest_key("a key of repo_blobs", key)?;
                Ok(self.content(&digest)?.map_or(0, |row| row.record.size_bytes))
            })?;
            let size_bytes = manifest_bytes.saturating_add(blob_bytes);
            self.require(manifests + blobs > 0, || format!("M6: {name} is empty"));
            let counted =
                RepositoryRow { name: row.name.clone(), manifests, tags, blobs, size_bytes };
            self.require(counted == row, || format!("counters: {row:?}, but {counted:?}"));
            Ok(())
        })
    }

    fn tags(&mut self) -> Result<()> {
        each(&self.snapshot.tags()?, |key, value| {
            let (id, tag) = Reader::tag_key(key)?;
            let digest = TagRow::decode(value)?.digest;
            let points = has(&self.manifests, &of(id, &digest))?;
            self.require(points, || format!("M3: tag {id}/{tag} points at no manifest"));
            let mirrored = has(&self.tags_by_manifest, &of(id, &digest).and_tag(tag.as_str()))?;
            self.require(mirrored, || format!("M3: tag {id}/{tag} is not in tags_by_manifest"));
            Ok(())
        })?;
        each(&self.snapshot.tags_by_manifest()?, |key, _| {
            let (id, digest, tag) = Reader::tag_by_manifest_key(key)?;
            let row: Option<TagRow> = get(&self.tags, &Key::number(id).and_tag(tag.as_str()))?;
            let mirrored = row.is_some_and(|row| row.digest == digest);
            self.require(mirrored, || format!("M3: tag {id}/{tag} is not on {digest}"));
            Ok(())
        })
    }

    fn manifests(&mut self) -> Result<()> {
        each(&self.snapshot.manifests()?, |key, value| {
            let (id, digest) = Reader::number_digest_key("a key of manifests", key)?;
            let row = ManifestRow::decode(value)?;
            let listed = has(&self.references, &of(id, &digest))?;
            self.require(listed, || format!("M2: {id}/{digest} has no list of references"));
            let content = self.content(&digest)?.map(|content| content.record.size_bytes);
            let same = content == Some(row.size_bytes);
            self.require(same, || format!("manifests: {id}/{digest} has another length in blobs"));
            let uses: Uses = get(&self.blob_repositories, &Key::digest(&digest).and_number(id))?
                .unwrap_or_default();
            self.require(uses.manifest, || format!("M1: {id}/{digest} is not counted"));
            if let Some(subject) = &row.subject {
                let attached = has(&self.referrers, &of(id, subject).and_digest(&digest))?;
                self.require(attached, || format!("referrers: {id}/{digest} is missing"));
            }
            self.standing(id, &digest, &row)?;
            Ok(())
        })
    }

    fn standing(&mut self, id: u64, digest: &Digest, row: &ManifestRow) -> Result<()> {
        let (tags, edges, of) = (&self.tags_by_manifest, &self.edges, (id, digest));
        let held = rows::is_manifest_held(tags, edges, &self.manifests, of, row.subject)?;
        let waits = row.eligible_uptime_seconds.is_some();
        self.require(waits != held, || format!("M7, M8: {id}/{digest} waits wrongly: {waits}"));
        self.require(waits || !row.condemned, || format!("M9: {id}/{digest} is condemned"));
        if let (Some(at), Some(garbage)) = (row.eligible_uptime_seconds, row.queue()) {
            let queued = self.is_queued(at, id, digest, garbage)?;
            self.require(queued, || format!("M7, M8: {garbage:?} {id}/{digest} is not queued"));
        }
        let subject = row.subject.map(|subject| has(&self.manifests, &self::of(id, &subject)));
        let living = subject.transpose()?.unwrap_or(true);
        self.require(!(row.orphaned && living), || {
            format!("M7: {id}/{digest} has lost its subject, which is there")
        });
        Ok(())
    }

    /// Every reference has its edge, and there are no more edges than references.
    fn edges(&mut self) -> Result<()> {
        let mut surplus = 0_i128;
        each(&self.snapshot.references()?, |key, value| {
            let (id, parent) = Reader::number_digest_key("a key of references", key)?;
            let known = has(&self.manifests, &of(id, &parent))?;
            self.require(known, || {
                format!("M2: references of {id}/{parent}, which is no manifest")
            });
            for (child, kind) in References::decode(value)?.0 {
                let edge = of(id, &child).and_kind(kind).and_digest(&parent);
                let mirrored = has(&self.edges, &edge)?;
                self.require(mirrored, || format!("M2: {id}/{parent} has no edge to {child}"));
                surplus -= 1;
            }
            Ok(())
        })?;
        each(&self.snapshot.edges()?, |key, _| {
            let (id, child, _, parent) = Reader::edge_key(key)?;
            let known = has(&self.manifests, &of(id, &parent))?;
            self.require(known, || format!("M2: {id}/{child} is held by {parent}, no manifest"));
            surplus += 1;
            Ok(())
        })?;
        self.require(surplus == 0, || format!("M2: {surplus} edges that no manifest refers to"));
        Ok(())
    }

    fn referrers(&mut self) -> Result<()> {
        each(&self.snapshot.referrers()?, |key, value| {
            let (id, subject, digest) = Reader::referrer_key(key)?;
            let same = Descriptor::decode(value)?.digest == digest;
            self.require(same, || format!("referrers: the row of {id}/{digest} is of another"));
            let row: Option<ManifestRow> = get(&self.manifests, &of(id, &digest))?;
            let attached = row.is_some_and(|row| row.subject == Some(subject));
            self.require(attached, || format!("referrers: {id}/{digest} is not on {subject}"));
            Ok(())
        })
    }

    fn blobs(&mut self) -> Result<()> {
        each(&self.snapshot.blobs()?, |key, value| {
            let digest = Reader::digest_key("a key of blobs", key)?;
            let row = ContentRow::decode(value)?;
            let (repositories, manifests) =
                count(&self.blob_repositories, &Key::digest(&digest), |_, value| {
                    Ok(u64::from(Uses::decode(value)?.manifest))
                })?;
            let counted = (repositories, manifests) == (row.record.repositories, row.manifests);
            self.require(counted, || format!("M1: {digest} is counted wrongly"));
            let inline: Option<SmallContent> = get(&self.small_contents, &Key::digest(&digest))?;
            let (has_inline, queued) =
                (row.record.place != Place::File, row.record.place == Place::Inline);
            let sound = inline.map(|content| content.0.len() as u64)
                == has_inline.then_some(row.record.size_bytes);
            self.require(sound, || format!("M5: the inline copy of {digest} is not as its place"));
            let queue = has(&self.spill_queue, &Key::digest(&digest))?;
            let unlinking = row.record.state == BlobState::Unlinking;
            self.require(!unlinking || row.record.repositories == 0, || {
                format!("M9: {digest} is unlinking, and somebody has it")
            });
            self.require(queue == (queued && !unlinking), || {
                format!("M5: {digest} is wrongly queued for its file")
            });
            let at = row.eligible_uptime_seconds;
            let queued = self.is_queued(at, 0, &digest, Garbage::Content)?;
            let unheld = row.record.repositories == 0;
            self.require(queued == unheld, || format!("M7: nobody has {digest}, and it stays"));
            Ok(())
        })
    }

    fn contents(&mut self) -> Result<()> {
        each(&self.snapshot.small_contents()?, |key, _| {
            let digest = Reader::digest_key("a key of small_contents", key)?;
            let known = has(&self.blobs, &Key::digest(&digest))?;
            self.require(known, || format!("M5: small_contents has {digest}, blobs has not"));
            Ok(())
        })?;
        each(&self.snapshot.spill_queue()?, |key, _| {
            let digest = Reader::digest_key("a key of spill_queue", key)?;
            let known = has(&self.blobs, &Key::digest(&digest))?;
            self.require(known, || format!("M5: spill_queue has {digest}, blobs has not"));
            Ok(())
        })
    }

    fn links(&mut self) -> Result<()> {
        each(&self.snapshot.repo_blobs()?, |key, value| {
            let (id, digest) = Reader::number_digest_key("a key of repo_blobs", key)?;
            let row = LinkRow::decode(value)?;
            let uses: Uses = get(&self.blob_repositories, &Key::digest(&digest).and_number(id))?
                .unwrap_or_default();
            self.require(uses.blob, || format!("M1: link {id}/{digest} is not counted"));
            let stored = has(&self.blobs, &Key::digest(&digest))?;
            self.require(stored, || format!("M1: link {id}/{digest} leads nowhere"));
            let used = any(&self.edges, &of(id, &digest))?;
            let at = row.eligible_uptime_seconds;
            let queued = self.is_queued(at, id, &digest, Garbage::Link)?;
            self.require(used != queued, || format!("M7: link {id}/{digest} is queued wrongly"));
            self.require(queued || !row.condemned, || {
                format!("M9: link {id}/{digest} is condemned")
            });
            Ok(())
        })
    }

    fn uses(&mut self) -> Result<()> {
        each(&self.snapshot.blob_repositories()?, |key, value| {
            let (digest, id) = Reader::digest_number_key("a key of blob_repositories", key)?;
            let uses = Uses::decode(value)?;
            let blob = has(&self.repo_blobs, &of(id, &digest))?;
            let manifest = has(&self.manifests, &of(id, &digest))?;
            let found = Uses { blob, manifest };
            self.require(found == uses, || format!("M1: {id}/{digest} is {found:?}, not {uses:?}"));
            Ok(())
        })
    }

    fn uploads(&mut self) -> Result<()> {
        let (uploads, by_time) = (self.snapshot.uploads()?, self.snapshot.uploads_by_time()?);
        let (mut surplus, mut found) = (0_i128, 0_u64);
        each(&uploads, |_, value| {
            let row = UploadRecord::decode(value)?;
            let key = Key::number(row.started_uptime_seconds).and_upload(row.id);
            let mirrored = has(&by_time, &key)?;
            self.require(mirrored, || format!("uploads: {} is not in uploads_by_time", row.id));
            found += 1;
            surplus -= 1;
            Ok(())
        })?;
        each(&by_time, |_, _| {
            surplus += 1;
            Ok(())
        })?;
        self.require(surplus == 0, || format!("uploads_by_time: {surplus} more than {found}"));
        Ok(())
    }

    /// What is queued is garbage, and says so itself.
    fn queue(&mut self) -> Result<()> {
        each(&self.snapshot.gc_queue()?, |key, value| {
            self.place(Reader::garbage_key(key)?, Queued::decode(value)?)
        })?;
        each(&self.snapshot.untagged_manifests()?, |key, value| {
            let (at, id, digest) = Reader::untagged_key(key)?;
            self.place((at, id, digest, Garbage::Untagged), Queued::decode(value)?)
        })
    }

    fn place(
        &mut self,
        (at, id, digest, garbage): (u64, u64, Digest, Garbage),
        queued: Queued,
    ) -> Result<()> {
        let says = match garbage {
            Garbage::Link => {
                let row: Option<LinkRow> = get(&self.repo_blobs, &of(id, &digest))?;
                row.map(|row| row.eligible_uptime_seconds)
            }
            Garbage::Referrer | Garbage::Untagged => {
                let row: Option<ManifestRow> = get(&self.manifests, &of(id, &digest))?;
                let row = row.filter(|row| row.queue() == Some(garbage));
                row.and_then(|row| row.eligible_uptime_seconds)
            }
            Garbage::Content => {
                let row = self.content(&digest)?.filter(|row| row.record.repositories == 0);
                row.map(|row| row.eligible_uptime_seconds)
            }
        };
        self.require(says == Some(at), || {
            format!("M7, M8: {garbage:?} {id}/{digest} is queued at {at}, not {says:?}")
        });
        let size_bytes = self.content(&digest)?.map(|row| row.record.size_bytes);
        self.require(size_bytes == Some(queued.size_bytes), || {
            format!("M7, M8: {garbage:?} {id}/{digest} is queued with another length")
        });
        Ok(())
    }
}
