//! Rows and keys as bytes; `docs/STORAGE.md` shows them byte by byte.
//!
//! Integers are big-endian. A digest is the code of its algorithm and its raw value, so keys sort
//! as [`Digest`]s do. A text is its length (`u32`) and its bytes; an optional value is `0`, or `1`
//! and the value. Each value begins with a version byte. Decoding never panics, whatever the
//! bytes: a row that cannot be understood is [`Error::Corrupt`], and names its table.

mod keys;
mod rows;
#[cfg(test)]
mod tests;

pub use keys::{Key, end_of};
pub use rows::{
    ContentRow, Counter, LinkRow, ManifestRow, Mark, Queued, References, RepositoryRow,
    SmallContent, StoreId, TagRow, Uses,
};

use super::super::{Error, Result};
use crate::oci::{Algorithm, Digest, MediaType, RepositoryName, Tag, UploadId};

/// A value of a table.
pub trait Row: Sized {
    /// What it is called in errors.
    const NAME: &'static str;
    /// The version byte that is written. Every older one, from 1, can be read.
    const VERSION: u8 = 1;
    /// Appends the fields.
    fn write(&self, bytes: &mut Vec<u8>);
    /// Reads the fields, those of [`Reader::version`].
    fn read(reader: &mut Reader<'_>) -> Result<Self>;

    /// The value as it is stored.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Self::VERSION];
        self.write(&mut bytes);
        bytes
    }

    /// The value stored as `bytes`, all of them.
    fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(Self::NAME, bytes);
        match reader.u8()? {
            version if (1..=Self::VERSION).contains(&version) => reader.version = version,
            version => return Err(reader.damaged(&format!("has the version {version}"))),
        }
        let row = Self::read(&mut reader)?;
        reader.end()?;
        Ok(row)
    }
}

/// Takes stored bytes apart.
pub struct Reader<'a> {
    what: &'static str,
    version: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which errors call `what`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, version: 0, rest: bytes }
    }

    /// The version byte of the value that is read; 0 in a key, which has none.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The error that what is read `is` so.
    pub fn damaged(&self, is: &str) -> Error {
        Error::Corrupt(format!("{} {is}", self.what))
    }

    /// Refuses bytes that nothing has read.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged("is too long")) }
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.damaged("is too short"));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// A byte that is 0 or 1.
    pub fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged("has a mark that is neither set nor unset")),
        }
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A text behind its length.
    pub fn text(&mut self) -> Result<&'a str> {
        let length = self.u32()?;
        let bytes = self.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("has a text that is not UTF-8"))
    }

    /// A value that may be absent.
    pub fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        match self.u8()? {
            0 => Ok(None),
            1 => value(self).map(Some),
            _ => Err(self.damaged("has an optional value that is neither there nor absent")),
        }
    }

    /// The code of an algorithm.
    pub fn algorithm(&mut self) -> Result<Algorithm> {
        let code = self.u8()?;
        let found = Algorithm::ALL.into_iter().find(|algorithm| algorithm_code(*algorithm) == code);
        found.ok_or_else(|| self.damaged("has an unknown digest algorithm"))
    }

    /// A digest.
    pub fn digest(&mut self) -> Result<Digest> {
        let algorithm = self.algorithm()?;
        let value = self.bytes(algorithm.size_bytes())?;
        Digest::from_bytes(algorithm, value).ok_or_else(|| self.damaged("has an invalid digest"))
    }

    /// An upload id.
    pub fn upload_id(&mut self) -> Result<UploadId> {
        Ok(UploadId::from_bytes(self.array()?))
    }

    /// A repository name.
    pub fn name(&mut self) -> Result<RepositoryName> {
        let text = self.text()?;
        RepositoryName::parse(text).map_err(|_| self.damaged("has an invalid repository name"))
    }

    /// A media type.
    pub fn media_type(&mut self) -> Result<MediaType> {
        let text = self.text()?;
        MediaType::parse_bare(text).map_err(|_| self.damaged("has an invalid media type"))
    }

    /// A tag, which takes all bytes that are left.
    pub fn tag(&mut self) -> Result<Tag> {
        let text = std::str::from_utf8(self.rest()).unwrap_or_default();
        Tag::parse(text).map_err(|_| self.damaged("has an invalid tag"))
    }
}

/// Never changes: it is in keys.
const fn algorithm_code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha256 => 0,
        Algorithm::Sha512 => 1,
        Algorithm::Blake3 => 2,
    }
}

fn put_digest(bytes: &mut Vec<u8>, digest: &Digest) {
    bytes.push(algorithm_code(digest.algorithm()));
    bytes.extend_from_slice(digest.as_bytes());
}

fn put_u64(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    // Nothing that is stored has 4 Gi parts: documents are limited to a few MiB.
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn put_option<T>(bytes: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    bytes.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(bytes, value);
    }
}
