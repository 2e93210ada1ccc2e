//! Hashing as bytes arrive. The processor's SHA and vector instructions are found at run time
//! by the libraries.

use std::sync::Arc;

use sha2::Digest as _;

use super::Result;
use crate::disk::VfsFile;
use crate::oci::{Algorithm, Digest};
use crate::ops::Blocking;

/// Read at once while a file is hashed.
const BUFFER_BYTES: usize = 256 * 1024;
/// Read at once where nothing is read ahead.
const ONCE_BUFFER_BYTES: usize = 1024 * 1024;
/// Hashed in one piece of blocking work; between two the caller may stop.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// An unfinished digest.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    /// Boxed: about 2 KiB.
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Of no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// The digest of these bytes.
    pub fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Self::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Which algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
            State::Blake3(_) => Algorithm::Blake3,
        }
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
            State::Blake3(state) => {
                state.update(bytes);
            }
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let digest = match self.0 {
            State::Sha256(state) => Digest::from_bytes(algorithm, &state.finalize()),
            State::Sha512(state) => Digest::from_bytes(algorithm, &state.finalize()),
            State::Blake3(state) => Digest::from_bytes(algorithm, state.finalize().as_bytes()),
        };
        match digest {
            Some(digest) => digest,
            None => unreachable!("{algorithm} digests have the length of their algorithm"),
        }
    }
}

/// Hashes the first `size_bytes` of a file, in pieces off the async threads and in bounded memory.
pub(super) async fn hash_file(
    blocking: Blocking,
    file: Arc<dyn VfsFile>,
    algorithm: Algorithm,
    size_bytes: u64,
) -> Result<Hasher> {
    let mut hasher = Hasher::new(algorithm);
    let mut offset = 0;
    while offset < size_bytes {
        let end = size_bytes.min(offset + PIECE_BYTES);
        let file = Arc::clone(&file);
        hasher = blocking.run(move || hash_piece(&*file, hasher, offset, end)).await?;
        offset = end;
    }
    Ok(hasher)
}

/// Hashes a part of a file without leaving it in the system's cache; blocks.
pub(super) fn hash_once(
    file: &dyn VfsFile,
    mut hasher: Hasher,
    mut offset: u64,
    length: u64,
) -> Result<Hasher> {
    let end = offset.saturating_add(length);
    let longest = usize::try_from(length).unwrap_or(usize::MAX).min(ONCE_BUFFER_BYTES);
    let mut buffer = vec![0; longest];
    while offset < end {
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(longest);
        let part = &mut buffer[..length];
        file.read_once_at(part, offset)?;
        hasher.update(part);
        offset += length as u64;
    }
    Ok(hasher)
}

fn hash_piece(file: &dyn VfsFile, mut hasher: Hasher, mut offset: u64, end: u64) -> Result<Hasher> {
    let longest = usize::try_from(end - offset).unwrap_or(usize::MAX).min(BUFFER_BYTES);
    let mut buffer = vec![0; longest];
    while offset < end {
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(longest);
        let part = &mut buffer[..length];
        file.read_exact_at(part, offset)?;
        hasher.update(part);
        offset += length as u64;
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_abc_are_those_of_the_standards() {
        let expected = [
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
        ];
        for (algorithm, expected) in Algorithm::ALL.into_iter().zip(expected) {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            let branch = hasher.clone();
            hasher.update(b"bc");
            assert_eq!(hasher.finish().to_string(), expected);
            assert_eq!(branch.finish(), Hasher::digest_of(algorithm, b"a"));
        }
    }
}
