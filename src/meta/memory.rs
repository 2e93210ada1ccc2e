//! The model: the specification of the store in code. One lock, plain maps, nothing durable.
//!
//! Whatever follows from other facts is worked out from them at every question: counters, the
//! catalog, referrers, the collector's queue. So the model checks the rows that other stores keep
//! for the same.

mod collector;
mod explain;
mod integrity;
mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Amount, BlobRecord, BlobState, Candidate, Collected, Counters, Edge, EdgeKind, Error,
    Explanation, Finding, Garbage, GcQueue, LinkBlob, ManifestRecord, MetaStore, Moment, MountBlob,
    Page, Place, PushManifest, PutManifest, RepositoryRecord, Result, ScrubRecord, Standing,
    TagRecord, Timestamp, UnlinkBlob, UploadRecord, Use, Verdict, Waiting,
};
use crate::oci::{Descriptor, Digest, Reference, RepositoryName, Shard, Tag, UploadId};

/// Facts in memory.
#[derive(Debug, Default)]
pub struct MemoryMeta {
    facts: Mutex<Facts>,
    uses_reserve: AtomicBool,
}

#[derive(Debug, Default)]
struct Facts {
    next_repository: u64,
    repositories: BTreeMap<RepositoryName, Repository>,
    contents: BTreeMap<Digest, Content>,
    uploads: BTreeMap<UploadId, UploadRecord>,
    counters: Counters,
    store_id: Option<[u8; 16]>,
    scrub: ScrubRecord,
}

#[derive(Debug, Default)]
struct Repository {
    id: u64,
    links: BTreeMap<Digest, Link>,
    manifests: BTreeMap<Digest, Manifest>,
    tags: BTreeMap<Tag, (Digest, Timestamp)>,
}

/// A blob that a repository may read.
#[derive(Debug, Clone, Copy)]
struct Link {
    /// When it becomes garbage, should nothing use it.
    eligible_uptime_seconds: u64,
    /// The collector has chosen it.
    condemned: bool,
}

#[derive(Debug)]
struct Manifest {
    record: ManifestRecord,
    edges: Vec<Edge>,
    descriptor: Descriptor,
    /// Its subject was deleted.
    orphaned: bool,
    /// The queue that it was in after the last change.
    queue: Option<Garbage>,
    /// When it may go, while it is in a queue.
    eligible_uptime_seconds: u64,
    /// The collector has chosen it.
    condemned: bool,
}

impl Manifest {
    fn record(&self) -> ManifestRecord {
        ManifestRecord { standing: self.standing(), ..self.record.clone() }
    }
}

#[derive(Debug)]
struct Content {
    size_bytes: u64,
    state: BlobState,
    has_file: bool,
    inline: Option<Bytes>,
    /// When it becomes garbage, should no repository have it.
    eligible_uptime_seconds: u64,
}

impl Content {
    fn place(&self) -> Place {
        match (self.has_file, &self.inline) {
            (true, Some(_)) => Place::Both,
            (true, None) => Place::File,
            (false, _) => Place::Inline,
        }
    }
}

impl MemoryMeta {
    /// Sets what [`MetaStore::uses_reserve`] says.
    pub fn use_reserve(&self, used: bool) {
        self.uses_reserve.store(used, Ordering::Relaxed);
    }

    fn read(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> MutexGuard<'_, Facts> {
        let mut facts = self.read();
        facts.counters.transactions += 1;
        facts
    }

    /// What waits for the collector: when, in which repository (0: none), what (M7).
    pub fn gc_queue(&self) -> Vec<(u64, u64, Digest, Garbage)> {
        self.read().places(GcQueue::Garbage)
    }

    /// Puts a content into a state.
    #[cfg(any(test, feature = "conformance"))]
    pub fn set_state(&self, digest: &Digest, state: BlobState) {
        if let Some(content) = self.read().contents.get_mut(digest) {
            content.state = state;
        }
    }

    /// Facts that break an invariant; there are none to break but those between plain facts.
    pub fn check(&self) -> Vec<Finding> {
        let facts = self.read();
        let mut findings = Vec::new();
        for (name, repository) in &facts.repositories {
            for (tag, (digest, _)) in &repository.tags {
                if !repository.manifests.contains_key(digest) {
                    findings.push(Finding(format!("M3: {name}:{tag} points at no manifest")));
                }
            }
            let named = repository.links.keys().chain(repository.manifests.keys());
            for digest in named.filter(|digest| !facts.contents.contains_key(digest)) {
                findings.push(Finding(format!("{name} has {digest}, which is not stored")));
            }
        }
        for (digest, content) in &facts.contents {
            if !content.has_file && content.inline.is_none() {
                findings.push(Finding(format!("M5: the bytes of {digest} are nowhere")));
            }
        }
        findings
    }
}

impl Facts {
    fn repository(&mut self, name: &RepositoryName) -> &mut Repository {
        let next = &mut self.next_repository;
        self.repositories.entry(name.clone()).or_insert_with(|| {
            *next += 1;
            Repository { id: *next, ..Repository::default() }
        })
    }

    fn is_held(&self, digest: &Digest) -> bool {
        self.repositories.values().any(|repository| repository.has(digest))
    }

    /// The blob, if that repository may read it.
    fn readable(&self, repo: &RepositoryName, digest: &Digest) -> Option<BlobRecord> {
        let repository = self.repositories.get(repo)?;
        let record = self.blob_record(digest).filter(|_| repository.links.contains_key(digest))?;
        (record.state == BlobState::Live).then_some(record)
    }

    fn is_live(&self, digest: &Digest) -> bool {
        self.contents.get(digest).is_some_and(|content| content.state == BlobState::Live)
    }

    fn link(&mut self, repo: &RepositoryName, digest: Digest, moment: Moment) {
        let eligible_uptime_seconds = moment.eligible_uptime_seconds;
        let link = Link { eligible_uptime_seconds, condemned: false };
        self.repository(repo).links.insert(digest, link);
    }

    fn remove_link(&mut self, repo: &RepositoryName, digest: &Digest, moment: Moment, at: u64) {
        if let Some(repository) = self.repositories.get_mut(repo) {
            repository.links.remove(digest);
        }
        self.let_go(digest, at);
        self.settle(repo, moment);
    }

    /// Whether there was such a manifest.
    fn remove_manifest(
        &mut self,
        repo: &RepositoryName,
        digest: &Digest,
        moment: Moment,
        at: u64,
    ) -> bool {
        let Some(repository) = self.repositories.get_mut(repo) else { return false };
        let Some(manifest) = repository.manifests.remove(digest) else { return false };
        repository.tags.retain(|_, (target, _)| target != digest);
        repository.disuse(&manifest.edges, moment);
        repository.set_orphaned(digest, true);
        self.let_go(digest, at);
        self.settle(repo, moment);
        true
    }

    /// A repository let go of a content: only manifests keep an inline copy beside their file,
    /// and the grace of what nobody has starts.
    fn let_go(&mut self, digest: &Digest, eligible_uptime_seconds: u64) {
        let is_held = self.is_held(digest);
        let is_manifest = self.is_manifest(digest);
        let Some(content) = self.contents.get_mut(digest) else { return };
        if content.has_file && !is_manifest {
            content.inline = None;
        }
        if !is_held {
            content.eligible_uptime_seconds = eligible_uptime_seconds;
        }
    }

    fn is_manifest(&self, digest: &Digest) -> bool {
        self.repositories.values().any(|repository| repository.manifests.contains_key(digest))
    }

    /// A digest names one length.
    fn check_size(&self, digest: &Digest, size_bytes: u64) -> Result<()> {
        match self.contents.get(digest) {
            Some(content) if content.size_bytes != size_bytes => Err(Error::Corrupt(format!(
                "{digest} is stored with {} bytes, but has {size_bytes}",
                content.size_bytes
            ))),
            _ => Ok(()),
        }
    }

    fn blob_record(&self, digest: &Digest) -> Option<BlobRecord> {
        let content = self.contents.get(digest)?;
        let has = |repository: &&Repository| repository.has(digest);
        Some(BlobRecord {
            size_bytes: content.size_bytes,
            place: content.place(),
            state: content.state,
            repositories: self.repositories.values().filter(has).count() as u64,
        })
    }

    /// A content arrives, as a blob or as a manifest; `None`: its file is durable.
    fn store(&mut self, digest: Digest, size_bytes: u64, inline: Option<Bytes>, as_manifest: bool) {
        let is_manifest = self.is_manifest(&digest);
        let content = self.contents.entry(digest).or_insert(Content {
            size_bytes,
            state: BlobState::Live,
            has_file: false,
            inline: None,
            eligible_uptime_seconds: 0,
        });
        let was_live = content.state == BlobState::Live;
        content.state = BlobState::Live;
        match inline {
            None if !content.has_file => {
                content.has_file = true;
                content.inline = content.inline.take().filter(|_| is_manifest);
            }
            None => {}
            Some(bytes) => {
                content.has_file &= was_live;
                if as_manifest || !content.has_file {
                    content.inline = Some(bytes);
                }
            }
        }
    }

    fn resolve(&self, repo: &RepositoryName, reference: &Reference) -> Option<&Manifest> {
        let repository = self.repositories.get(repo)?;
        let digest = match reference {
            Reference::Digest(digest) => digest,
            Reference::Tag(tag) => &repository.tags.get(tag)?.0,
        };
        repository.manifests.get(digest).filter(|_| self.is_live(digest))
    }

    fn refuse(&self, push: &PushManifest) -> Option<PutManifest> {
        let repository = self.repositories.get(&push.repository);
        let has = |edge: &Edge| {
            let repository = repository?;
            if edge.kind == EdgeKind::Child
                && let Some(manifest) = repository.manifests.get(&edge.digest)
            {
                return self.is_live(&edge.digest).then_some(manifest.record.size_bytes);
            }
            self.readable(&push.repository, &edge.digest).map(|record| record.size_bytes)
        };
        let missing = push.edges.iter().filter(|edge| !edge.optional && has(edge).is_none());
        let missing: BTreeSet<_> = missing.map(|edge| edge.digest).collect();
        if !missing.is_empty() {
            return Some(PutManifest::Missing(missing.into_iter().collect()));
        }
        for edge in &push.edges {
            let Some(stored_size_bytes) = has(edge) else { continue };
            if stored_size_bytes != edge.size_bytes {
                return Some(PutManifest::SizeMismatch { digest: edge.digest, stored_size_bytes });
            }
        }
        let current = |tag: &Tag| Some(repository?.tags.get(tag)?.0);
        let holds = if push.tags.is_empty() {
            let known = repository.is_some_and(|r| r.manifests.contains_key(&push.digest));
            push.expect.holds_for(known.then_some(&push.digest))
        } else {
            push.tags.iter().all(|tag| push.expect.holds_for(current(tag).as_ref()))
        };
        (!holds).then_some(PutManifest::Unexpected)
    }
}

/// The first `limit` of sorted items, and whether there are more.
fn page<T>(mut items: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let taken = items.by_ref().take(limit).collect();
    Page { items: taken, more: items.next().is_some() }
}

fn after<T: Ord + Clone>(bound: Option<&T>) -> (Bound<T>, Bound<T>) {
    (bound.cloned().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

#[async_trait]
impl MetaStore for MemoryMeta {
    async fn repositories(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RepositoryName>> {
        let facts = self.read();
        let names = facts.repositories.iter().filter(|(_, repo)| !repo.manifests.is_empty());
        let names = names.map(|(name, _)| name.clone());
        Ok(page(names.filter(|name| after.is_none_or(|after| name.as_str() > after)), limit))
    }

    async fn repository(&self, name: &RepositoryName) -> Result<Option<RepositoryRecord>> {
        let facts = self.read();
        Ok(facts.repositories.get(name).map(|repository| {
            let sizes = repository.links.keys().filter_map(|digest| facts.contents.get(digest));
            let manifests = repository.manifests.values().map(|m| m.record.size_bytes);
            RepositoryRecord {
                id: repository.id,
                manifests: repository.manifests.len() as u64,
                tags: repository.tags.len() as u64,
                blobs: repository.links.len() as u64,
                size_bytes: sizes.map(|c| c.size_bytes).sum::<u64>() + manifests.sum::<u64>(),
            }
        }))
    }

    async fn blob(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(BlobRecord, Standing)>> {
        let facts = self.read();
        let standing = facts.repositories.get(repo).and_then(|r| r.link_standing(digest));
        Ok(facts.readable(repo, digest).zip(standing))
    }

    async fn stored(&self, digest: &Digest) -> Result<Option<BlobRecord>> {
        Ok(self.read().blob_record(digest))
    }

    async fn small_content(&self, digest: &Digest) -> Result<Option<Bytes>> {
        Ok(self.read().contents.get(digest).and_then(|content| content.inline.clone()))
    }

    async fn blobs(
        &self,
        repo: &RepositoryName,
        after_digest: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<(Digest, BlobRecord)>> {
        let facts = self.read();
        let links = facts.repositories.get(repo).into_iter();
        let links = links.flat_map(|r| r.links.range(after(after_digest)));
        Ok(page(links.filter_map(|(d, _)| Some((*d, facts.readable(repo, d)?))), limit))
    }

    async fn repositories_with_blob(
        &self,
        digest: &Digest,
        after: Option<&RepositoryName>,
        limit: usize,
    ) -> Result<Page<RepositoryName>> {
        let facts = self.read();
        let start = match after.map(|after| facts.repositories.get(after)) {
            Some(Some(repository)) => repository.id,
            Some(None) => u64::MAX,
            None => 0,
        };
        let readers =
            facts.repositories.iter().filter(|(name, _)| facts.readable(name, digest).is_some());
        let mut readers: Vec<_> = readers.map(|(name, reader)| (reader.id, name.clone())).collect();
        readers.sort_unstable();
        let rest = readers.into_iter().filter(|(id, _)| *id > start);
        Ok(page(rest.map(|(_, name)| name), limit))
    }

    async fn link_blob(&self, link: LinkBlob) -> Result<()> {
        let mut facts = self.write();
        facts.check_size(&link.digest, link.size_bytes)?;
        facts.store(link.digest, link.size_bytes, link.content, false);
        facts.link(&link.repository, link.digest, link.moment);
        if let Some(id) = link.upload {
            facts.uploads.remove(&id);
        }
        Ok(())
    }

    async fn mount_blob(&self, mount: MountBlob) -> Result<bool> {
        let mut facts = self.write();
        if facts.readable(&mount.from, &mount.digest).is_none() {
            return Ok(false);
        }
        facts.link(&mount.to, mount.digest, mount.moment);
        Ok(true)
    }

    async fn unlink_blob(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        moment: Moment,
    ) -> Result<UnlinkBlob> {
        let mut facts = self.write();
        if facts.readable(repo, digest).is_none() {
            return Ok(UnlinkBlob::Unknown);
        }
        if facts.repository(repo).is_needed(digest) {
            return Ok(UnlinkBlob::Referenced);
        }
        facts.remove_link(repo, digest, moment, moment.eligible_uptime_seconds);
        Ok(UnlinkBlob::Removed)
    }

    async fn manifest(
        &self,
        repo: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<(ManifestRecord, Option<Bytes>)>> {
        let facts = self.read();
        Ok(facts.resolve(repo, reference).map(|manifest| {
            let content = facts.contents.get(&manifest.record.digest);
            (manifest.record(), content.and_then(|content| content.inline.clone()))
        }))
    }

    async fn stat_manifest(
        &self,
        repo: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestRecord>> {
        Ok(self.read().resolve(repo, reference).map(|manifest| manifest.record()))
    }

    async fn manifests(
        &self,
        repo: &RepositoryName,
        after_digest: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<ManifestRecord>> {
        let facts = self.read();
        let manifests = facts.repositories.get(repo).into_iter();
        let manifests = manifests.flat_map(|r| r.manifests.range(after(after_digest)));
        Ok(page(manifests.map(|(_, manifest)| manifest.record()), limit))
    }

    async fn put_manifest(&self, push: PushManifest) -> Result<PutManifest> {
        let mut facts = self.write();
        if let Some(refusal) = facts.refuse(&push) {
            return Ok(refusal);
        }
        facts.check_size(&push.digest, push.size_bytes)?;
        facts.store(push.digest, push.size_bytes, push.content.clone(), true);
        let repository = facts.repository(&push.repository);
        for tag in &push.tags {
            let target = repository.tags.entry(tag.clone());
            let target = target.or_insert((push.digest, push.moment.time));
            if target.0 != push.digest {
                *target = (push.digest, push.moment.time);
            }
        }
        repository.set_orphaned(&push.digest, false);
        let (name, moment) = (push.repository.clone(), push.moment);
        repository.replace(push);
        facts.settle(&name, moment);
        Ok(PutManifest::Stored)
    }

    async fn delete_manifest(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        moment: Moment,
    ) -> Result<bool> {
        let at = moment.eligible_uptime_seconds;
        Ok(self.write().remove_manifest(repo, digest, moment, at))
    }

    async fn tags(
        &self,
        repo: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<TagRecord>>> {
        let facts = self.read();
        let repository = facts.repositories.get(repo).filter(|r| !r.manifests.is_empty());
        Ok(repository.map(|repository| {
            let tags = repository.tags.iter();
            let tags = tags.filter(|(tag, _)| after.is_none_or(|after| tag.as_str() > after));
            let record = |(tag, (digest, time)): (&Tag, &(Digest, Timestamp))| TagRecord {
                tag: tag.clone(),
                digest: *digest,
                updated_at: *time,
            };
            page(tags.map(record), limit)
        }))
    }

    async fn tags_of(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        after_tag: Option<&Tag>,
        limit: usize,
    ) -> Result<Page<Tag>> {
        let facts = self.read();
        let tags = facts.repositories.get(repo).into_iter();
        let tags = tags.flat_map(|r| r.tags.range(after(after_tag)));
        Ok(page(tags.filter(|(_, (d, _))| d == digest).map(|(tag, _)| tag.clone()), limit))
    }

    async fn delete_tag(&self, repo: &RepositoryName, tag: &Tag, moment: Moment) -> Result<bool> {
        let mut facts = self.write();
        let found = facts.repositories.get_mut(repo).and_then(|r| r.tags.remove(tag));
        facts.settle(repo, moment);
        Ok(found.is_some())
    }

    async fn referrers(
        &self,
        repo: &RepositoryName,
        subject: &Digest,
        artifact_types: &[String],
        after_digest: Option<&Digest>,
        size_bytes_max: usize,
    ) -> Result<Page<Descriptor>> {
        let facts = self.read();
        let manifests = facts.repositories.get(repo).into_iter();
        let mut wanted = manifests
            .flat_map(|r| r.manifests.range(after(after_digest)))
            .filter(|(_, manifest)| manifest.record.subject == Some(*subject))
            .map(|(_, manifest)| &manifest.descriptor)
            .filter(|d| {
                artifact_types.is_empty()
                    || d.artifact_type.as_ref().is_some_and(|own| artifact_types.contains(own))
            })
            .peekable();
        let (mut items, mut size_bytes) = (Vec::new(), 0);
        while let Some(descriptor) = wanted.peek() {
            size_bytes += descriptor.json_size_bytes();
            if size_bytes > size_bytes_max && !items.is_empty() {
                break;
            }
            items.extend(wanted.next().cloned());
        }
        Ok(Page { items, more: wanted.peek().is_some() })
    }

    async fn upload(&self, id: UploadId) -> Result<Option<UploadRecord>> {
        Ok(self.read().uploads.get(&id).cloned())
    }

    async fn uploads(
        &self,
        started_before_uptime_seconds: u64,
        after: Option<(u64, UploadId)>,
        limit: usize,
    ) -> Result<Vec<UploadRecord>> {
        let facts = self.read();
        let key = |upload: &UploadRecord| (upload.started_uptime_seconds, upload.id);
        let old = facts.uploads.values();
        let old = old.filter(|u| u.started_uptime_seconds < started_before_uptime_seconds);
        let mut old: Vec<_> =
            old.filter(|u| after.is_none_or(|after| key(u) > after)).cloned().collect();
        old.sort_by_key(key);
        old.truncate(limit);
        Ok(old)
    }

    async fn save_upload(&self, upload: UploadRecord) -> Result<()> {
        self.write().uploads.insert(upload.id, upload);
        Ok(())
    }

    async fn forget_upload(&self, id: UploadId) -> Result<()> {
        self.write().uploads.remove(&id);
        Ok(())
    }

    async fn garbage(
        &self,
        queue: GcQueue,
        eligible_before_uptime_seconds: u64,
        after: Option<&Candidate>,
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        Ok(self.read().candidates(queue, eligible_before_uptime_seconds, after, limit))
    }

    async fn waiting(
        &self,
        eligible_before_uptime_seconds: u64,
        untagged_before_uptime_seconds: u64,
    ) -> Result<Waiting> {
        let before = [eligible_before_uptime_seconds, untagged_before_uptime_seconds];
        Ok(self.read().waiting(before))
    }

    async fn explain(&self, digest: &Digest, limit: usize) -> Result<Option<Explanation>> {
        Ok(self.read().explain(digest, limit))
    }

    async fn condemn(&self, batch: Vec<Candidate>) -> Result<Vec<Candidate>> {
        Ok(self.write().condemn(batch))
    }

    async fn spare(&self, batch: Vec<Candidate>, eligible_uptime_seconds: u64) -> Result<()> {
        self.write().spare(&batch, eligible_uptime_seconds);
        Ok(())
    }

    async fn collect(&self, batch: Vec<Candidate>, moment: Moment) -> Result<Collected> {
        Ok(self.write().collect(&batch, moment))
    }

    async fn forget_contents(&self, digests: Vec<Digest>) -> Result<Amount> {
        Ok(self.write().forget(&digests))
    }

    async fn revive(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        usage: Use,
        moment: Moment,
    ) -> Result<bool> {
        self.write().revive(repo, digest, usage, moment)
    }

    async fn unspilled(
        &self,
        after: Option<&Digest>,
        limit: usize,
        size_bytes_max: usize,
    ) -> Result<Vec<(Digest, Bytes)>> {
        let facts = self.read();
        let mut size_bytes = 0;
        let contents = facts.contents.range(self::after(after));
        let is_pending = |c: &Content| !c.has_file && c.state != BlobState::Unlinking;
        let unspilled = contents.filter(|(_, content)| is_pending(content));
        let unspilled = unspilled.filter_map(|(d, content)| Some((*d, content.inline.clone()?)));
        let fits = |(_, bytes): &(Digest, Bytes)| {
            let first = size_bytes == 0;
            size_bytes += bytes.len().max(1);
            first || size_bytes <= size_bytes_max
        };
        Ok(unspilled.take(limit).take_while(fits).collect())
    }

    async fn mark_spilled(&self, digests: Vec<Digest>) -> Result<()> {
        let mut facts = self.write();
        for digest in digests {
            let is_manifest = facts.is_manifest(&digest);
            let content = facts.contents.get_mut(&digest);
            let pending = content.filter(|c| c.has_file || c.state != BlobState::Unlinking);
            let Some(content) = pending else { continue };
            content.has_file = true;
            if !is_manifest {
                content.inline = None;
            }
        }
        Ok(())
    }

    async fn advance_uptime(&self, seconds: u64) -> Result<()> {
        self.write().counters.uptime_seconds += seconds;
        Ok(())
    }

    async fn counters(&self) -> Result<Counters> {
        Ok(self.read().counters)
    }

    async fn store_id(&self) -> Result<Option<[u8; 16]>> {
        Ok(self.read().store_id)
    }

    async fn set_store_id(&self, id: [u8; 16]) -> Result<()> {
        self.write().store_id = Some(id);
        Ok(())
    }

    async fn contents(
        &self,
        shard: Shard,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<(Digest, BlobRecord)>> {
        Ok(self.read().contents(shard, after, limit))
    }

    async fn judge(&self, digest: &Digest, file_is_right: bool) -> Result<Verdict> {
        Ok(self.write().judge(digest, file_is_right))
    }

    async fn check_facts(&self) -> Result<Vec<Finding>> {
        Ok(self.check())
    }

    async fn rebuild_facts(&self, _eligible_uptime_seconds: u64) -> Result<u64> {
        // Here whatever follows from other facts is worked out at every question.
        Ok(0)
    }

    async fn scrub(&self) -> Result<ScrubRecord> {
        Ok(self.read().scrub)
    }

    async fn save_scrub(&self, scrub: ScrubRecord) -> Result<()> {
        self.write().scrub = scrub;
        Ok(())
    }

    fn is_poisoned(&self) -> bool {
        false
    }

    fn uses_reserve(&self) -> bool {
        self.uses_reserve.load(Ordering::Relaxed)
    }
}
