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
