//! What every bench needs: contents, and a place on a real disk.

use std::io;

use tempfile::TempDir;

/// Bytes that no other call returns.
///
/// # Errors
/// The operating system has no random bytes.
pub fn random_bytes(size_bytes: usize) -> io::Result<Vec<u8>> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    let mut bytes = vec![0; size_bytes];
    blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut bytes);
    Ok(bytes)
}

/// A folder beside the build, which is on a disk where `/tmp` may be memory.
///
/// # Errors
/// It cannot be made.
pub fn scratch() -> io::Result<TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}
