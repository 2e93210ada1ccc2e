//! A blob that is compared with its digest while it is read.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{BlobFile, BlobRead, Error, Hasher, Result};
use crate::disk;
use crate::oci::Digest;

/// Called when the bytes are not those of the digest.
pub type OnDamage = Box<dyn Fn() + Send + Sync>;

/// Reads a blob once, from its beginning to its end. The read that reaches the end fails when the
/// bytes are not those of the digest, so whoever sends what was read never sends all of it.
struct Verifying {
    digest: Digest,
    inner: BlobFile,
    state: Mutex<State>,
    on_damage: OnDamage,
}

struct State {
    offset: u64,
    hasher: Hasher,
}

impl std::fmt::Debug for Verifying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifying").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl BlobFile {
    /// The same blob, to be read in order and once; see `Verifying`.
    pub fn verifying(self, digest: &Digest, on_damage: OnDamage) -> Self {
        let state = State { offset: 0, hasher: Hasher::new(digest.algorithm()) };
        let state = Mutex::new(state);
        let size_bytes = self.size_bytes;
        let reader = Arc::new(Verifying { digest: *digest, inner: self, state, on_damage });
        Self { size_bytes, reader }
    }
}

impl Verifying {
    fn error(&self, text: &str) -> Error {
        let source = io::Error::new(io::ErrorKind::InvalidData, text);
        Error::Io(disk::Error::new("verify", &PathBuf::from(self.digest.to_string()), source))
    }
}

#[async_trait]
impl BlobRead for Verifying {
    async fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let mut state = self.state.lock().await;
        if state.offset != offset {
            return Err(self.error("it is read out of order"));
        }
        let hasher = std::mem::replace(&mut state.hasher, Hasher::new(self.digest.algorithm()));
        let read = self.inner.reader.read_hashed(offset, length, hasher).await;
        let (bytes, hasher) = read.inspect_err(|_| (self.on_damage)())?;
        state.offset += bytes.len() as u64;
        state.hasher = hasher.clone();
        if state.offset >= self.inner.size_bytes && hasher.finish() != self.digest {
            (self.on_damage)();
            return Err(self.error("its bytes are not those of its digest"));
        }
        Ok(bytes)
    }
}
