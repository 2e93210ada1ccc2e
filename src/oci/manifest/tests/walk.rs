//! The rules once more, as a walk over `serde_json::Value`: what a document means, told without
//! the parser. Also the oracle of the fuzz target `manifest`, which includes this file.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;
use serde_json::{Map, Value};
use sha2::Digest as _;

use super::{
    ChildRef, DOCKER_LIST, DOCKER_MANIFEST, Manifest, ManifestKind, OCI_INDEX, OCI_MANIFEST,
};

/// What both readings of a document are compared by.
#[derive(Debug, PartialEq)]
pub struct Summary {
    media_type: String,
    is_image: bool,
    references: Vec<Reference>,
    subject: Option<String>,
    referrer_type: Option<String>,
    annotations: BTreeMap<String, String>,
}

/// Media type, digest, whether it is known, size, URLs, platform.
type Reference = (String, String, bool, u64, Vec<String>, Option<(String, String)>);

impl From<Manifest> for Summary {
    fn from(manifest: Manifest) -> Self {
        let reference = |child: &ChildRef| {
            (
                child.media_type.to_string(),
                child.digest.to_string(),
                child.digest.known().is_some(),
                child.size_bytes,
                child.urls().map(str::to_owned).collect(),
                child.platform.as_deref().map(|p| (p.os.clone(), p.architecture.clone())),
            )
        };
        Self {
            media_type: manifest.media_type.to_string(),
            is_image: manifest.kind == ManifestKind::Image,
            references: manifest.references().map(reference).collect(),
            subject: manifest.subject.map(|digest| digest.to_string()),
            referrer_type: manifest.referrer_type().map(str::to_owned),
            annotations: manifest.annotations,
        }
    }
}

/// A member that may be absent or null.
fn optional<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn texts(value: &Value) -> Option<BTreeMap<String, String>> {
    let entries = value.as_object()?.iter();
    entries.map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
}

/// A pattern that matches whole texts.
fn whole(pattern: &str) -> Regex {
    Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap()
}

static REGISTERED: LazyLock<Regex> =
    LazyLock::new(|| whole("sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}|blake3:[a-f0-9]{64}"));
static DIGEST: LazyLock<Regex> =
    LazyLock::new(|| whole("[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+"));
static MEDIA_TYPE: LazyLock<Regex> = LazyLock::new(|| {
    let name = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}";
    whole(&format!("{name}/{name}"))
});

fn has_digest(content: &[u8], digest: &str) -> bool {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match digest.split_once(':') {
        Some(("sha256", value)) => hex(&sha2::Sha256::digest(content)) == value,
        Some(("sha512", value)) => hex(&sha2::Sha512::digest(content)) == value,
        Some(("blake3", value)) => blake3::hash(content).to_hex().as_str() == value,
        _ => true,
    }
}

fn reference(value: &Value) -> Option<Reference> {
    let object = value.as_object()?;
    let media_type = object.get("mediaType")?.as_str()?;
    let digest = object.get("digest")?.as_str()?;
    let mine = ["sha256:", "sha512:", "blake3:"].iter().any(|name| digest.starts_with(name));
    if !MEDIA_TYPE.is_match(media_type)
        || !DIGEST.is_match(digest)
        || mine && !REGISTERED.is_match(digest)
    {
        return None;
    }
    let size_bytes = u64::try_from(object.get("size")?.as_i64()?).ok()?;
    if let Some(data) = optional(object, "data") {
        let content = base64::prelude::BASE64_STANDARD.decode(data.as_str()?).ok()?;
        if content.len() as u64 != size_bytes || !has_digest(&content, digest) {
            return None;
        }
    }
    if let Some(annotations) = optional(object, "annotations") {
        texts(annotations)?;
    }
    let urls = match optional(object, "urls") {
        Some(urls) => {
            let url = |url: &Value| {
                let text = url.as_str()?;
                let whole = text.split_whitespace().eq([text]) && !text.contains(char::is_control);
                whole.then(|| text.to_owned())
            };
            urls.as_array()?.iter().map(url).collect::<Option<_>>()?
        }
        None => Vec::new(),
    };
    let platform = match optional(object, "platform") {
        Some(platform) => {
            let part = |name: &str| match platform.as_object()?.get(name) {
                Some(text) => text.as_str().map(str::to_owned),
                None => Some(String::new()),
            };
            Some((part("os")?, part("architecture")?))
        }
        None => None,
    };
    Some((media_type.to_owned(), digest.to_owned(), mine, size_bytes, urls, platform))
}

/// The document's meaning, `None` where it has none.
pub fn read(content_type: Option<&str>, value: &Value) -> Option<Summary> {
    let object = value.as_object()?;
    if object.get("schemaVersion")?.as_u64()? != 2 || object.contains_key("fsLayers") {
        return None;
    }
    let stated = match optional(object, "mediaType") {
        Some(text) => Some(text.as_str()?),
        None => None,
    };
    if content_type.is_some_and(|of_header| stated.is_some_and(|text| text != of_header)) {
        return None;
    }
    let media_type = content_type.or(stated)?;
    let is_image = match media_type {
        OCI_MANIFEST => true,
        OCI_INDEX => false,
        DOCKER_MANIFEST if stated.is_some() => true,
        DOCKER_LIST if stated.is_some() => false,
        _ => return None,
    };
    let (lists, others): (_, &[_]) = if is_image {
        (object.get("layers")?, &["manifests"])
    } else {
        (object.get("manifests")?, &["config", "layers"])
    };
    if others.iter().any(|name| object.contains_key(*name)) {
        return None;
    }
    let config = if is_image { Some(reference(object.get("config")?)?) } else { None };
    let list = lists.as_array()?.iter().map(reference).collect::<Option<Vec<_>>>()?;
    let subject = match optional(object, "subject") {
        Some(subject) => Some(reference(subject)?.1),
        None => None,
    };
    let artifact_type = match optional(object, "artifactType") {
        Some(text) => Some(text.as_str()?.to_owned()),
        None => None,
    };
    let config_type = config.as_ref().map(|config| config.0.clone());
    Some(Summary {
        media_type: media_type.to_owned(),
        is_image,
        references: config.into_iter().chain(list).collect(),
        subject: subject.filter(|digest| REGISTERED.is_match(digest)),
        referrer_type: artifact_type.filter(|text| !text.is_empty()).or(config_type),
        annotations: match optional(object, "annotations") {
            Some(annotations) => texts(annotations)?,
            None => BTreeMap::new(),
        },
    })
}
