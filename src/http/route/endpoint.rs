//! The endpoints that paths lead to, and the routes that methods and parameters make of them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::query::{all, single};
use super::{ARTIFACT_TYPES_MAX, PageQuery, Route, RouteError, TAGS_MAX};
use crate::oci::name::NameError;
use crate::oci::reference::ReferenceError;
use crate::oci::{Algorithm, Digest, DigestError, Reference, RepositoryName, Tag, UploadId};

/// What a path leads to. Repository names are still encoded, other parts are decoded; neither
/// is checked.
#[derive(Debug)]
pub enum Endpoint<'a> {
    Base,
    Catalog,
    Tags(&'a str),
    Manifest(&'a str, Cow<'a, str>),
    Blob(&'a str, Cow<'a, str>),
    Referrers(&'a str, Cow<'a, str>),
    Uploads(&'a str),
    Upload(&'a str, Cow<'a, str>),
}

impl<'a> Endpoint<'a> {
    /// The endpoint of a path, if there is one.
    pub fn find(path: &'a str) -> Option<Self> {
        let rest = match path.strip_prefix("/v2")? {
            "" => return Some(Self::Base),
            rest => rest.strip_prefix('/')?,
        };
        if rest.is_empty() {
            return Some(Self::Base);
        }
        if decode(rest) == "_catalog" {
            return Some(Self::Catalog);
        }
        let (rest, last) = rest.rsplit_once('/')?;
        let (name, noun) = rest.rsplit_once('/')?;
        match (decode(noun).as_ref(), decode(last)) {
            ("tags", last) if last == "list" => Some(Self::Tags(name)),
            ("blobs", last) if last == "uploads" => Some(Self::Uploads(name)),
            ("uploads", id) => {
                let (name, _) =
                    name.rsplit_once('/').filter(|(_, noun)| decode(noun) == "blobs")?;
                Some(if id.is_empty() { Self::Uploads(name) } else { Self::Upload(name, id) })
            }
            (_, last) if last.is_empty() => None,
            ("manifests", reference) => Some(Self::Manifest(name, reference)),
            ("blobs", digest) => Some(Self::Blob(name, digest)),
            ("referrers", digest) => Some(Self::Referrers(name, digest)),
            _ => None,
        }
    }

    /// The methods it has, in the order of the `Allow` header.
    pub const fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => {
                &["GET", "HEAD", "OPTIONS"]
            }
            Self::Manifest(..) => &["DELETE", "GET", "HEAD", "OPTIONS", "PUT"],
            Self::Blob(..) => &["DELETE", "GET", "HEAD", "OPTIONS"],
            Self::Uploads(_) => &["OPTIONS", "POST"],
            Self::Upload(..) => &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"],
        }
    }

    /// The route of one of its methods, but for `OPTIONS`.
    pub fn route(&self, method: &str, query: &str) -> Result<Route, RouteError> {
        match self {
            Self::Base => Ok(Route::Base),
            Self::Catalog => Ok(Route::Catalog { page: page(query)? }),
            Self::Tags(name) => {
                Ok(Route::ListTags { repository: repository(name)?, page: page(query)? })
            }
            Self::Manifest(name, text) => manifest(method, repository(name)?, text, query),
            Self::Blob(name, text) => blob(method, repository(name)?, Digest::parse(text)?),
            Self::Referrers(name, text) => {
                referrers(repository(name)?, Digest::parse(text)?, query)
            }
            Self::Uploads(name) => begin_upload(repository(name)?, query),
            Self::Upload(name, text) => {
                let repository = repository(name)?;
                let id = UploadId::parse(text).ok_or(RouteError::UploadUnknown)?;
                upload(method, repository, id, query)
            }
        }
    }
}

/// Decodes a part of a path. What is not UTF-8 becomes U+FFFD, and malformed escapes stay: no
/// grammar has either.
fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// The name in a path. A slash that was encoded belongs to no name.
fn repository(encoded: &str) -> Result<RepositoryName, RouteError> {
    let name = decode(encoded);
    let slashes = |text: &str| text.bytes().filter(|b| *b == b'/').count();
    if slashes(&name) != slashes(encoded) {
        return Err(NameError.into());
    }
    Ok(RepositoryName::parse(&name)?)
}

fn page(query: &str) -> Result<PageQuery, RouteError> {
    let n = single(query, "n")?.map(|text| page_size(&text)).transpose()?;
    Ok(PageQuery { n, last: single(query, "last")? })
}

fn page_size(text: &str) -> Result<u32, RouteError> {
    // The number parser of the standard library also takes a plus sign.
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RouteError::PageSizeInvalid);
    }
    text.parse().map_err(|_| RouteError::PageSizeInvalid)
}

fn manifest(
    method: &str,
    repository: RepositoryName,
    reference: &str,
    query: &str,
) -> Result<Route, RouteError> {
    let reference = match Reference::parse(reference) {
        Ok(reference) => reference,
        Err(ReferenceError::Digest(error)) => return Err(error.into()),
        Err(ReferenceError::Tag(error)) if method == "PUT" => return Err(error.into()),
        Err(ReferenceError::Tag(_)) => return Err(RouteError::ManifestUnknown),
    };
    Ok(match method {
        "PUT" => {
            let tags = tags(query)?;
            if !tags.is_empty() && matches!(reference, Reference::Tag(_)) {
                return Err(RouteError::TagsWithTag);
            }
            Route::PutManifest { repository, reference, tags }
        }
        "DELETE" => Route::DeleteManifest { repository, reference },
        "HEAD" => Route::HeadManifest { repository, reference },
        _ => Route::GetManifest { repository, reference },
    })
}

fn tags(query: &str) -> Result<Vec<Tag>, RouteError> {
    if all(query, "tag").nth(TAGS_MAX).is_some() {
        return Err(RouteError::TooManyTags);
    }
    let mut tags = Vec::new();
    for text in all(query, "tag") {
        let tag = Tag::parse(&text)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn blob(method: &str, repository: RepositoryName, digest: Digest) -> Result<Route, RouteError> {
    Ok(match method {
        "DELETE" => Route::DeleteBlob { repository, digest },
        "HEAD" => Route::HeadBlob { repository, digest },
        _ => Route::GetBlob { repository, digest },
    })
}

fn referrers(
    repository: RepositoryName,
    subject: Digest,
    query: &str,
) -> Result<Route, RouteError> {
    let mut artifact_types = Vec::new();
    for text in all(query, "artifactType").filter(|text| !text.is_empty()) {
        if artifact_types.contains(&text) {
            continue;
        }
        if artifact_types.len() == ARTIFACT_TYPES_MAX {
            return Err(RouteError::TooManyArtifactTypes);
        }
        artifact_types.push(text);
    }
    let last = single(query, "last")?.map(|text| Digest::parse(&text)).transpose()?;
    Ok(Route::ListReferrers { repository, subject, artifact_types, last })
}

fn begin_upload(repository: RepositoryName, query: &str) -> Result<Route, RouteError> {
    let algorithm = match single(query, "digest-algorithm")? {
        Some(name) => {
            let algorithm = Algorithm::from_name(&name);
            Some(algorithm.ok_or(DigestError::UnsupportedAlgorithm)?)
        }
        None => None,
    };
    if let Some(text) = single(query, "mount")? {
        return mount(repository, Digest::parse(&text)?, algorithm, query);
    }
    if let Some(text) = single(query, "digest")? {
        return Ok(Route::PushBlob { repository, digest: Digest::parse(&text)? });
    }
    Ok(Route::BeginUpload { repository, algorithm: algorithm.unwrap_or(Algorithm::Sha256) })
}

/// A source that cannot exist has no blobs: a plain session, as for an absent blob, and not a
/// mount from anywhere. An empty `from` is none.
fn mount(
    repository: RepositoryName,
    digest: Digest,
    algorithm: Option<Algorithm>,
    query: &str,
) -> Result<Route, RouteError> {
    let algorithm = algorithm.unwrap_or(digest.algorithm());
    let from = match single(query, "from") {
        Ok(None) => None,
        Ok(Some(text)) if text.is_empty() => None,
        Ok(Some(text)) => match RepositoryName::parse(&text) {
            Ok(name) => Some(name),
            Err(_) => return Ok(Route::BeginUpload { repository, algorithm }),
        },
        Err(_) => return Ok(Route::BeginUpload { repository, algorithm }),
    };
    Ok(Route::MountBlob { repository, digest, from, algorithm })
}

fn upload(
    method: &str,
    repository: RepositoryName,
    id: UploadId,
    query: &str,
) -> Result<Route, RouteError> {
    Ok(match method {
        "PATCH" => Route::AppendUpload { repository, id },
        "PUT" => {
            let text = single(query, "digest")?.ok_or(RouteError::DigestMissing)?;
            Route::FinishUpload { repository, id, digest: Digest::parse(&text)? }
        }
        "DELETE" => Route::CancelUpload { repository, id },
        _ => Route::UploadStatus { repository, id },
    })
}
