//! Keys: parts one after the other, each of a length that its beginning tells; a tag comes last.

use super::super::super::{EdgeKind, Garbage, Result};
use super::{Reader, put_digest, put_u64};
use crate::oci::{Digest, Shard, Tag, UploadId};

/// A key being put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Starts with a repository id, a time or a count of seconds.
    pub fn number(number: u64) -> Self {
        Self::default().and_number(number)
    }

    /// Starts with a digest.
    pub fn digest(digest: &Digest) -> Self {
        Self::default().and_digest(digest)
    }

    /// The beginning of all digests of a shard.
    pub fn shard(shard: Shard) -> Self {
        Self(vec![super::algorithm_code(shard.algorithm), shard.first_byte])
    }

    /// Starts with an upload id.
    pub fn upload(id: UploadId) -> Self {
        Self::default().and_upload(id)
    }

    /// Goes on with a number.
    pub fn and_number(mut self, number: u64) -> Self {
        put_u64(&mut self.0, number);
        self
    }

    /// Goes on with a digest.
    pub fn and_digest(mut self, digest: &Digest) -> Self {
        put_digest(&mut self.0, digest);
        self
    }

    /// Goes on with the kind of an edge.
    pub fn and_kind(mut self, kind: EdgeKind) -> Self {
        self.0.push(edge_kind_code(kind));
        self
    }

    /// Goes on with the kind of a row of `gc_queue`.
    pub fn and_garbage(mut self, garbage: Garbage) -> Self {
        self.0.push(garbage.code());
        self
    }

    /// Goes on with an upload id.
    pub fn and_upload(mut self, id: UploadId) -> Self {
        self.0.extend_from_slice(id.as_bytes());
        self
    }

    /// Ends with a tag, or with any text that sorts among tags.
    pub fn and_tag(mut self, tag: &str) -> Self {
        self.0.extend_from_slice(tag.as_bytes());
        self
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// The first key after all that begin with `prefix`. Prefixes begin with an id or a digest,
/// neither of which is all ones.
pub fn end_of(prefix: &Key) -> Key {
    let mut end = prefix.0.clone();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    Key(end)
}

impl Garbage {
    const ALL: [Self; 3] = [Self::Link, Self::Referrer, Self::Content];

    /// Never changes: it is in keys of `gc_queue`, where untagged manifests are not.
    const fn code(self) -> u8 {
        match self {
            Self::Link => 0,
            Self::Referrer => 1,
            Self::Content => 2,
            Self::Untagged => u8::MAX,
        }
    }
}

const EDGE_KINDS: [EdgeKind; 3] = [EdgeKind::Config, EdgeKind::Layer, EdgeKind::Child];

/// Never changes: it is in keys.
pub(super) const fn edge_kind_code(kind: EdgeKind) -> u8 {
    match kind {
        EdgeKind::Config => 0,
        EdgeKind::Layer => 1,
        EdgeKind::Child => 2,
    }
}

impl Reader<'_> {
    /// The kind of an edge.
    pub fn edge_kind(&mut self) -> Result<EdgeKind> {
        let code = self.u8()?;
        let found = EDGE_KINDS.into_iter().find(|kind| edge_kind_code(*kind) == code);
        found.ok_or_else(|| self.damaged("has an unknown kind of reference"))
    }

    /// The kind of a row of `gc_queue`.
    pub fn garbage(&mut self) -> Result<Garbage> {
        let code = self.u8()?;
        let found = Garbage::ALL.into_iter().find(|garbage| garbage.code() == code);
        found.ok_or_else(|| self.damaged("has an unknown kind of garbage"))
    }

    /// A key of `tags`: repository id, tag.
    pub fn tag_key(key: &[u8]) -> Result<(u64, Tag)> {
        let mut reader = Reader::new("a key of tags", key);
        Ok((reader.u64()?, reader.tag()?))
    }

    /// A key of `tags_by_manifest`: repository id, digest, tag.
    pub fn tag_by_manifest_key(key: &[u8]) -> Result<(u64, Digest, Tag)> {
        let mut reader = Reader::new("a key of tags_by_manifest", key);
        Ok((reader.u64()?, reader.digest()?, reader.tag()?))
    }

    /// A key of a number and a digest.
    pub fn number_digest_key(what: &'static str, key: &[u8]) -> Result<(u64, Digest)> {
        let mut reader = Reader::new(what, key);
        let parts = (reader.u64()?, reader.digest()?);
        reader.end()?;
        Ok(parts)
    }

    /// A key of a digest alone.
    pub fn digest_key(what: &'static str, key: &[u8]) -> Result<Digest> {
        let mut reader = Reader::new(what, key);
        let digest = reader.digest()?;
        reader.end()?;
        Ok(digest)
    }

    /// A key of `blob_repositories`: digest, repository id.
    pub fn digest_number_key(what: &'static str, key: &[u8]) -> Result<(Digest, u64)> {
        let mut reader = Reader::new(what, key);
        let parts = (reader.digest()?, reader.u64()?);
        reader.end()?;
        Ok(parts)
    }

    /// A key of `referrers`: repository id, subject, referrer.
    pub fn referrer_key(key: &[u8]) -> Result<(u64, Digest, Digest)> {
        let mut reader = Reader::new("a key of referrers", key);
        let parts = (reader.u64()?, reader.digest()?, reader.digest()?);
        reader.end()?;
        Ok(parts)
    }

    /// A key of `edges`: repository id, child, kind, parent.
    pub fn edge_key(key: &[u8]) -> Result<(u64, Digest, EdgeKind, Digest)> {
        let mut reader = Reader::new("a key of edges", key);
        let parts = (reader.u64()?, reader.digest()?, reader.edge_kind()?, reader.digest()?);
        reader.end()?;
        Ok(parts)
    }

    /// A key of `gc_queue`: eligible uptime in seconds, repository id, digest, kind.
    pub fn garbage_key(key: &[u8]) -> Result<(u64, u64, Digest, Garbage)> {
        let mut reader = Reader::new("a key of gc_queue", key);
        let parts = (reader.u64()?, reader.u64()?, reader.digest()?, reader.garbage()?);
        reader.end()?;
        Ok(parts)
    }

    /// A key of `untagged_manifests`: eligible uptime in seconds, repository id, digest.
    pub fn untagged_key(key: &[u8]) -> Result<(u64, u64, Digest)> {
        let mut reader = Reader::new("a key of untagged_manifests", key);
        let parts = (reader.u64()?, reader.u64()?, reader.digest()?);
        reader.end()?;
        Ok(parts)
    }

    /// A key of `uploads_by_time`: accumulated uptime in seconds, upload id.
    pub fn upload_time_key(key: &[u8]) -> Result<(u64, UploadId)> {
        let mut reader = Reader::new("a key of uploads_by_time", key);
        let parts = (reader.u64()?, reader.upload_id()?);
        reader.end()?;
        Ok(parts)
    }
}
