//! Which backups there are.

use std::path::Path;

use serde_json::json;

use super::destination::Destination;
use super::{Tools, open_export, store_uuid};
use crate::meta::export::Header;
use crate::ops::Progress;
use crate::registry::error::Result;

/// Shows each generation as an item of kind `generation`, oldest first; how many there are. Only
/// the beginning of each export is read: [`super::verify`] reads all.
pub async fn list(tools: &Tools, path: &Path, progress: &Progress) -> Result<u64> {
    let destination = Destination::open(tools, path).await?;
    let generations = destination.generations(tools).await?;
    for generation in &generations {
        let (vfs, path) = (std::sync::Arc::clone(&tools.vfs), generation.path.clone());
        let read = move || {
            let size_bytes = vfs.metadata(&path).ok().flatten().map(|found| found.size_bytes);
            (open_export(&*vfs, &path).map(|reader| reader.header().clone()), size_bytes)
        };
        let (header, size_bytes) = tools.blocking.run(read).await;
        let mut item = json!({ "kind": "generation", "generation": generation.number });
        item["export_size_bytes"] = json!(size_bytes);
        match header {
            Ok(header) => describe(&mut item, &header),
            Err(error) => item["error"] = json!(error.to_string()),
        }
        progress.item(item).await;
    }
    Ok(generations.len() as u64)
}

fn describe(item: &mut serde_json::Value, header: &Header) {
    item["created_at_ms"] = json!(header.created_at.0);
    item["store"] = json!(store_uuid(header));
    item["schema"] = json!(header.schema);
    item["release"] = json!(header.release);
    item["transactions"] = json!(header.transactions);
}
