//! The whole database as text: one section per table, one line per row, in the order of keys.
//! For tests, and for people who want to see what is stored. Where a database comes from (its
//! release, the history of migrations) is left out: two databases with equal content have equal
//! dumps. A row that cannot be decoded is shown in hex.

use std::fmt::Debug;
use std::io::Write;

use redb::ReadableTable;

use super::super::{Error, Result, UploadRecord};
use super::codec::{
    ContentRow, LinkRow, ManifestRow, Mark, Queued, Reader, References, RepositoryRow, Row,
    SmallContent, TagRow, Uses,
};
use super::migrate::is_provenance;
use super::tables::{Names, Rows, Snapshot};
use crate::oci::Descriptor;

type Decoder = fn(&[u8], &[u8]) -> Result<String>;

/// Writes what the snapshot holds.
pub fn dump(snapshot: &Snapshot, out: &mut dyn Write) -> Result<()> {
    schema(snapshot, out)?;
    names("repository_names", &snapshot.repository_names()?, out)?;
    names("repository_ids", &snapshot.repository_ids()?, out)?;
    rows("repositories", &snapshot.repositories()?, repository, out)?;
    rows("tags", &snapshot.tags()?, tag, out)?;
    rows("tags_by_manifest", &snapshot.tags_by_manifest()?, tag_by_manifest, out)?;
    rows("manifests", &snapshot.manifests()?, of_repository::<ManifestRow>, out)?;
    rows("references", &snapshot.references()?, of_repository::<References>, out)?;
    rows("edges", &snapshot.edges()?, edge, out)?;
    rows("referrers", &snapshot.referrers()?, referrer, out)?;
    rows("blobs", &snapshot.blobs()?, of_content::<ContentRow>, out)?;
    rows("repo_blobs", &snapshot.repo_blobs()?, of_repository::<LinkRow>, out)?;
    rows("blob_repositories", &snapshot.blob_repositories()?, uses, out)?;
    rows("small_contents", &snapshot.small_contents()?, small_content, out)?;
    rows("spill_queue", &snapshot.spill_queue()?, of_content::<Mark>, out)?;
    rows("uploads", &snapshot.uploads()?, upload, out)?;
    rows("uploads_by_time", &snapshot.uploads_by_time()?, upload_by_time, out)?;
    rows("gc_queue", &snapshot.gc_queue()?, garbage, out)?;
    rows("untagged_manifests", &snapshot.untagged_manifests()?, untagged, out)?;
    section("outbox", out)?;
    for row in snapshot.outbox()?.iter()? {
        let (sequence, event) = row?;
        line(out, &format!("{} {}", sequence.value(), hex(event.value())))?;
    }
    Ok(())
}

fn schema(snapshot: &Snapshot, out: &mut dyn Write) -> Result<()> {
    section("schema", out)?;
    for row in snapshot.schema()?.iter()? {
        let (name, value) = row?;
        if !is_provenance(name.value()) {
            line(out, &format!("{} {}", name.value(), hex(value.value())))?;
        }
    }
    Ok(())
}

fn names(title: &str, table: &impl Names, out: &mut dyn Write) -> Result<()> {
    section(title, out)?;
    for row in table.iter()? {
        let (name, id) = row?;
        line(out, &format!("{} {}", name.value(), id.value()))?;
    }
    Ok(())
}

fn rows(title: &str, table: &impl Rows, decoder: Decoder, out: &mut dyn Write) -> Result<()> {
    section(title, out)?;
    for row in table.iter()? {
        let (key, value) = row?;
        let (key, value) = (key.value(), value.value());
        let text = decoder(key, value)
            .unwrap_or_else(|error| format!("! {} {} {error}", hex(key), hex(value)));
        line(out, &text)?;
    }
    Ok(())
}

fn section(title: &str, out: &mut dyn Write) -> Result<()> {
    line(out, &format!("[{title}]"))
}

fn line(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(|error| Error::Backend(format!("writing the dump: {error}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn repository(key: &[u8], value: &[u8]) -> Result<String> {
    let mut reader = Reader::new("a key of repositories", key);
    Ok(format!("{} {:?}", reader.u64()?, RepositoryRow::decode(value)?))
}

fn tag(key: &[u8], value: &[u8]) -> Result<String> {
    let (id, tag) = Reader::tag_key(key)?;
    Ok(format!("{id} {tag} {:?}", TagRow::decode(value)?))
}

fn tag_by_manifest(key: &[u8], value: &[u8]) -> Result<String> {
    let (id, digest, tag) = Reader::tag_by_manifest_key(key)?;
    Ok(format!("{id} {digest} {tag} {:?}", Mark::decode(value)?))
}

fn of_repository<R: Row + Debug>(key: &[u8], value: &[u8]) -> Result<String> {
    let (id, digest) = Reader::number_digest_key(R::NAME, key)?;
    Ok(format!("{id} {digest} {:?}", R::decode(value)?))
}

fn of_content<R: Row + Debug>(key: &[u8], value: &[u8]) -> Result<String> {
    Ok(format!("{} {:?}", Reader::digest_key(R::NAME, key)?, R::decode(value)?))
}

fn small_content(key: &[u8], value: &[u8]) -> Result<String> {
    let digest = Reader::digest_key("a key of small_contents", key)?;
    Ok(format!("{digest} {}", hex(&SmallContent::decode(value)?.0)))
}

fn edge(key: &[u8], value: &[u8]) -> Result<String> {
    let (id, child, kind, parent) = Reader::edge_key(key)?;
    Ok(format!("{id} {child} {kind:?} {parent} {:?}", Mark::decode(value)?))
}

fn referrer(key: &[u8], value: &[u8]) -> Result<String> {
    let (id, subject, digest) = Reader::referrer_key(key)?;
    Ok(format!("{id} {subject} {digest} {:?}", Descriptor::decode(value)?))
}

fn uses(key: &[u8], value: &[u8]) -> Result<String> {
    let (digest, id) = Reader::digest_number_key("a key of blob_repositories", key)?;
    Ok(format!("{digest} {id} {:?}", Uses::decode(value)?))
}

fn upload(key: &[u8], value: &[u8]) -> Result<String> {
    let mut reader = Reader::new("a key of uploads", key);
    Ok(format!("{} {:?}", reader.upload_id()?, UploadRecord::decode(value)?))
}

fn upload_by_time(key: &[u8], value: &[u8]) -> Result<String> {
    let (seconds, id) = Reader::upload_time_key(key)?;
    Ok(format!("{seconds} {id} {:?}", Mark::decode(value)?))
}

fn garbage(key: &[u8], value: &[u8]) -> Result<String> {
    let (seconds, id, digest, garbage) = Reader::garbage_key(key)?;
    Ok(format!("{seconds} {id} {digest} {garbage:?} {:?}", Queued::decode(value)?))
}

fn untagged(key: &[u8], value: &[u8]) -> Result<String> {
    let (seconds, id, digest) = Reader::untagged_key(key)?;
    Ok(format!("{seconds} {id} {digest} {:?}", Queued::decode(value)?))
}
