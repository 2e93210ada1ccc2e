//! A part of all contents.

use super::Algorithm;

/// The contents whose digests begin with the same byte: one directory of the tree of blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// The algorithm of the digests.
    pub algorithm: Algorithm,
    /// Their first byte.
    pub first_byte: u8,
}

impl Shard {
    /// How many there are.
    pub const COUNT: u32 = Algorithm::ALL.len() as u32 * 256;

    /// The shard of that number, in the order of digests; `None` from [`Self::COUNT`] on.
    pub fn from_number(number: u32) -> Option<Self> {
        let algorithm = *Algorithm::ALL.get(usize::try_from(number / 256).ok()?)?;
        Some(Self { algorithm, first_byte: u8::try_from(number % 256).ok()? })
    }

    /// All of them, in the order of digests.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).filter_map(Self::from_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbered_in_the_order_of_digests() {
        let all: Vec<_> = Shard::all().collect();
        assert_eq!(all.len(), 768);
        assert!(all.is_sorted());
        assert_eq!(all[256], Shard { algorithm: Algorithm::Sha512, first_byte: 0 });
        assert_eq!(Shard::from_number(Shard::COUNT), None);
    }
}
