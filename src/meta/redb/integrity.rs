//! Reads for finding damage.

use super::super::{BlobRecord, Page, Result, ScrubRecord};
use super::codec::{ContentRow, Key, Reader, Row};
use super::rows;
use super::tables::Snapshot;
use crate::oci::{Digest, Shard};

/// Where the scrub stands, in `schema`.
pub const SCRUB: &str = "scrub";

impl Snapshot {
    /// [`super::super::MetaStore::contents`]
    pub fn contents(
        &self,
        shard: Shard,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Page<(Digest, BlobRecord)>> {
        let after = after.map(Key::digest);
        rows::page(&self.blobs()?, &Key::shard(shard), after.as_ref(), limit, |key, value| {
            let digest = Reader::digest_key("a key of blobs", key)?;
            Ok(Some((digest, ContentRow::decode(value)?.record)))
        })
    }

    /// [`super::super::MetaStore::scrub`]
    pub fn scrub(&self) -> Result<ScrubRecord> {
        match self.schema()?.get(SCRUB)? {
            Some(bytes) => ScrubRecord::decode(bytes.value()),
            None => Ok(ScrubRecord::default()),
        }
    }
}
