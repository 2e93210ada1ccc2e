//! Tags, and what stands after `manifests/`: a tag or a digest.

use std::fmt;

use super::{Digest, DigestError};

/// A text is no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tag is [A-Za-z0-9_] followed by up to 127 of [A-Za-z0-9._-]")]
pub struct TagError;

/// A valid tag. Ordered by bytes, as tag lists are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// The longest tag in bytes.
    pub const LENGTH_MAX: usize = 128;

    /// Parses `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution-spec, "Pulling manifests").
    pub fn parse(text: &str) -> Result<Self, TagError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let valid = text.len() <= Self::LENGTH_MAX
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if valid { Ok(Self(text.into())) } else { Err(TagError) }
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a manifest within a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// Whatever the tag points at.
    Tag(Tag),
    /// Exactly this content.
    Digest(Digest),
}

/// Why a text is neither tag nor digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No colon in it, and no tag either.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A colon makes it a digest, and it is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// A text with a colon is a digest or nothing; any other is a tag or nothing.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        // `v1@sha256:..` is client syntax for both at once, never a reference of a server: it
        // fails as a tag.
        if text.contains(':') && !text.contains('@') {
            return Ok(Self::Digest(Digest::parse(text)?));
        }
        Ok(Self::Tag(Tag::parse(text)?))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_up_to_128_bytes_are_taken() {
        for tag in ["a", "_", "0", "V1.0-rc_2", "a..b", "a.", "_-."] {
            assert_eq!(Tag::parse(tag).map(|tag| tag.to_string()), Ok(tag.to_owned()));
        }
        assert!(Tag::parse(&"t".repeat(Tag::LENGTH_MAX)).is_ok());
        assert!(Tag::parse(&"t".repeat(Tag::LENGTH_MAX + 1)).is_err());
    }

    #[test]
    fn a_colon_makes_a_digest_unless_there_is_an_at_sign() {
        let hex = "0".repeat(64);
        let digest = format!("sha256:{hex}");
        assert!(matches!(Reference::parse(&digest), Ok(Reference::Digest(_))));
        assert!(matches!(Reference::parse("v1"), Ok(Reference::Tag(_))));
        for text in ["", "-v1", ".v1", "a+b", "v1\n", "v1\0", &format!("v1@{digest}")] {
            assert_eq!(Reference::parse(text), Err(ReferenceError::Tag(TagError)), "{text:?}");
        }
        let malformed = Err(ReferenceError::Digest(DigestError::Malformed));
        for text in ["a:b:c", "sha256:zz", ":", "sha256:", &format!("{digest}0")] {
            assert_eq!(Reference::parse(text), malformed, "{text:?}");
        }
        let unsupported = Err(ReferenceError::Digest(DigestError::UnsupportedAlgorithm));
        assert_eq!(Reference::parse("a:b"), unsupported);
    }

    proptest! {
        #[test]
        fn tags_are_those_of_the_grammar(
            text in prop_oneof!["[aZ0._-]{0,6}", "[a._-]{120,140}", ".{0,4}", "[a-z]{1,3}[\n:@+]?"],
        ) {
            let grammar = regex::Regex::new(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\z").unwrap();
            prop_assert_eq!(Tag::parse(&text).is_ok(), grammar.is_match(&text));
        }
    }
}
