//! Where each thing lies below the root directory (design 2). Names come only from parsed
//! digests and upload ids (B3).

use std::path::{Path, PathBuf};

use crate::oci::{Algorithm, Digest, UploadId};

/// Mode of a blob's file, under the umask: distribution's filesystem driver makes them so.
pub(super) const BLOB_FILE_MODE: u32 = 0o666;
/// Mode of the directories of the blob tree, under the umask, as distribution makes them.
pub(super) const BLOB_DIRECTORY_MODE: u32 = 0o777;
/// Mode of `kelson/` and of the directories directly in it.
pub(super) const PRIVATE_DIRECTORY_MODE: u32 = 0o700;

/// The paths of one store.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The store below `root` (`storage.filesystem.rootdirectory`).
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `docker/registry/v2/blobs`, where distribution keeps them too (compat 5.5).
    pub fn blobs(&self) -> PathBuf {
        self.root.join("docker/registry/v2/blobs")
    }

    /// `blobs/<alg>`
    pub fn algorithm(&self, algorithm: Algorithm) -> PathBuf {
        self.blobs().join(algorithm.name())
    }

    /// `blobs/<alg>/<hh>`: the directories of all digests that begin with the same byte.
    pub fn shard(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let first_byte = hex.get(..2).unwrap_or_default();
        self.algorithm(digest.algorithm()).join(first_byte)
    }

    /// `blobs/<alg>/<hh>/<hex>`: a blob's own directory.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.shard(digest).join(digest.hex())
    }

    /// `blobs/<alg>/<hh>/<hex>/data`: a blob's bytes.
    pub fn blob_data(&self, digest: &Digest) -> PathBuf {
        self.blob(digest).join("data")
    }

    /// `kelson`: everything that distribution does not know.
    pub fn private(&self) -> PathBuf {
        self.root.join("kelson")
    }

    /// `kelson/staging`
    pub fn staging(&self) -> PathBuf {
        self.private().join("staging")
    }

    /// `kelson/staging/<uuid>`: one upload's directory.
    pub fn upload(&self, id: UploadId) -> PathBuf {
        self.staging().join(id.to_string())
    }

    /// `kelson/staging/<uuid>/data`: its only entry (B2).
    pub fn upload_data(&self, id: UploadId) -> PathBuf {
        self.upload(id).join("data")
    }

    /// `kelson/quarantine`: corrupt files, never served.
    pub fn quarantine(&self) -> PathBuf {
        self.private().join("quarantine")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_distribution_and_the_design() {
        let layout = Layout::new(Path::new("/r"));
        let hex = format!("ab{}", "0".repeat(62));
        let digest = Digest::parse(&format!("sha256:{hex}")).unwrap();
        let expected = format!("/r/docker/registry/v2/blobs/sha256/ab/{hex}/data");
        assert_eq!(layout.blob_data(&digest), Path::new(&expected));
        let id = UploadId::parse("0b4a1c0e-8f5e-4c58-9f0e-3d1d2f6f7a11").unwrap();
        let expected = "/r/kelson/staging/0b4a1c0e-8f5e-4c58-9f0e-3d1d2f6f7a11/data";
        assert_eq!(layout.upload_data(id), Path::new(expected));
        assert_eq!(layout.quarantine(), Path::new("/r/kelson/quarantine"));
    }
}
