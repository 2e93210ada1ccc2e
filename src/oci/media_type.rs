//! Media types of manifests, and the few of their parts that a registry tells apart.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Docker image manifest, version 2 schema 1; refused.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// The same, signed.
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// Layers that registries need not hold, up to the suffix that names their compression
/// (image-spec, layer.md#non-distributable-layers; Docker's image manifest V2, schema 2).
const FOREIGN_LAYERS: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// Whether the media type is that of a non-distributable (foreign) layer.
pub fn is_foreign_layer(media_type: &str) -> bool {
    let compression = FOREIGN_LAYERS.iter().find_map(|layer| media_type.strip_prefix(layer));
    compression.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['+', '.']))
}

/// A text is no media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a media type is type/subtype of up to 127 characters each (RFC 6838, section 4.2)")]
pub struct MediaTypeError;

/// A media type without parameters, kept as the client wrote it; unknown ones are legal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Box<str>);

impl MediaType {
    /// Parses the value of a header: `type/subtype`; parameters, which begin with a `;`, and the
    /// space around are dropped.
    pub fn parse(text: &str) -> Result<Self, MediaTypeError> {
        Self::parse_bare(text.split(';').next().unwrap_or_default().trim_matches([' ', '\t']))
    }

    /// Parses `type/subtype` and nothing else (RFC 6838, section 4.2), as documents state it.
    pub fn parse_bare(text: &str) -> Result<Self, MediaTypeError> {
        let restricted = |name: &str| {
            (1..=127).contains(&name.len())
                && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match text.split_once('/') {
            Some((kind, subtype)) if restricted(kind) && restricted(subtype) => {
                Ok(Self(text.into()))
            }
            _ => Err(MediaTypeError),
        }
    }

    /// The media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_bare(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_and_white_space_are_dropped() {
        for text in ["a/b", " a/b\t", "a/b;charset=utf-8", "a/b ; x=\"y;z\"", "a/b;"] {
            assert_eq!(MediaType::parse(text).map(|t| t.to_string()), Ok("a/b".to_owned()));
            assert_eq!(MediaType::parse_bare(text).is_ok(), text == "a/b", "{text}");
        }
        let long = format!("{}/{}", "a".repeat(127), "b".repeat(127));
        assert_eq!(MediaType::parse(&long).map(|t| t.as_str().len()), Ok(255));
        for known in [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, DOCKER_SCHEMA1_SIGNED]
        {
            assert_eq!(MediaType::parse(known).map(|t| t.to_string()), Ok(known.to_owned()));
        }
    }

    #[test]
    fn foreign_layers_are_told_by_their_type() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.nondistributable.v1.tar", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", false),
            ("application/vnd.oci.image.layer.v1.tar", false),
            ("application/vnd.oci.image.layer.nondistributable.v1.tarx", false),
        ] {
            assert_eq!(is_foreign_layer(media_type), expected, "{media_type}");
        }
    }

    proptest! {
        #[test]
        fn media_types_are_those_of_the_grammar(
            text in prop_oneof!["[a!+./-]{0,8}", "[a-z]{1,3}/[a-z+.]{1,4}", "a{120,130}/b",
                ".{0,6}"]
                .prop_filter("no parameters", |text| !text.contains([';', ' ', '\t'])),
        ) {
            let name = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}";
            let grammar = regex::Regex::new(&format!(r"\A{name}/{name}\z")).unwrap();
            prop_assert_eq!(MediaType::parse(&text).is_ok(), grammar.is_match(&text));
        }
    }
}
