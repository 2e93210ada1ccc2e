//! Whether a backup can be restored.

use std::path::Path;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::destination::{Destination, Generation};
use super::{Contents, Tools, at_once, verify_export};
use crate::blob::{BlobStore, FsBlobs, Hasher};
use crate::meta::export::Content;
use crate::oci::{Digest, Shard};
use crate::ops::Progress;
use crate::ops::progress::Unit;
use crate::registry::error::Result;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Generations that were looked at.
    pub generations: u64,
    /// Contents that they name; one that several name counts for each.
    pub contents: u64,
    /// Files that were read and compared with their digest.
    pub read: u64,
    /// Bytes of these.
    pub read_size_bytes: u64,
    /// What is wrong: damaged exports, contents whose file is missing or wrong.
    pub damaged: u64,
}

/// Compares each generation's export with its sum, and looks for each content that it names; with
/// `read_data` also reads every file and compares it with its digest. What is wrong is an item of
/// kind `damaged`.
pub async fn verify(
    tools: &Tools,
    path: &Path,
    read_data: bool,
    progress: &Progress,
) -> Result<Verified> {
    let destination = Destination::open(tools, path).await?;
    let mut verified = Verified::default();
    for generation in destination.generations(tools).await? {
        verified.generations += 1;
        verify_generation(tools, &destination, &generation, &mut verified, progress).await?;
    }
    if read_data {
        read_files(&destination.blobs, &mut verified, progress).await?;
    }
    Ok(verified)
}

async fn verify_generation(
    tools: &Tools,
    destination: &Destination,
    generation: &Generation,
    verified: &mut Verified,
    progress: &Progress,
) -> Result<()> {
    let number = generation.number;
    progress.phase(&format!("verifying generation {number}"), None, Unit::Items).await;
    if let Err(error) = verify_export(tools, &generation.path).await {
        verified.damaged += 1;
        let reason = error.to_string();
        let item = json!({ "kind": "damaged", "generation": number, "reason": reason });
        progress.item(item).await;
        return Ok(());
    }
    let mut contents = Contents::open(tools, &generation.path).await?;
    loop {
        let batch = contents.next().await?;
        if batch.is_empty() {
            return Ok(());
        }
        for content in batch.iter().filter(|content| content.has_file) {
            verified.contents += 1;
            let Some(reason) = wrong(&destination.blobs, content).await? else { continue };
            verified.damaged += 1;
            let digest = content.digest.to_string();
            let item = json!({
                "kind": "damaged", "generation": number, "digest": digest, "reason": reason,
            });
            progress.item(item).await;
        }
        progress.advance(verified.contents)?;
    }
}

/// What is wrong with a content's file, as far as one sees without reading it.
pub(super) async fn wrong(blobs: &FsBlobs, content: &Content) -> Result<Option<String>> {
    let size_bytes = content.size_bytes;
    Ok(match blobs.open(&content.digest).await? {
        None => Some("its file is missing".to_owned()),
        Some(file) if file.size_bytes != size_bytes => {
            Some(format!("its file has {} bytes, not {size_bytes}", file.size_bytes))
        }
        Some(_) => None,
    })
}

/// Reads every file once, whoever names it.
async fn read_files(blobs: &FsBlobs, verified: &mut Verified, progress: &Progress) -> Result<()> {
    progress.phase("reading contents", None, Unit::Bytes).await;
    for shard in (0..Shard::COUNT).filter_map(Shard::from_number) {
        let files = blobs.shard_files(shard).await?.files;
        let reads = files.into_iter().map(|(digest, size_bytes)| {
            let read = async move { Ok((digest, size_bytes, actual(blobs, &digest).await)) };
            read.boxed()
        });
        for (digest, size_bytes, actual) in at_once(reads.collect()).await? {
            verified.read += 1;
            verified.read_size_bytes += size_bytes;
            let reason = match actual {
                Ok(Some(actual)) if actual != digest => format!("it has the digest {actual}"),
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            verified.damaged += 1;
            let digest = digest.to_string();
            progress.item(json!({ "kind": "damaged", "digest": digest, "reason": reason })).await;
        }
        progress.advance(verified.read_size_bytes)?;
    }
    Ok(())
}

/// The digest that a file really has; `None` when there is no file.
pub(super) async fn actual(blobs: &FsBlobs, digest: &Digest) -> Result<Option<Digest>> {
    let Some(file) = blobs.open(digest).await? else { return Ok(None) };
    let hasher = Hasher::new(digest.algorithm());
    Ok(Some(file.reader.hash(0, file.size_bytes, hasher).await?.finish()))
}
