//! Content digests: `algorithm:encoded` (image-spec, descriptor.md#digests).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A registered digest algorithm that this registry computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 64 hex digits; the default wherever the client names none.
    Sha256,
    /// SHA-512, 128 hex digits.
    Sha512,
    /// BLAKE3 with 256 bits of output, 64 hex digits.
    Blake3,
}

impl Algorithm {
    /// Every algorithm, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Blake3];

    /// The registered name, as it stands before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// Length of a digest in bytes (half its hex digits).
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm of that registered name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no usable digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text does not follow the grammar, or has the wrong length for its algorithm.
    #[error("a digest is algorithm:lowercase-hex of the algorithm's length")]
    Malformed,
    /// The text follows the grammar, but names an algorithm that this registry does not compute.
    #[error("the digest algorithm is not one of sha256, sha512, blake3")]
    UnsupportedAlgorithm,
}

/// The longest digest in bytes.
const SIZE_MAX: usize = 64;

/// A valid digest. Ordered by algorithm, then by value. The client's digest is the name of the
/// content: it is never translated into another algorithm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// Zero beyond the algorithm's length.
    bytes: [u8; SIZE_MAX],
}

impl Digest {
    /// The digest of `content`, all of which is at hand; streams are hashed by the blob layer.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut bytes = [0; SIZE_MAX];
        let value = &mut bytes[..algorithm.size_bytes()];
        match algorithm {
            Algorithm::Sha256 => value.copy_from_slice(&sha2::Sha256::digest(content)),
            Algorithm::Sha512 => value.copy_from_slice(&sha2::Sha512::digest(content)),
            Algorithm::Blake3 => value.copy_from_slice(blake3::hash(content).as_bytes()),
        }
        Self { algorithm, bytes }
    }

    /// Parses `algorithm:hex`. Uppercase hex is refused, as the specification asks.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::Malformed)?;
        let Some(algorithm) = Algorithm::from_name(name) else {
            let grammatical = is_algorithm_name(name) && is_encoded(hex);
            return Err(if grammatical {
                DigestError::UnsupportedAlgorithm
            } else {
                DigestError::Malformed
            });
        };
        if hex.len() != algorithm.size_bytes() * 2 {
            return Err(DigestError::Malformed);
        }
        let mut bytes = [0; SIZE_MAX];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(hex_value);
            *byte = high.ok_or(DigestError::Malformed)? << 4 | low.ok_or(DigestError::Malformed)?;
        }
        Ok(Self { algorithm, bytes })
    }

    /// The digest of these raw bytes; `None` when their number is not the algorithm's.
    pub fn from_bytes(algorithm: Algorithm, value: &[u8]) -> Option<Self> {
        if value.len() != algorithm.size_bytes() {
            return None;
        }
        let mut bytes = [0; SIZE_MAX];
        bytes[..value.len()].copy_from_slice(value);
        Some(Self { algorithm, bytes })
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw value, as long as the algorithm's digests are.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.size_bytes()]
    }

    /// The value in lowercase hex.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        let mut hex = String::with_capacity(self.algorithm.size_bytes() * 2);
        for byte in self.as_bytes() {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// `algorithm ::= component (separator component)*`, separators `+ . _ -`.
fn is_algorithm_name(name: &str) -> bool {
    let component = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    name.split(['+', '.', '_', '-']).all(component)
}

/// `encoded ::= [a-zA-Z0-9=_-]+`.
fn is_encoded(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm)?;
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digests_of_known_contents() {
        for (algorithm, content, hex) in [
            (
                Algorithm::Sha256,
                "hello",
                "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            ),
            (
                Algorithm::Sha512,
                "hello",
                "9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7\
                 2323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043",
            ),
            (
                Algorithm::Blake3,
                "",
                "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            ),
        ] {
            let digest = Digest::of(algorithm, content.as_bytes());
            assert_eq!(digest.to_string(), format!("{algorithm}:{hex}"));
            assert_eq!(digest.hex(), hex);
        }
    }

    #[test]
    fn other_algorithms_are_told_from_malformed_texts() {
        let hex = "0".repeat(64);
        for text in ["md5:ab", "sha1:00", "a+b.c_d-e:A=_-", "multihash+base58:Qm", "sha256x:0"] {
            assert_eq!(Digest::parse(text), Err(DigestError::UnsupportedAlgorithm), "{text}");
        }
        for text in [
            "",
            ":",
            "sha256",
            "md5:",
            ":ab",
            "MD5:ab",
            "md5::ab",
            "md5:a b",
            "+md5:a",
            "md5+:a",
            "a++b:c",
            "sha256:",
            "sha256:zz",
            "md5:\u{e4}",
            "md5:a\n",
            &format!("sha512:{hex}"),
            &format!("SHA256:{hex}"),
            &format!("sha256:{hex}00"),
            &format!("sha256: {hex}"),
            &format!("sha256:{}", "A".repeat(64)),
            &format!("sha256:{}", "\u{e4}".repeat(32)),
        ] {
            assert_eq!(Digest::parse(text), Err(DigestError::Malformed), "{text}");
        }
    }

    #[test]
    fn json_holds_the_text() {
        let digest = Digest::of(Algorithm::Sha512, b"x");
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{digest}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"sha256:0\"").is_err());
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "(sha256|blake3):[a-f0-9]{63,65}",
            "sha512:[a-f0-9]{127,129}",
            "sha256:[a-fA-F0-9]{64}",
            "[a-z0-9+._-]{0,5}:[a-zA-Z0-9=_:-]{0,5}",
            ".{0,8}",
        ]
    }

    proptest! {
        #[test]
        fn digests_are_those_of_the_grammar(text in text()) {
            let usable = "(?:sha256|blake3):[a-f0-9]{64}|sha512:[a-f0-9]{128}";
            let any = "[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+";
            let matches = |pattern: &str| {
                regex::Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap().is_match(&text)
            };
            let mine = matches("(?:sha256|sha512|blake3):.*");
            match Digest::parse(&text) {
                Ok(digest) => {
                    prop_assert!(matches(usable));
                    prop_assert_eq!(digest.to_string(), text);
                    let same = Digest::from_bytes(digest.algorithm(), digest.as_bytes());
                    prop_assert_eq!(same, Some(digest));
                }
                Err(DigestError::UnsupportedAlgorithm) => prop_assert!(matches(any) && !mine),
                Err(DigestError::Malformed) => {
                    prop_assert!(!matches(usable) && (mine || !matches(any)));
                }
            }
        }
    }
}
