//! What a manifest says of a piece of content it refers to (image-spec, descriptor.md).

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::annotations::Annotations;
use super::object::{Members, Object, Text};
use crate::oci::media_type::is_foreign_layer;
use crate::oci::{Digest, DigestError, MediaType};

/// The digest in a descriptor.
///
/// A descriptor may use an algorithm that this registry does not compute, as long as the text
/// follows the grammar (image-spec, descriptor.md#digests). No such content can be pushed, so
/// a reference to it is one to content that is never present; hence it is no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescriptorDigest {
    /// Of content that can be here.
    Known(Digest),
    /// Of another algorithm; kept as written.
    Unregistered(Box<str>),
}

impl DescriptorDigest {
    fn parse(text: &str) -> Result<Self, DigestError> {
        match Digest::parse(text) {
            Ok(digest) => Ok(Self::Known(digest)),
            Err(DigestError::UnsupportedAlgorithm) => Ok(Self::Unregistered(text.into())),
            Err(DigestError::Malformed) => Err(DigestError::Malformed),
        }
    }

    /// The digest, if content of that name can be here.
    pub const fn known(&self) -> Option<&Digest> {
        match self {
            Self::Known(digest) => Some(digest),
            Self::Unregistered(_) => None,
        }
    }
}

impl fmt::Display for DescriptorDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(digest) => digest.fmt(f),
            Self::Unregistered(text) => f.write_str(text),
        }
    }
}

/// The platform of an index's child (image-spec, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Platform {
    /// `os`; empty when not stated.
    pub os: String,
    /// `architecture`; empty when not stated.
    pub architecture: String,
}

/// A reference of a manifest to its config, to a layer or to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildRef {
    /// Type of the content.
    pub media_type: MediaType,
    /// Name of the content.
    pub digest: DescriptorDigest,
    /// Its length, as the manifest states it; at most `i64::MAX`.
    pub size_bytes: u64,
    /// For which platform it is; boxed because few references have one.
    pub platform: Option<Box<Platform>>,
    /// Joined by line feeds, which no URL contains: a list of short texts would take many
    /// times the memory of the document.
    urls: Box<str>,
}

impl ChildRef {
    /// Where else the content can be had, in the order of the document.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.urls.split('\n').filter(|url| !url.is_empty())
    }

    /// Whether the media type says that registries do not hold the content (a
    /// non-distributable or, in Docker's words, foreign layer).
    pub fn is_foreign(&self) -> bool {
        is_foreign_layer(self.media_type.as_str())
    }

    /// Whether the manifest is complete without the content in the repository: it is foreign,
    /// or has URLs (distribution: `registry/storage/ocimanifesthandler.go`).
    pub fn may_be_elsewhere(&self) -> bool {
        !self.urls.is_empty() || self.is_foreign()
    }
}

/// Why a descriptor is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum DescriptorError {
    #[error("{0:?} is missing")]
    Missing(&'static str),
    #[error("\"mediaType\": {0}")]
    MediaType(#[from] crate::oci::media_type::MediaTypeError),
    #[error("\"digest\": {0}")]
    Digest(#[from] DigestError),
    #[error("\"size\" is above the largest signed 64-bit integer")]
    SizeTooLarge,
    #[error("\"data\" is not base64")]
    DataEncoding,
    #[error("\"data\" is not the content that \"digest\" and \"size\" name")]
    DataMismatch,
}

#[derive(Default)]
struct Descriptor<'a> {
    media_type: Option<Text<'a>>,
    digest: Option<Text<'a>>,
    size_bytes: Option<u64>,
    data: Option<Text<'a>>,
    urls: Urls,
    platform: Option<Box<Platform>>,
}

impl<'de> Object<'de> for Descriptor<'de> {
    const MEMBERS: &'static [&'static str] =
        &["mediaType", "digest", "size", "annotations", "urls", "data", "platform"];

    fn member<A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "mediaType" => self.media_type = Some(map.next_value()?),
            "digest" => self.digest = Some(map.next_value()?),
            "size" => self.size_bytes = Some(map.next_value()?),
            "data" => self.data = map.next_value()?,
            "urls" => self.urls = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "platform" => {
                let platform: Option<Members<Platform>> = map.next_value()?;
                self.platform = platform.map(|Members(platform)| Box::new(platform));
            }
            // Checked and dropped: nothing here shows a descriptor's own annotations.
            _ => drop(map.next_value::<Option<Annotations>>()?),
        }
        Ok(())
    }
}

impl Descriptor<'_> {
    fn check(self) -> Result<ChildRef, DescriptorError> {
        let Text(media_type) = self.media_type.ok_or(DescriptorError::Missing("mediaType"))?;
        let Text(digest) = self.digest.ok_or(DescriptorError::Missing("digest"))?;
        let size_bytes = self.size_bytes.ok_or(DescriptorError::Missing("size"))?;
        if i64::try_from(size_bytes).is_err() {
            return Err(DescriptorError::SizeTooLarge);
        }
        let digest = DescriptorDigest::parse(&digest)?;
        if let Some(Text(data)) = self.data {
            check_data(&data, &digest, size_bytes)?;
        }
        Ok(ChildRef {
            media_type: MediaType::parse_bare(&media_type)?,
            digest,
            size_bytes,
            platform: self.platform,
            urls: self.urls.0.into(),
        })
    }
}

/// `data` is the content itself, in base64 (image-spec, descriptor.md#embedded-content).
fn check_data(
    data: &str,
    digest: &DescriptorDigest,
    size_bytes: u64,
) -> Result<(), DescriptorError> {
    let content = BASE64_STANDARD.decode(data).map_err(|_| DescriptorError::DataEncoding)?;
    let same = content.len() as u64 == size_bytes
        && digest.known().is_none_or(|known| Digest::of(known.algorithm(), &content) == *known);
    if same { Ok(()) } else { Err(DescriptorError::DataMismatch) }
}

impl<'de> Deserialize<'de> for ChildRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Members(descriptor) = Members::<Descriptor<'de>>::deserialize(deserializer)?;
        descriptor.check().map_err(D::Error::custom)
    }
}

impl<'de> Object<'de> for Platform {
    const MEMBERS: &'static [&'static str] = &["os", "architecture"];

    fn member<A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let value = map.next_value()?;
        match name {
            "os" => self.os = value,
            _ => self.architecture = value,
        }
        Ok(())
    }
}

/// `urls`, joined by line feeds.
#[derive(Default)]
struct Urls(String);

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(UrlsVisitor)
    }
}

struct UrlsVisitor;

impl<'de> Visitor<'de> for UrlsVisitor {
    type Value = Urls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of URLs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Urls, A::Error> {
        let mut urls = String::new();
        while let Some(Text(url)) = seq.next_element()? {
            let separates = |c: char| c.is_whitespace() || c.is_control();
            if url.is_empty() || url.contains(separates) {
                return Err(A::Error::custom("a URL is empty or contains white space"));
            }
            if !urls.is_empty() {
                urls.push('\n');
            }
            urls.push_str(&url);
        }
        Ok(Urls(urls))
    }
}
