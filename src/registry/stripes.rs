//! Locks by digest: whoever gives a content its file, or takes the file away, holds its stripe.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::oci::Digest;
use crate::ops::sync::{AsyncMutex, AsyncMutexGuard};

/// Enough that pushes of different contents rarely meet, even while a spill holds a batch of them.
const STRIPES: usize = 4096;

/// The right to give a content its file, or to take the file away.
pub type Stripe<'a> = AsyncMutexGuard<'a, ()>;

/// A fixed set of locks; a digest always has the same one.
#[derive(Debug)]
pub struct Stripes {
    locks: Vec<AsyncMutex<()>>,
}

impl Stripes {
    /// All free.
    pub fn new() -> Self {
        Self { locks: (0..STRIPES).map(|_| AsyncMutex::new(())).collect() }
    }

    /// Waits for the stripe of `digest`.
    pub async fn lock(&self, digest: &Digest) -> Stripe<'_> {
        self.locks[index(digest)].lock().await
    }

    /// Waits for the stripes of all `digests`, in one order, so that two batches never wait for
    /// each other.
    pub async fn lock_all(&self, digests: impl Iterator<Item = &Digest>) -> Vec<Stripe<'_>> {
        let indexes: std::collections::BTreeSet<usize> = digests.map(index).collect();
        let mut guards = Vec::with_capacity(indexes.len());
        for index in indexes {
            guards.push(self.locks[index].lock().await);
        }
        guards
    }
}

fn index(digest: &Digest) -> usize {
    let mut hasher = DefaultHasher::new();
    digest.hash(&mut hasher);
    (hasher.finish() % STRIPES as u64) as usize
}
