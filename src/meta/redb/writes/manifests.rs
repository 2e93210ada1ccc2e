//! Manifests arrive and go, with their references, referrers and tags.
//!
//! An edge is recorded for every reference, also for an optional one whose content is missing:
//! content that arrives later is then held from its first moment.

use std::collections::BTreeSet;

use super::super::super::{Edge, EdgeKind, Moment, PushManifest, PutManifest, Result, Use};
use super::super::codec::{ContentRow, Key, ManifestRow, Mark, Reader, References};
use super::super::rows;
use super::super::tables::Tables;
use super::repositories::{Repository, lower};
use super::{Decision, Operation};
use crate::oci::{Digest, RepositoryName, Tag};

fn manifest_key(id: u64, digest: &Digest) -> Key {
    Key::number(id).and_digest(digest)
}

fn referrer_key(id: u64, subject: &Digest, digest: &Digest) -> Key {
    Key::number(id).and_digest(subject).and_digest(digest)
}

fn edge_key(id: u64, child: &Digest, kind: EdgeKind, parent: &Digest) -> Key {
    Key::number(id).and_digest(child).and_kind(kind).and_digest(parent)
}

/// [`super::super::super::MetaStore::put_manifest`]
pub struct Put(pub PushManifest);

/// What is stored of the same manifest already.
#[derive(Debug, Default)]
pub struct Stored {
    row: Option<ManifestRow>,
    references: Option<References>,
}

impl Operation for Put {
    type Plan = Stored;
    type Answer = PutManifest;

    fn content_size_bytes(&self) -> usize {
        self.0.content.as_ref().map_or(0, bytes::Bytes::len)
    }

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Stored, PutManifest>> {
        let id = rows::id_of(&tables.repository_ids, &self.0.repository)?;
        if let Some(refusal) = self.refused_by_edges(id, tables)? {
            return Ok(Decision::Answer(refusal));
        }
        if !self.is_expected(id, tables)? {
            return Ok(Decision::Answer(PutManifest::Unexpected));
        }
        tables.check_size(&self.0.digest, self.0.size_bytes)?;
        Ok(Decision::Apply(match id {
            Some(id) => tables.stored_manifest(id, &self.0.digest)?,
            None => Stored::default(),
        }))
    }

    fn apply(&self, stored: Stored, tables: &mut Tables<'_>) -> Result<PutManifest> {
        let push = &self.0;
        let mut repository = tables.repository_or_new(&push.repository)?;
        let id = repository.id;
        let content = push.content.as_deref();
        let row = tables.arrive(&push.digest, push.size_bytes, content, Use::Manifest)?;
        tables.hold(row, &push.digest, id, Use::Manifest)?;
        let is_new = stored.row.is_none();
        if is_new {
            let counters = &mut repository.row;
            counters.manifests = counters.manifests.saturating_add(1);
            counters.size_bytes = counters.size_bytes.saturating_add(push.size_bytes);
        }
        tables.replace_subject(id, push, stored.row)?;
        tables.replace_references(id, push, stored.references)?;
        if is_new {
            // Of a subject that was there nothing is orphaned (M7), however much refers to it.
            tables.set_orphaned_referrers(id, &push.digest, false, push.moment)?;
        }
        for tag in &push.tags {
            tables.move_tag(&mut repository, tag, &push.digest, push.moment)?;
        }
        tables.reassess(id, &push.digest, push.moment)?;
        tables.save_repository(&repository)?;
        Ok(PutManifest::Stored)
    }
}

impl Put {
    /// Missing content before wrong lengths: the one is for the client to push, the other to
    /// correct.
    fn refused_by_edges(
        &self,
        id: Option<u64>,
        tables: &Tables<'_>,
    ) -> Result<Option<PutManifest>> {
        let mut missing = BTreeSet::new();
        let mut mismatch = None;
        for edge in &self.0.edges {
            match stored_size_bytes(id, edge, tables)? {
                None if !edge.optional => {
                    missing.insert(edge.digest);
                }
                Some(stored_size_bytes) if stored_size_bytes != edge.size_bytes => {
                    let digest = edge.digest;
                    mismatch.get_or_insert(PutManifest::SizeMismatch { digest, stored_size_bytes });
                }
                _ => {}
            }
        }
        if missing.is_empty() {
            return Ok(mismatch);
        }
        Ok(Some(PutManifest::Missing(missing.into_iter().collect())))
    }

    fn is_expected(&self, id: Option<u64>, tables: &Tables<'_>) -> Result<bool> {
        let PushManifest { digest, tags, expect, .. } = &self.0;
        if tags.is_empty() {
            let found = match id {
                Some(id) => rows::has(&tables.manifests, &manifest_key(id, digest))?,
                None => false,
            };
            return Ok(expect.holds_for(found.then_some(digest)));
        }
        for tag in tags {
            let found = match id {
                Some(id) => tables.tag(id, tag)?.map(|row| row.digest),
                None => None,
            };
            if !expect.holds_for(found.as_ref()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The length of what an edge refers to; `None` when the repository does not have it.
fn stored_size_bytes(id: Option<u64>, edge: &Edge, tables: &Tables<'_>) -> Result<Option<u64>> {
    let Some(id) = id else {
        return Ok(None);
    };
    if edge.kind == EdgeKind::Child
        && rows::has(&tables.manifests, &manifest_key(id, &edge.digest))?
    {
        return Ok(tables.live(&edge.digest)?.map(|row| row.record.size_bytes));
    }
    Ok(tables.readable(id, &edge.digest)?.map(|row| row.record.size_bytes))
}

impl Tables<'_> {
    fn stored_manifest(&self, id: u64, digest: &Digest) -> Result<Stored> {
        let key = manifest_key(id, digest);
        Ok(Stored {
            row: rows::get(&self.manifests, &key)?,
            references: rows::get(&self.references, &key)?,
        })
    }

    /// Stores the manifest's row and its entry among referrers. Pushed anew, it is wanted, with or
    /// without its subject; the caller reassesses it.
    fn replace_subject(
        &mut self,
        id: u64,
        push: &PushManifest,
        stored: Option<ManifestRow>,
    ) -> Result<()> {
        if let Some(mut stored) = stored {
            self.dequeue_manifest(id, &push.digest, &mut stored)?;
            if let Some(subject) = stored.subject.filter(|subject| push.subject != Some(*subject)) {
                rows::remove(&mut self.referrers, &referrer_key(id, &subject, &push.digest))?;
            }
        }
        if let Some(subject) = &push.subject {
            let key = referrer_key(id, subject, &push.digest);
            rows::put(&mut self.referrers, &key, &push.descriptor())?;
        }
        let row = ManifestRow {
            media_type: push.media_type.clone(),
            size_bytes: push.size_bytes,
            subject: push.subject,
            artifact_type: push.artifact_type.clone(),
            config_type: push.config_type.clone(),
            pushed_at: push.moment.time,
            eligible_uptime_seconds: None,
            orphaned: false,
            condemned: false,
        };
        rows::put(&mut self.manifests, &manifest_key(id, &push.digest), &row)
    }

    /// Replaces the manifest's edges; the same document read by another release may have others.
    fn replace_references(
        &mut self,
        id: u64,
        push: &PushManifest,
        found: Option<References>,
    ) -> Result<()> {
        let wanted: BTreeSet<_> = push.edges.iter().map(|edge| (edge.digest, edge.kind)).collect();
        let stored: BTreeSet<_> = found.iter().flat_map(|found| found.0.iter().copied()).collect();
        for (child, kind) in wanted.difference(&stored) {
            rows::put(&mut self.edges, &edge_key(id, child, *kind, &push.digest), &Mark)?;
            self.use_link(id, child)?;
            if *kind == EdgeKind::Child {
                self.reassess(id, child, push.moment)?;
            }
        }
        let gone: Vec<_> = stored.difference(&wanted).copied().collect();
        self.remove_edges(id, &push.digest, &gone, push.moment)?;
        if found.is_none() || wanted != stored {
            let references = References(wanted.into_iter().collect());
            rows::put(&mut self.references, &manifest_key(id, &push.digest), &references)?;
        }
        Ok(())
    }

    fn remove_edges(
        &mut self,
        id: u64,
        parent: &Digest,
        edges: &[(Digest, EdgeKind)],
        moment: Moment,
    ) -> Result<()> {
        for (child, kind) in edges {
            rows::remove(&mut self.edges, &edge_key(id, child, *kind, parent))?;
        }
        let children: BTreeSet<_> = edges.iter().map(|(child, _)| child).collect();
        for child in children {
            self.disuse_link(id, child, moment)?;
            self.reassess(id, child, moment)?;
        }
        Ok(())
    }

    /// The subject of the manifests attached to `subject` was deleted, or has come.
    fn set_orphaned_referrers(
        &mut self,
        id: u64,
        subject: &Digest,
        orphaned: bool,
        moment: Moment,
    ) -> Result<()> {
        let prefix = Key::number(id).and_digest(subject);
        let mut referrers = Vec::new();
        rows::each_after(&self.referrers, &prefix, None, |key, _| {
            referrers.push(Reader::referrer_key(key)?.2);
            Ok(true)
        })?;
        referrers.iter().try_for_each(|found| self.set_orphaned(id, found, orphaned, moment))
    }

    fn tags_of(&self, id: u64, digest: &Digest) -> Result<Vec<Tag>> {
        let prefix = manifest_key(id, digest);
        let mut tags = Vec::new();
        rows::each_after(&self.tags_by_manifest, &prefix, None, |key, _| {
            tags.push(Reader::tag_by_manifest_key(key)?.2);
            Ok(true)
        })?;
        Ok(tags)
    }
}

/// [`super::super::super::MetaStore::delete_manifest`]
pub struct DeleteManifest {
    pub repository: RepositoryName,
    pub digest: Digest,
    pub moment: Moment,
}

/// A manifest that is to go.
#[derive(Debug)]
pub struct Doomed {
    repository: Repository,
    row: ManifestRow,
    references: References,
    tags: Vec<Tag>,
}

impl Operation for DeleteManifest {
    type Plan = Doomed;
    type Answer = bool;

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Doomed, bool>> {
        let Some(repository) = tables.repository(&self.repository)? else {
            return Ok(Decision::Answer(false));
        };
        if !rows::has(&tables.manifests, &manifest_key(repository.id, &self.digest))? {
            return Ok(Decision::Answer(false));
        }
        Ok(Decision::Apply(tables.doomed(repository, &self.digest)?))
    }

    fn apply(&self, doomed: Doomed, tables: &mut Tables<'_>) -> Result<bool> {
        let eligible = self.moment.eligible_uptime_seconds;
        tables.remove_manifest(doomed, &self.digest, self.moment, eligible)?;
        Ok(true)
    }
}

impl Tables<'_> {
    /// A manifest that is there, and what goes with it.
    pub(super) fn doomed(&self, repository: Repository, digest: &Digest) -> Result<Doomed> {
        let key = manifest_key(repository.id, digest);
        Ok(Doomed {
            row: rows::must_get(&self.manifests, &key)?,
            references: rows::get(&self.references, &key)?.unwrap_or_default(),
            tags: self.tags_of(repository.id, digest)?,
            repository,
        })
    }

    /// Removes a manifest. What loses its last use by it waits until `moment`; its own content, if
    /// nobody else has it, until `eligible`.
    pub(super) fn remove_manifest(
        &mut self,
        doomed: Doomed,
        digest: &Digest,
        moment: Moment,
        eligible: u64,
    ) -> Result<ContentRow> {
        let Doomed { mut repository, mut row, references, tags } = doomed;
        let id = repository.id;
        for tag in &tags {
            self.remove_tag(&mut repository, tag, digest)?;
        }
        self.dequeue_manifest(id, digest, &mut row)?;
        rows::remove(&mut self.manifests, &manifest_key(id, digest))?;
        rows::remove(&mut self.references, &manifest_key(id, digest))?;
        if let Some(subject) = &row.subject {
            rows::remove(&mut self.referrers, &referrer_key(id, subject, digest))?;
        }
        self.remove_edges(id, digest, &references.0, moment)?;
        self.set_orphaned_referrers(id, digest, true, moment)?;
        let content = self.release(digest, id, Use::Manifest, eligible)?;
        lower(&mut repository.row.manifests, 1)?;
        lower(&mut repository.row.size_bytes, row.size_bytes)?;
        self.save_repository(&repository)?;
        Ok(content)
    }
}
