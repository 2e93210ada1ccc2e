//! F-1: names, tags, digests, references, upload ids and media types are exactly those of their
//! grammars, and what was read is written as it was.
#![no_main]

use std::sync::LazyLock;

use kelson::oci::{Digest, DigestError, MediaType, Reference, RepositoryName, Tag, UploadId};
use kelson_fuzz::whole;
use libfuzzer_sys::fuzz_target;
use regex::Regex;

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    let component = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*";
    whole(&format!("{component}(?:/{component})*"))
});
static TAG: LazyLock<Regex> = LazyLock::new(|| whole("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"));
static DIGEST: LazyLock<Regex> =
    LazyLock::new(|| whole("(?:sha256|blake3):[a-f0-9]{64}|sha512:[a-f0-9]{128}"));
static ANY_DIGEST: LazyLock<Regex> =
    LazyLock::new(|| whole("[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+"));
static COMPUTED: LazyLock<Regex> = LazyLock::new(|| whole("(?:sha256|sha512|blake3):.*"));
static UPLOAD: LazyLock<Regex> =
    LazyLock::new(|| whole("[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}"));
static MEDIA_TYPE: LazyLock<Regex> = LazyLock::new(|| {
    let name = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}";
    whole(&format!("[ \t]*({name}/{name})[ \t]*(?:;.*)?"))
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let name = RepositoryName::parse(text).ok();
    let is_name = text.len() <= 255 && NAME.is_match(text);
    assert_eq!(name.map(|name| name.to_string()), is_name.then(|| text.to_owned()));

    let tag = Tag::parse(text).ok().map(|tag| tag.to_string());
    assert_eq!(tag, TAG.is_match(text).then(|| text.to_owned()));

    let digest = Digest::parse(text);
    match &digest {
        Ok(digest) => {
            assert!(DIGEST.is_match(text));
            assert_eq!(digest.to_string(), text);
            assert_eq!(Digest::from_bytes(digest.algorithm(), digest.as_bytes()), Some(*digest));
        }
        Err(DigestError::UnsupportedAlgorithm) => {
            assert!(ANY_DIGEST.is_match(text) && !COMPUTED.is_match(text));
        }
        Err(DigestError::Malformed) => {
            assert!(!DIGEST.is_match(text));
            assert!(!ANY_DIGEST.is_match(text) || COMPUTED.is_match(text));
        }
    }

    match Reference::parse(text) {
        Ok(Reference::Tag(found)) => assert_eq!(Some(found.to_string()), tag),
        Ok(Reference::Digest(found)) => assert_eq!(Ok(found), digest),
        Err(_) => assert!(tag.is_none() && digest.is_err()),
    }

    let upload = UploadId::parse(text).map(|id| id.to_string());
    assert_eq!(upload, UPLOAD.is_match(text).then(|| text.to_owned()));

    let media_type = MediaType::parse(text).ok().map(|found| found.to_string());
    assert_eq!(media_type, MEDIA_TYPE.captures(text).map(|found| found[1].to_owned()));
});
