//! Randomness as an argument.

use std::fmt::Debug;

/// Where random bytes come from.
pub trait Random: Send + Sync + Debug + 'static {
    /// Sixteen random bytes.
    fn bytes(&self) -> [u8; 16];
}

/// The operating system's generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsRandom;

impl Random for OsRandom {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            // Ids must be unguessable; without the generator there is nothing safe to go on with.
            panic!("the operating system has no random bytes: {error}");
        }
        bytes
    }
}

/// A generator whose seed decides everything it ever gives (SplitMix64): for simulation.
#[cfg(any(test, feature = "sim"))]
#[derive(Debug)]
pub struct Seeded(std::sync::atomic::AtomicU64);

#[cfg(any(test, feature = "sim"))]
impl Seeded {
    /// Equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed.into())
    }

    /// The next 64 bits.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(STEP, std::sync::atomic::Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// `true` once in `n`.
    pub fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[cfg(any(test, feature = "sim"))]
impl Random for Seeded {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }
}
