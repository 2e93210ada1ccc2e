//! What lies in the tree of blobs, and taking a file out of it. Every function here blocks.

use std::io;
use std::path::{Path, PathBuf};

use super::tree::Tree;
use super::{Result, ShardFiles};
use crate::oci::{Algorithm, Digest, Shard, UploadId};

/// Damaged files of one digest that are kept; the newest takes the place of the last.
const QUARANTINED_MAX: usize = 10;

impl Tree {
    /// Moves the file of a digest to `quarantine/<alg>-<hex>.<n>` and removes its directory; its
    /// new name, `None` when there was no file.
    pub(super) fn quarantine(&self, digest: &Digest) -> Result<Option<String>> {
        let from = self.layout.blob_data(digest);
        if self.vfs.metadata(&from)?.is_none() {
            return Ok(None);
        }
        let (quarantine, stem) = (self.layout.quarantine(), digest.to_string().replace(':', "-"));
        let mut name = String::new();
        for number in 0..QUARANTINED_MAX {
            name = format!("{stem}.{number}");
            if self.vfs.metadata(&quarantine.join(&name))?.is_none() {
                break;
            }
        }
        self.vfs.rename(&from, &quarantine.join(&name))?;
        match self.vfs.remove_dir(&self.layout.blob(digest)) {
            // Something else lies in it.
            Err(error) if !error.is_taken() => Err(error.into()),
            _ => Ok(Some(name)),
        }
    }

    /// What lies in the directories of one shard.
    pub(super) fn shard_files(&self, shard: Shard) -> Result<ShardFiles> {
        let prefix = format!("{:02x}", shard.first_byte);
        let directory = self.layout.algorithm(shard.algorithm).join(&prefix);
        let mut found = ShardFiles::default();
        for name in self.names(&directory, &mut found.foreign)? {
            let path = directory.join(&name);
            let digest = Digest::parse(&format!("{}:{name}", shard.algorithm)).ok();
            match digest.filter(|_| name.starts_with(&prefix)) {
                Some(digest) => self.blob_files(&digest, &path, &mut found)?,
                None => found.foreign.push(self.relative(&path)),
            }
        }
        Ok(found)
    }

    /// What lies in the directory of one digest: `data`, or nothing after a removal.
    fn blob_files(&self, digest: &Digest, path: &Path, found: &mut ShardFiles) -> Result<()> {
        if self.vfs.metadata(path)?.is_none_or(|entry| !entry.is_dir) {
            found.foreign.push(self.relative(path));
            return Ok(());
        }
        for name in self.names(path, &mut found.foreign)? {
            let entry = path.join(&name);
            let file = self.vfs.metadata(&entry)?.filter(|entry| !entry.is_dir);
            match file.filter(|_| name == "data") {
                Some(file) => found.files.push((*digest, file.size_bytes)),
                None => found.foreign.push(self.relative(&entry)),
            }
        }
        Ok(())
    }

    /// Entries above the shards, and among the uploads, that have no place there.
    pub(super) fn foreign(&self) -> Result<Vec<String>> {
        let is_byte = |name: &str| {
            name.len() == 2 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut foreign = Vec::new();
        let mut look = |directory: PathBuf, belongs: &dyn Fn(&str) -> bool| -> Result<()> {
            let names = self.names(&directory, &mut foreign)?;
            let strange = names.iter().filter(|name| !belongs(name));
            foreign.extend(strange.map(|name| self.relative(&directory.join(name))));
            Ok(())
        };
        look(self.layout.blobs(), &|name| Algorithm::from_name(name).is_some())?;
        for algorithm in Algorithm::ALL {
            look(self.layout.algorithm(algorithm), &is_byte)?;
        }
        look(self.layout.staging(), &|name| UploadId::parse(name).is_some())?;
        Ok(foreign)
    }

    /// The names in a directory; none when it is not there. One that is no text makes the whole
    /// directory foreign: nothing of ours has such a name.
    fn names(&self, directory: &Path, foreign: &mut Vec<String>) -> Result<Vec<String>> {
        match self.vfs.list(directory) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) if error.source.kind() == io::ErrorKind::InvalidData => {
                foreign.push(format!("{}: {}", self.relative(directory), error.source));
                Ok(Vec::new())
            }
            listed => Ok(listed?),
        }
    }

    fn relative(&self, path: &Path) -> String {
        let root = self.layout.root();
        path.strip_prefix(root).unwrap_or(path).display().to_string()
    }
}
