//! Manifests (image-spec, manifest.md and image-index.md; Docker image manifest V2, schema 2).
//!
//! Read with our own structs on serde: the types of the `oci-spec` crate take arrays for
//! objects and let member names differ by case, have no place for a digest of an unregistered
//! algorithm, do not verify `data`, and do not tell a document that is both an image and an
//! index from either. One pass over the document; memory stays within a few times its size.

mod annotations;
mod document;
mod object;
mod reference;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::document::Document;
use self::object::{Members, Text};
pub use self::reference::{ChildRef, DescriptorDigest, Platform};
use super::Digest;
use super::media_type::{self, MediaType};

/// The deepest nesting of arrays and objects that is taken. Clients' parsers stop somewhere
/// (Python's at about 1,000, Go's at 10,000), and no manifest comes near.
const NESTING_MAX: u32 = 128;

/// The longest part of a client's document that an error repeats, in bytes.
const EXCERPT_LENGTH_MAX: usize = 256;

/// Which of the two kinds of manifests it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestKind {
    /// A config and layers.
    Image,
    /// A list of manifests or blobs.
    Index,
}

/// Why a manifest is refused. Texts of the document are repeated only in part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no JSON text, or a member has a wrong type or value.
    #[error("the manifest is malformed: {0}")]
    Malformed(String),
    /// It is not encoded in UTF-8.
    #[error("the manifest is not UTF-8")]
    NotUtf8,
    /// It is nested too deeply.
    #[error("the manifest is nested deeper than {NESTING_MAX} levels")]
    TooDeep,
    /// Nothing says what it is.
    #[error("the manifest's type is stated neither by Content-Type nor by its mediaType")]
    MediaTypeMissing,
    /// It is of a type that is no manifest's.
    #[error("{0:?} is no media type of a manifest")]
    MediaTypeUnknown(String),
    /// It says two things of what it is.
    #[error("the manifest's mediaType {stated:?} differs from its Content-Type {content_type}")]
    MediaTypeMismatch {
        /// The request's Content-Type.
        content_type: MediaType,
        /// The document's `mediaType`.
        stated: String,
    },
    /// Docker's documents always state their type; Docker itself cannot pull one that does not.
    #[error("a Docker manifest needs a mediaType")]
    DockerMediaTypeMissing,
    /// Docker image manifest V2, schema 1, which no current client pulls.
    #[error("Docker schema 1 manifests are not supported; push schema 2 or OCI")]
    Schema1,
    /// The schema version is not the number 2.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
    /// A member that this kind of manifest needs is not there.
    #[error("{0:?} is missing")]
    Missing(&'static str),
    /// A member of the other kind of manifest is there: clients would disagree on what the
    /// document is (CVE-2021-41190).
    #[error("{0:?} does not belong into this kind of manifest")]
    Ambiguous(&'static str),
}

impl From<serde_json::Error> for ManifestError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(excerpt(error.to_string()))
    }
}

/// What a registry needs to know of a manifest. Everything else is in its bytes, which are
/// stored and served as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The type to store and serve it under: one of the four of [`super::media_type`].
    pub media_type: MediaType,
    /// Image or index.
    pub kind: ManifestKind,
    /// The config; always there in an image, never in an index.
    pub config: Option<ChildRef>,
    /// The layers of an image, in order, repetitions included.
    pub layers: Vec<ChildRef>,
    /// The children of an index, in order, repetitions included; of any media type, and blobs
    /// as well as manifests.
    pub children: Vec<ChildRef>,
    /// What it is attached to; never required to exist. `None` also where the subject's digest
    /// is of an algorithm that this registry does not compute: its referrers could not be
    /// asked for, and a client that gets no `OCI-Subject` falls back to the referrers tag.
    pub subject: Option<Digest>,
    /// Its own artifact type; see [`Self::referrer_type`].
    pub artifact_type: Option<String>,
    /// Its own annotations, which lists of referrers show.
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads the document `bytes` that a client pushed under `content_type` (`None`: the
    /// request has no such header). The caller bounds the length of `bytes`.
    pub fn parse(content_type: Option<&MediaType>, bytes: &[u8]) -> Result<Self, ManifestError> {
        if let Some(content_type) = content_type {
            kind_of(content_type)?;
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotUtf8)?;
        if !is_shallow(text) {
            return Err(ManifestError::TooDeep);
        }
        let Members(document) = serde_json::from_str::<Members<Document<'_>>>(text)?;
        check_version(&document)?;
        let media_type = effective_type(content_type, document.media_type.as_ref())?;
        let kind = kind_of(&media_type)?;
        check_members(kind, &document)?;
        Ok(Self {
            media_type,
            kind,
            config: document.config,
            layers: document.layers.unwrap_or_default(),
            children: document.manifests.unwrap_or_default(),
            subject: document.subject.and_then(|subject| subject.digest.known().copied()),
            artifact_type: document.artifact_type.filter(|text| !text.is_empty()),
            annotations: document.annotations.0,
        })
    }

    /// The media type of an image's config.
    pub fn config_type(&self) -> Option<&MediaType> {
        self.config.as_ref().map(|config| &config.media_type)
    }

    /// The artifact type that lists of referrers show: its own, else an image's config type
    /// (distribution-spec, "Listing Referrers").
    pub fn referrer_type(&self) -> Option<&str> {
        self.artifact_type.as_deref().or(self.config_type().map(MediaType::as_str))
    }

    /// Everything it refers to but its subject: config, layers, children.
    pub fn references(&self) -> impl Iterator<Item = &ChildRef> {
        self.config.iter().chain(&self.layers).chain(&self.children)
    }
}

fn check_version(document: &Document<'_>) -> Result<(), ManifestError> {
    match document.schema_version {
        Some(1) => Err(ManifestError::Schema1),
        Some(2) => Ok(()),
        Some(_) => Err(ManifestError::SchemaVersion),
        None => Err(ManifestError::Missing("schemaVersion")),
    }
}

/// The type on which header and document agree.
fn effective_type(
    content_type: Option<&MediaType>,
    stated: Option<&Text<'_>>,
) -> Result<MediaType, ManifestError> {
    let stated = stated.map(|Text(text)| text.as_ref());
    match (content_type, stated) {
        (None, None) => Err(ManifestError::MediaTypeMissing),
        (Some(content_type), None) if is_docker(content_type) => {
            Err(ManifestError::DockerMediaTypeMissing)
        }
        (Some(content_type), Some(text)) if content_type.as_str() != text => {
            let stated = excerpt(text.to_owned());
            Err(ManifestError::MediaTypeMismatch { content_type: content_type.clone(), stated })
        }
        (Some(content_type), _) => Ok(content_type.clone()),
        (None, Some(text)) => MediaType::parse_bare(text)
            .map_err(|_| ManifestError::MediaTypeUnknown(excerpt(text.to_owned()))),
    }
}

fn is_docker(media_type: &MediaType) -> bool {
    matches!(media_type.as_str(), media_type::DOCKER_MANIFEST | media_type::DOCKER_LIST)
}

fn kind_of(media_type: &MediaType) -> Result<ManifestKind, ManifestError> {
    match media_type.as_str() {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Ok(ManifestKind::Image),
        media_type::OCI_INDEX | media_type::DOCKER_LIST => Ok(ManifestKind::Index),
        media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED => {
            Err(ManifestError::Schema1)
        }
        other => Err(ManifestError::MediaTypeUnknown(excerpt(other.to_owned()))),
    }
}

/// A document has what its kind needs, and nothing of another kind.
fn check_members(kind: ManifestKind, document: &Document<'_>) -> Result<(), ManifestError> {
    let image = [("config", document.config.is_some()), ("layers", document.layers.is_some())];
    let index = [("manifests", document.manifests.is_some())];
    let (needed, foreign) = match kind {
        ManifestKind::Image => (image.as_slice(), index.as_slice()),
        ManifestKind::Index => (index.as_slice(), image.as_slice()),
    };
    if let Some((name, _)) = foreign.iter().find(|(_, present)| *present) {
        return Err(ManifestError::Ambiguous(name));
    }
    if document.has_schema1_layers {
        return Err(ManifestError::Ambiguous("fsLayers"));
    }
    match needed.iter().find(|(_, present)| !present) {
        Some((name, _)) => Err(ManifestError::Missing(name)),
        None => Ok(()),
    }
}

/// Whether arrays and objects nest within [`NESTING_MAX`]. Exact for valid JSON; in anything
/// else it ends somewhere, and the parser finds the error.
fn is_shallow(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_u32, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return false;
        }
    }
    true
}

/// The beginning of a text that a client chose.
fn excerpt(mut text: String) -> String {
    if text.len() > EXCERPT_LENGTH_MAX {
        text.truncate(text.floor_char_boundary(EXCERPT_LENGTH_MAX));
        text.push_str("...");
    }
    text
}
