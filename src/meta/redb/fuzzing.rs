//! Ways in for the fuzz target `records`.

use super::super::{Result, ScrubRecord, UploadRecord};
use super::codec::{
    ContentRow, Counter, Key, LinkRow, ManifestRow, Mark, Queued, Reader, References,
    RepositoryRow, Row, SmallContent, StoreId, TagRow, Uses,
};
use crate::oci::Descriptor;

/// Reads a value or a key and writes it again; an error when the bytes are none.
pub type Codec = fn(&[u8]) -> Result<Vec<u8>>;

/// Every value of a table, by what errors call it.
pub const ROWS: [(&str, Codec); 15] = [
    (Mark::NAME, row::<Mark>),
    (Counter::NAME, row::<Counter>),
    (StoreId::NAME, row::<StoreId>),
    (RepositoryRow::NAME, row::<RepositoryRow>),
    (TagRow::NAME, row::<TagRow>),
    (ManifestRow::NAME, row::<ManifestRow>),
    (References::NAME, row::<References>),
    (Descriptor::NAME, row::<Descriptor>),
    (ContentRow::NAME, row::<ContentRow>),
    (LinkRow::NAME, row::<LinkRow>),
    (Uses::NAME, row::<Uses>),
    (SmallContent::NAME, row::<SmallContent>),
    (UploadRecord::NAME, row::<UploadRecord>),
    (Queued::NAME, row::<Queued>),
    (ScrubRecord::NAME, row::<ScrubRecord>),
];

fn row<R: Row>(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(R::decode(bytes)?.encode())
}

/// Every key of a table that is more than a name or a number, by its table.
pub const KEYS: [(&str, Codec); 10] = [
    ("tags", |key| {
        let (id, tag) = Reader::tag_key(key)?;
        Ok(Key::number(id).and_tag(tag.as_str()).as_slice().to_vec())
    }),
    ("tags_by_manifest", |key| {
        let (id, digest, tag) = Reader::tag_by_manifest_key(key)?;
        Ok(Key::number(id).and_digest(&digest).and_tag(tag.as_str()).as_slice().to_vec())
    }),
    ("manifests, references, repo_blobs", |key| {
        let (id, digest) = Reader::number_digest_key("a key", key)?;
        Ok(Key::number(id).and_digest(&digest).as_slice().to_vec())
    }),
    ("blobs, small_contents, spill_queue", |key| {
        let digest = Reader::digest_key("a key", key)?;
        Ok(Key::digest(&digest).as_slice().to_vec())
    }),
    ("blob_repositories", |key| {
        let (digest, id) = Reader::digest_number_key("a key", key)?;
        Ok(Key::digest(&digest).and_number(id).as_slice().to_vec())
    }),
    ("referrers", |key| {
        let (id, subject, referrer) = Reader::referrer_key(key)?;
        Ok(Key::number(id).and_digest(&subject).and_digest(&referrer).as_slice().to_vec())
    }),
    ("edges", |key| {
        let (id, child, kind, parent) = Reader::edge_key(key)?;
        let key = Key::number(id).and_digest(&child).and_kind(kind).and_digest(&parent);
        Ok(key.as_slice().to_vec())
    }),
    ("gc_queue", |key| {
        let (at, id, digest, garbage) = Reader::garbage_key(key)?;
        let key = Key::number(at).and_number(id).and_digest(&digest).and_garbage(garbage);
        Ok(key.as_slice().to_vec())
    }),
    ("untagged_manifests", |key| {
        let (at, id, digest) = Reader::untagged_key(key)?;
        Ok(Key::number(at).and_number(id).and_digest(&digest).as_slice().to_vec())
    }),
    ("uploads_by_time", |key| {
        let (at, id) = Reader::upload_time_key(key)?;
        Ok(Key::number(at).and_upload(id).as_slice().to_vec())
    }),
];
