//! Manifests: checked as a whole, stored verbatim, in one transaction with their tags.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::{Error, Result};
use super::lease::Lease;
use super::sessions::Session;
use super::{Content, Manifest, PushedManifest, PutManifest, Registry, Sparse};
use crate::meta::{self, Edge, EdgeKind, ManifestRecord, PushManifest, Use};
use crate::oci::manifest::{ChildRef, Manifest as Document};
use crate::oci::{Algorithm, Digest, Reference, RepositoryName, Tag};

impl Registry {
    /// Stores a manifest under its digest and moves its tags to it, all or nothing.
    pub async fn put_manifest(&self, put: PutManifest) -> Result<PushedManifest> {
        self.check_writable()?;
        let (digest, tags) = name(&put)?;
        let document = Document::parse(put.media_type.as_ref(), &put.bytes)
            .map_err(|error| Error::ManifestInvalid(error.to_string()))?;
        self.check_urls(&document)?;
        let edges = self.edges(&document)?;
        let size_bytes = put.bytes.len() as u64;
        let inline = size_bytes <= self.inner.options.small_content_size_bytes_max;
        let push = PushManifest {
            digest,
            size_bytes,
            edges,
            tags,
            subject: document.subject,
            config_type: document.config_type().cloned(),
            artifact_type: document.referrer_type().map(str::to_owned),
            annotations: document.annotations,
            media_type: document.media_type,
            content: inline.then(|| put.bytes.clone()),
            repository: put.repository,
            expect: put.expect,
            moment: self.moment(),
        };
        let subject = push.subject;
        match self.store_manifest(push, put.bytes).await? {
            meta::PutManifest::Stored => {
                self.inner.spill_wanted.notify_one();
                Ok(PushedManifest { digest, subject })
            }
            meta::PutManifest::Missing(digests) => Err(Error::ManifestBlobUnknown(digests)),
            meta::PutManifest::Unexpected => Err(Error::PreconditionFailed),
            meta::PutManifest::SizeMismatch { digest, stored_size_bytes } => {
                Err(Error::ManifestInvalid(format!(
                    "the manifest states another size for {digest}, which has \
                     {stored_size_bytes} bytes"
                )))
            }
        }
    }

    async fn store_manifest(&self, push: PushManifest, bytes: Bytes) -> Result<meta::PutManifest> {
        let mut promise = self.inner.room.promise();
        promise.cover(push.size_bytes).await?;
        let size_bytes = push.size_bytes;
        self.inner.room.check_reserve().await?;
        let stored = if push.content.is_some() {
            let stored = self.inner.meta.put_manifest(push).await;
            if stored.as_ref().is_ok_and(|outcome| *outcome == meta::PutManifest::Stored) {
                self.inner.room.await_file(size_bytes);
            }
            stored.map_err(Error::from)
        } else {
            promise.cover_file().await?;
            self.put_large(push, bytes).await
        };
        promise.written(size_bytes);
        stored.inspect_err(|error| self.inner.room.note(error))
    }

    /// A manifest too large for the database: file first, then facts (R1). What it refers to is
    /// looked up before, so that a refused one leaves no file; the transaction checks again.
    async fn put_large(&self, push: PushManifest, bytes: Bytes) -> Result<meta::PutManifest> {
        let mut missing = Vec::new();
        for edge in push.edges.iter().filter(|edge| !edge.optional) {
            if !self.has(&push.repository, edge).await? {
                missing.push(edge.digest);
            }
        }
        if !missing.is_empty() {
            return Ok(meta::PutManifest::Missing(missing));
        }
        let session = self.private_session(&push.repository, push.digest.algorithm());
        let stored = self.publish_manifest(&session, push, bytes).await;
        // Empty after a publish; if it stays, the next start removes it.
        let _ = self.inner.blobs.discard(session.id).await;
        stored
    }

    async fn publish_manifest(
        &self,
        session: &Session,
        push: PushManifest,
        bytes: Bytes,
    ) -> Result<meta::PutManifest> {
        let digest = push.digest;
        let mut staging = self.inner.blobs.stage(session.id, digest.algorithm()).await?;
        staging.append(vec![bytes]).await?;
        let _stripe = self.publish(staging, &digest).await?;
        let outcome = self.inner.meta.put_manifest(push).await?;
        let refused = outcome != meta::PutManifest::Stored;
        if refused && self.inner.meta.stored(&digest).await?.is_none() {
            // Refused for certain, and nobody else's: under the stripe nobody can have begun to
            // rely on the file.
            self.inner.blobs.remove(&digest).await?;
        }
        Ok(outcome)
    }

    async fn has(&self, repo: &RepositoryName, edge: &Edge) -> Result<bool> {
        if self.inner.meta.blob(repo, &edge.digest).await?.is_some() {
            return Ok(true);
        }
        let reference = Reference::Digest(edge.digest);
        Ok(edge.kind == EdgeKind::Child
            && self.inner.meta.stat_manifest(repo, &reference).await?.is_some())
    }

    /// The manifest with its bytes, exactly as pushed.
    pub async fn manifest(&self, repo: &RepositoryName, reference: &Reference) -> Result<Manifest> {
        let lease = self.lease_of(repo, reference);
        let found = self.inner.meta.manifest(repo, reference).await?;
        let (record, bytes) = found.ok_or(Error::ManifestUnknown)?;
        self.rely_on_manifest(lease, repo, &record).await?;
        let bytes = match bytes {
            Some(bytes) if self.is_served(&record.digest, &bytes) => bytes,
            Some(_) => return Err(Error::ManifestUnknown),
            None => self.read_manifest(&record).await?,
        };
        Ok(with_bytes(record, bytes))
    }

    /// The manifest without its bytes: `bytes` is empty.
    pub async fn stat_manifest(
        &self,
        repo: &RepositoryName,
        reference: &Reference,
    ) -> Result<Manifest> {
        let lease = self.lease_of(repo, reference);
        let record = self.inner.meta.stat_manifest(repo, reference).await?;
        let record = record.ok_or(Error::ManifestUnknown)?;
        self.rely_on_manifest(lease, repo, &record).await?;
        Ok(with_bytes(record, Bytes::new()))
    }

    /// What a tag points at is held by it, and needs no lease (R7).
    fn lease_of(&self, repo: &RepositoryName, reference: &Reference) -> Option<Lease<'_>> {
        match reference {
            Reference::Tag(_) => None,
            Reference::Digest(digest) => Some(self.lease(repo, digest)),
        }
    }

    async fn rely_on_manifest(
        &self,
        lease: Option<Lease<'_>>,
        repo: &RepositoryName,
        record: &ManifestRecord,
    ) -> Result<()> {
        let Some(lease) = lease else { return Ok(()) };
        let standing = (Use::Manifest, record.standing);
        if self.rely_on(lease, repo, &record.digest, standing).await? {
            Ok(())
        } else {
            Err(Error::ManifestUnknown)
        }
    }

    /// Reads a manifest from its file; its size was limited when it was pushed.
    async fn read_manifest(&self, record: &ManifestRecord) -> Result<Bytes> {
        let digest = &record.digest;
        let stored = self.inner.meta.stored(digest).await?.ok_or(Error::ManifestUnknown)?;
        match self.content(digest, &stored).await?.ok_or(Error::ManifestUnknown)? {
            Content::Inline(bytes) => Ok(bytes),
            Content::File(file) => {
                let bytes = file.reader.read(0, file.size_bytes as usize).await?;
                if self.is_served(digest, &bytes) { Ok(bytes) } else { Err(Error::ManifestUnknown) }
            }
        }
    }

    /// Deletes a tag; or a manifest, with all its tags and its entry among referrers.
    pub async fn delete_manifest(
        &self,
        repo: &RepositoryName,
        reference: &Reference,
    ) -> Result<()> {
        self.check_deletable()?;
        let meta = &self.inner.meta;
        let deleted = match reference {
            Reference::Tag(tag) => meta.delete_tag(repo, tag, self.moment()).await?,
            Reference::Digest(digest) => meta.delete_manifest(repo, digest, self.moment()).await?,
        };
        if deleted {
            self.inner.garbage_made.notify_one();
            return Ok(());
        }
        match meta.tags(repo, None, 0).await? {
            Some(_) => Err(Error::ManifestUnknown),
            None => Err(Error::RepositoryUnknown),
        }
    }

    /// What the manifest refers to, each content once per kind.
    fn edges(&self, document: &Document) -> Result<Vec<Edge>> {
        let options = &self.inner.options;
        let sparse_images = matches!(options.sparse, Sparse::Images | Sparse::All);
        let sparse_indexes = matches!(options.sparse, Sparse::Indexes | Sparse::All);
        let configs = document.config.iter().map(|child| (EdgeKind::Config, sparse_images, child));
        let layers = document
            .layers
            .iter()
            .map(|child| (EdgeKind::Layer, sparse_images || child.may_be_elsewhere(), child));
        let children = document.children.iter().map(|child| {
            let optional = sparse_indexes || child.may_be_elsewhere() || !self.is_required(child);
            (EdgeKind::Child, optional, child)
        });
        let mut edges = BTreeMap::new();
        for (kind, optional, child) in configs.chain(layers).chain(children) {
            // Content under an algorithm that is not computed here can never be here.
            let Some(&digest) = child.digest.known() else {
                if optional {
                    continue;
                }
                return Err(Error::ManifestInvalid(format!(
                    "{} is no digest of a supported algorithm",
                    child.digest
                )));
            };
            let edge = Edge { digest, kind, size_bytes: child.size_bytes, optional };
            let known = edges.entry((digest, kind)).or_insert(edge);
            if known.size_bytes != edge.size_bytes {
                return Err(Error::ManifestInvalid(format!("two sizes are stated for {digest}")));
            }
            known.optional &= optional;
        }
        Ok(edges.into_values().collect())
    }

    /// Whether an index's child must exist (`validation.manifests.indexes`).
    fn is_required(&self, child: &ChildRef) -> bool {
        let Some(platforms) = &self.inner.options.platforms else { return true };
        child.platform.as_ref().is_some_and(|of_child| {
            platforms.iter().any(|required| {
                required.architecture == of_child.architecture && required.os == of_child.os
            })
        })
    }

    /// Layers that are to be fetched elsewhere: from where the operator allows
    /// (`validation.manifests.urls`). Nothing here ever fetches one.
    fn check_urls(&self, document: &Document) -> Result<()> {
        let options = &self.inner.options;
        for url in document.layers.iter().flat_map(ChildRef::urls) {
            let allowed = options.urls_allow.is_empty()
                || options.urls_allow.iter().any(|pattern| pattern.is_match(url));
            if !allowed || options.urls_deny.iter().any(|pattern| pattern.is_match(url)) {
                return Err(Error::ManifestInvalid(
                    "a layer has a URL that validation.manifests.urls does not allow".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

/// The digest that the manifest gets, and the tags that move to it.
fn name(put: &PutManifest) -> Result<(Digest, Vec<Tag>)> {
    match &put.reference {
        Reference::Tag(tag) => {
            let digest = Digest::of(Algorithm::Sha256, &put.bytes);
            Ok((digest, vec![tag.clone()]))
        }
        Reference::Digest(digest) => {
            let actual = Digest::of(digest.algorithm(), &put.bytes);
            if actual != *digest {
                return Err(Error::DigestMismatch { actual });
            }
            Ok((actual, put.tags.clone()))
        }
    }
}

fn with_bytes(record: ManifestRecord, bytes: Bytes) -> Manifest {
    Manifest {
        digest: record.digest,
        media_type: record.media_type,
        size_bytes: record.size_bytes,
        bytes,
    }
}
