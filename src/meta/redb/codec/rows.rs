//! Values.

use std::collections::BTreeMap;

use super::super::super::{
    BlobRecord, BlobState, EdgeKind, Garbage, ManifestRecord, Place, RepositoryRecord, Result,
    ScrubRecord, ScrubTotals, Standing, Timestamp, UploadRecord,
};
use super::keys::edge_kind_code;
use super::{Reader, Row, algorithm_code, put_count, put_digest, put_option, put_text, put_u64};
use crate::oci::{Descriptor, Digest, MediaType, RepositoryName};

/// The value of a row that says all in its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark;

impl Row for Mark {
    const NAME: &'static str = "a mark";

    fn write(&self, _: &mut Vec<u8>) {}

    fn read(_: &mut Reader<'_>) -> Result<Self> {
        Ok(Self)
    }
}

/// A row of `gc_queue` or `untagged_manifests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// Length of the content that it is about.
    pub size_bytes: u64,
}

impl Row for Queued {
    const NAME: &'static str = "a row of a queue";

    fn write(&self, bytes: &mut Vec<u8>) {
        put_u64(bytes, self.size_bytes);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { size_bytes: reader.u64()? })
    }
}

/// A number in `schema`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(pub u64);

impl Row for Counter {
    const NAME: &'static str = "a counter";

    fn write(&self, bytes: &mut Vec<u8>) {
        put_u64(bytes, self.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self(reader.u64()?))
    }
}

/// The store that a database belongs to, in `schema`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId(pub [u8; 16]);

impl Row for StoreId {
    const NAME: &'static str = "the store id";

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self(reader.array()?))
    }
}

/// A row of `repositories`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRow {
    /// Its name.
    pub name: RepositoryName,
    /// Manifests in it.
    pub manifests: u64,
    /// Tags in it.
    pub tags: u64,
    /// Blobs that it may read.
    pub blobs: u64,
    /// Bytes of both.
    pub size_bytes: u64,
}

impl RepositoryRow {
    /// A repository without anything in it.
    pub fn new(name: RepositoryName) -> Self {
        Self { name, manifests: 0, tags: 0, blobs: 0, size_bytes: 0 }
    }

    /// What callers see.
    pub fn record(&self, id: u64) -> RepositoryRecord {
        let Self { manifests, tags, blobs, size_bytes, .. } = *self;
        RepositoryRecord { id, manifests, tags, blobs, size_bytes }
    }
}

impl Row for RepositoryRow {
    const NAME: &'static str = "a row of repositories";

    fn write(&self, bytes: &mut Vec<u8>) {
        put_text(bytes, self.name.as_str());
        for number in [self.manifests, self.tags, self.blobs, self.size_bytes] {
            put_u64(bytes, number);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            name: reader.name()?,
            manifests: reader.u64()?,
            tags: reader.u64()?,
            blobs: reader.u64()?,
            size_bytes: reader.u64()?,
        })
    }
}

/// A row of `tags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagRow {
    /// What it points at.
    pub digest: Digest,
    /// Since when.
    pub updated_at: Timestamp,
}

impl Row for TagRow {
    const NAME: &'static str = "a row of tags";

    fn write(&self, bytes: &mut Vec<u8>) {
        put_digest(bytes, &self.digest);
        put_u64(bytes, self.updated_at.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { digest: reader.digest()?, updated_at: Timestamp(reader.u64()?) })
    }
}

/// A row of `manifests`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRow {
    /// Its type, as pushed.
    pub media_type: MediaType,
    /// Its length.
    pub size_bytes: u64,
    /// What it is attached to.
    pub subject: Option<Digest>,
    /// The artifact type that referrers show.
    pub artifact_type: Option<String>,
    /// Media type of its config.
    pub config_type: Option<MediaType>,
    /// When it was last pushed.
    pub pushed_at: Timestamp,
    /// Where it stands in the queue that [`Self::queue`] names; `None`: something holds it.
    pub eligible_uptime_seconds: Option<u64>,
    /// Its subject was deleted.
    pub orphaned: bool,
    /// The collector has chosen it.
    pub condemned: bool,
}

impl ManifestRow {
    /// What callers see.
    pub fn record(self, digest: Digest) -> ManifestRecord {
        let standing = self.standing();
        ManifestRecord {
            digest,
            media_type: self.media_type,
            size_bytes: self.size_bytes,
            subject: self.subject,
            artifact_type: self.artifact_type,
            config_type: self.config_type,
            pushed_at: self.pushed_at,
            standing,
        }
    }

    /// The kind of garbage that it stands in a queue as.
    pub fn queue(&self) -> Option<Garbage> {
        let garbage = if self.orphaned { Garbage::Referrer } else { Garbage::Untagged };
        self.eligible_uptime_seconds.map(|_| garbage)
    }

    /// Whether it is needed.
    pub fn standing(&self) -> Standing {
        match self.eligible_uptime_seconds {
            _ if self.condemned => Standing::Condemned,
            Some(eligible_uptime_seconds) => Standing::Waiting { eligible_uptime_seconds },
            None => Standing::Held,
        }
    }
}

impl Row for ManifestRow {
    const NAME: &'static str = "a row of manifests";
    const VERSION: u8 = 2;

    fn write(&self, bytes: &mut Vec<u8>) {
        put_text(bytes, self.media_type.as_str());
        put_u64(bytes, self.size_bytes);
        put_option(bytes, self.subject.as_ref(), put_digest);
        put_option(bytes, self.artifact_type.as_ref(), |bytes, text| put_text(bytes, text));
        put_option(bytes, self.config_type.as_ref(), |bytes, text| put_text(bytes, text.as_str()));
        put_u64(bytes, self.pushed_at.0);
        put_option(bytes, self.eligible_uptime_seconds.as_ref(), |bytes, number| {
            put_u64(bytes, *number);
        });
        bytes.extend([u8::from(self.orphaned), u8::from(self.condemned)]);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let mut row = Self {
            media_type: reader.media_type()?,
            size_bytes: reader.u64()?,
            subject: reader.option(Reader::digest)?,
            artifact_type: reader.option(|reader| Ok(reader.text()?.to_owned()))?,
            config_type: reader.option(Reader::media_type)?,
            pushed_at: Timestamp(reader.u64()?),
            eligible_uptime_seconds: reader.option(Reader::u64)?,
            orphaned: false,
            condemned: false,
        };
        if reader.version() == 1 {
            // Only referrers whose subject was deleted stood in a queue.
            row.orphaned = row.eligible_uptime_seconds.is_some();
        } else {
            (row.orphaned, row.condemned) = (reader.bool()?, reader.bool()?);
        }
        Ok(row)
    }
}

/// A row of `references`: what a manifest refers to, each (digest, kind) once, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References(pub Vec<(Digest, EdgeKind)>);

impl Row for References {
    const NAME: &'static str = "a row of references";

    fn write(&self, bytes: &mut Vec<u8>) {
        put_count(bytes, self.0.len());
        for (digest, kind) in &self.0 {
            put_digest(bytes, digest);
            bytes.push(edge_kind_code(*kind));
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let count = reader.u32()?;
        // Grows with what is there, not with what the row claims.
        let mut references = Vec::new();
        for _ in 0..count {
            references.push((reader.digest()?, reader.edge_kind()?));
        }
        Ok(Self(references))
    }
}

impl Row for Descriptor {
    const NAME: &'static str = "a row of referrers";

    fn write(&self, bytes: &mut Vec<u8>) {
        put_text(bytes, self.media_type.as_str());
        put_digest(bytes, &self.digest);
        put_u64(bytes, self.size_bytes);
        put_option(bytes, self.artifact_type.as_ref(), |bytes, text| put_text(bytes, text));
        put_count(bytes, self.annotations.len());
        for (name, text) in &self.annotations {
            put_text(bytes, name);
            put_text(bytes, text);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let (media_type, digest) = (reader.media_type()?, reader.digest()?);
        let size_bytes = reader.u64()?;
        let artifact_type = reader.option(|reader| Ok(reader.text()?.to_owned()))?;
        let mut annotations = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let (name, text) = (reader.text()?.to_owned(), reader.text()?.to_owned());
            if annotations.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(reader.damaged("has annotations out of order"));
            }
            annotations.insert(name, text);
        }
        Ok(Self { media_type, digest, size_bytes, artifact_type, annotations })
    }
}

/// A row of `blobs`: one content, whoever has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRow {
    /// What callers see.
    pub record: BlobRecord,
    /// In how many repositories it is a manifest: its inline copy then outlives the spill.
    pub manifests: u64,
    /// Where it stands in `gc_queue` while no repository has it.
    pub eligible_uptime_seconds: u64,
}

impl Row for ContentRow {
    const NAME: &'static str = "a row of blobs";
    const VERSION: u8 = 2;

    fn write(&self, bytes: &mut Vec<u8>) {
        put_u64(bytes, self.record.size_bytes);
        bytes.push(match self.record.place {
            Place::Inline => 0,
            Place::File => 1,
            Place::Both => 2,
        });
        bytes.push(match self.record.state {
            BlobState::Live => 0,
            BlobState::Unlinking => 2,
            BlobState::Quarantined => 3,
        });
        put_u64(bytes, self.record.repositories);
        put_u64(bytes, self.manifests);
        put_u64(bytes, self.eligible_uptime_seconds);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let size_bytes = reader.u64()?;
        let place = match reader.u8()? {
            0 => Place::Inline,
            1 => Place::File,
            2 => Place::Both,
            _ => return Err(reader.damaged("has an unknown place")),
        };
        let state = match reader.u8()? {
            0 => BlobState::Live,
            // Reserved for a choice of the collector, which nothing ever made.
            1 if reader.version() == 1 => BlobState::Live,
            2 => BlobState::Unlinking,
            3 if reader.version() > 1 => BlobState::Quarantined,
            _ => return Err(reader.damaged("has an unknown state")),
        };
        let record = BlobRecord { size_bytes, place, state, repositories: reader.u64()? };
        let (manifests, eligible_uptime_seconds) = (reader.u64()?, reader.u64()?);
        Ok(Self { record, manifests, eligible_uptime_seconds })
    }
}

/// A row of `repo_blobs`: a repository may read a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkRow {
    /// When it arrived.
    pub linked_at: Timestamp,
    /// Where it stands in `gc_queue` while no manifest of the repository refers to it.
    pub eligible_uptime_seconds: u64,
    /// The collector has chosen it.
    pub condemned: bool,
}

impl Row for LinkRow {
    const NAME: &'static str = "a row of repo_blobs";
    const VERSION: u8 = 2;

    fn write(&self, bytes: &mut Vec<u8>) {
        put_u64(bytes, self.linked_at.0);
        put_u64(bytes, self.eligible_uptime_seconds);
        bytes.push(u8::from(self.condemned));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let (linked_at, eligible_uptime_seconds) = (Timestamp(reader.u64()?), reader.u64()?);
        let condemned = reader.version() > 1 && reader.bool()?;
        Ok(Self { linked_at, eligible_uptime_seconds, condemned })
    }
}

/// A row of `blob_repositories`: as what a repository has a content. At least one is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// As a blob that it may read.
    pub blob: bool,
    /// As a manifest.
    pub manifest: bool,
}

impl Row for Uses {
    const NAME: &'static str = "a row of blob_repositories";

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self.blob) | u8::from(self.manifest) << 1);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let bits = reader.u8()?;
        if !(1..=3).contains(&bits) {
            return Err(reader.damaged("has unknown bits"));
        }
        Ok(Self { blob: bits & 1 != 0, manifest: bits & 2 != 0 })
    }
}

/// A row of `small_contents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallContent(pub Vec<u8>);

impl Row for SmallContent {
    const NAME: &'static str = "a row of small_contents";

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self(reader.rest().to_vec()))
    }
}

impl Row for UploadRecord {
    const NAME: &'static str = "a row of uploads";

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.id.as_bytes());
        put_text(bytes, self.repository.as_str());
        put_u64(bytes, self.offset);
        bytes.push(algorithm_code(self.algorithm));
        put_u64(bytes, self.started_at.0);
        put_u64(bytes, self.started_uptime_seconds);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            id: reader.upload_id()?,
            repository: reader.name()?,
            offset: reader.u64()?,
            algorithm: reader.algorithm()?,
            started_at: Timestamp(reader.u64()?),
            started_uptime_seconds: reader.u64()?,
        })
    }
}

impl Row for ScrubRecord {
    const NAME: &'static str = "the place of the scrub";

    fn write(&self, bytes: &mut Vec<u8>) {
        put_u64(bytes, self.passes);
        put_u64(bytes, self.finished_at.0);
        put_u64(bytes, self.started_uptime_seconds);
        let shard = self.shard.map(u64::from);
        put_option(bytes, shard.as_ref(), |bytes, shard| put_u64(bytes, *shard));
        put_option(bytes, self.after.as_ref(), put_digest);
        let ScrubTotals { contents, size_bytes, damaged, unreadable, orphans } = self.totals;
        for number in [contents, size_bytes, damaged, unreadable, orphans] {
            put_u64(bytes, number);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let (passes, finished_at) = (reader.u64()?, Timestamp(reader.u64()?));
        let started_uptime_seconds = reader.u64()?;
        let shard = reader.option(Reader::u64)?.map(u32::try_from).transpose();
        let shard = shard.map_err(|_| reader.damaged("has an unknown shard"))?;
        let after = reader.option(Reader::digest)?;
        let totals = ScrubTotals {
            contents: reader.u64()?,
            size_bytes: reader.u64()?,
            damaged: reader.u64()?,
            unreadable: reader.u64()?,
            orphans: reader.u64()?,
        };
        Ok(Self { passes, finished_at, started_uptime_seconds, shard, after, totals })
    }
}
