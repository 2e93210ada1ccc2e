//! Trees that are written or read as a whole: backups, and stores that are restored.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Result;
use super::fs::FsBlobs;
use super::tree::Tree;
use crate::disk::Vfs;
use crate::disk::durable::Step;
use crate::oci::Algorithm;
use crate::ops::{Blocking, Random};

impl FsBlobs {
    /// Opens a tree that is there, for reading: nothing is made or changed.
    pub fn existing(
        vfs: Arc<dyn Vfs>,
        root: &Path,
        blocking: Blocking,
        random: Arc<dyn Random>,
    ) -> Self {
        Self::of_tree(Tree::existing_at(vfs, root), blocking, random)
    }

    /// Makes the names of all blobs durable, whoever gave them: one sync for each directory that
    /// holds some. What was published needs no other sync then.
    pub async fn sync_names(&self) -> Result<()> {
        let directories = self.run(directories).await?;
        self.sync(&directories, Step::CopiedNames).await
    }
}

/// The directories that hold names: of algorithms, of shards, of blobs.
fn directories(tree: &Tree) -> Result<Vec<PathBuf>> {
    let mut found = vec![tree.layout.blobs(), tree.layout.staging()];
    for algorithm in Algorithm::ALL.map(|algorithm| tree.layout.algorithm(algorithm)) {
        let shards = match tree.vfs.list(&algorithm) {
            Err(error) if error.is_not_found() => continue,
            listed => listed?,
        };
        found.extend(shards.iter().map(|shard| algorithm.join(shard)));
        found.push(algorithm);
    }
    Ok(found)
}
