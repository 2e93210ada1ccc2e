//! Upload session ids: the UUID in an upload's URL (distribution-spec, end-4a).

use std::fmt;

use uuid::Uuid;

/// The id of an upload session; also the name of its staging directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Uuid);

impl UploadId {
    /// The id made of these random bytes (UUID version 4).
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The id stored as these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Parses the 36 characters that `Display` writes: lowercase, hyphenated; nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_written_form_is_an_id() {
        let id = "0b5b5c0e-8d4e-4c6e-9a55-2f3a3c1d7e11";
        assert_eq!(UploadId::parse(id).map(|id| id.to_string()).as_deref(), Some(id));
        for text in [
            "",
            "*",
            "\0",
            "../../x",
            &id.to_uppercase(),
            &id.replace('-', ""),
            &format!("{{{id}}}"),
            &format!("urn:uuid:{id}"),
            &format!("{id}0"),
            &format!(" {id}"),
            &id[1..],
        ] {
            assert_eq!(UploadId::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn ids_read_back(bytes in any::<[u8; 16]>()) {
            for id in [UploadId::from_bytes(bytes), UploadId::from_random(bytes)] {
                prop_assert_eq!(UploadId::parse(&id.to_string()), Some(id));
            }
            prop_assert_eq!(*UploadId::from_bytes(bytes).as_bytes(), bytes);
        }
    }
}
