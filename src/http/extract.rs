//! Typed request headers and bodies.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderName, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::error::ApiError;
use crate::meta::Expect;
use crate::oci::range::ContentRange;
use crate::oci::{Digest, MediaType};
use crate::registry::{self, BodyError, Chunk};

/// Space that a manifest gets before its first byte is there, whatever length was announced.
const FIRST_SIZE_BYTES_MAX: u64 = 64 * 1024;

/// What collected bodies take in memory together, beyond that space of each: it is the clients
/// who decide how many there are, how large, and how slow.
const COLLECTED_SIZE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Counts what bodies that are being collected and stored take.
#[derive(Debug, Default)]
pub struct Collected(AtomicU64);

/// One such body; counts until it is dropped.
#[derive(Debug)]
pub struct Counted<'a> {
    all: &'a Collected,
    bytes: u64,
}

impl Counted<'_> {
    /// It has so many bytes now.
    fn grow(&mut self, size_bytes: usize) -> Result<(), ApiError> {
        let beyond = (size_bytes as u64).saturating_sub(FIRST_SIZE_BYTES_MAX);
        let more = beyond.saturating_sub(self.bytes);
        self.bytes += more;
        if self.all.0.fetch_add(more, Ordering::Relaxed) + more > COLLECTED_SIZE_BYTES_MAX {
            let text = "large manifests take all the memory that is meant for them";
            return Err(registry::Error::Exhausted(text.to_owned()).into());
        }
        Ok(())
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// `Content-Length`; the framing guard has let only plain numbers through.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `Content-Range` of an upload: where the chunk belongs, if the client says so.
pub fn content_range(headers: &HeaderMap) -> Result<Option<ContentRange>, ApiError> {
    let mut values = headers.get_all(header::CONTENT_RANGE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| ApiError::ContentRange)?;
    let range = ContentRange::parse(text).map_err(|_| ApiError::ContentRange)?;
    if values.next().is_some() { Err(ApiError::ContentRange) } else { Ok(Some(range)) }
}

/// `Content-Type` of a manifest, without parameters; `None` when there is none.
pub fn media_type(headers: &HeaderMap) -> Result<Option<MediaType>, ApiError> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| ApiError::ContentType)?;
    if values.next().is_some() {
        return Err(ApiError::ContentType);
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    MediaType::parse(text).map(Some).map_err(|_| ApiError::ContentType)
}

/// Entity tags of a condition (RFC 9110, section 13.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`
    Any,
    /// A list. Quotes are optional: several clients send a bare digest.
    List(Vec<EntityTag>),
}

/// One entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag {
    /// Whether it begins with `W/`.
    pub is_weak: bool,
    /// What stands in the quotes.
    pub text: String,
}

impl EntityTags {
    /// Of all headers of that name; `None` when there is none. What is no tag matches nothing.
    pub fn of(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut tags = Vec::new();
        let mut is_there = false;
        for value in headers.get_all(name) {
            is_there = true;
            let text = String::from_utf8_lossy(value.as_bytes());
            for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                if part == "*" {
                    return Some(Self::Any);
                }
                tags.push(EntityTag::parse(part));
            }
        }
        is_there.then_some(Self::List(tags))
    }

    /// Whether one of them names this digest; weak ones count, as `If-None-Match` asks.
    pub fn match_weakly(&self, digest: &Digest) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => {
                let digest = digest.to_string();
                tags.iter().any(|tag| tag.text == digest)
            }
        }
    }
}

impl EntityTag {
    /// One element of a list.
    pub fn parse(text: &str) -> Self {
        let (is_weak, rest) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let inner = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Self { is_weak, text: inner.unwrap_or(rest).to_owned() }
    }

    fn digest(&self) -> Option<Digest> {
        Digest::parse(&self.text).ok()
    }
}

/// The condition of a push: `If-Match` (compared strongly) or `If-None-Match`.
pub fn expectation(headers: &HeaderMap) -> Result<Expect, ApiError> {
    let matching = EntityTags::of(headers, &header::IF_MATCH);
    let unmatching = EntityTags::of(headers, &header::IF_NONE_MATCH);
    match (matching, unmatching) {
        (None, None) => Ok(Expect::Anything),
        (Some(EntityTags::Any), None) => Ok(Expect::Present),
        (None, Some(EntityTags::Any)) => Ok(Expect::Absent),
        (Some(EntityTags::List(tags)), None) => {
            let strong = tags.iter().filter(|tag| !tag.is_weak);
            Ok(Expect::OneOf(strong.filter_map(EntityTag::digest).collect()))
        }
        (None, Some(EntityTags::List(tags))) => {
            Ok(Expect::NoneOf(tags.iter().filter_map(EntityTag::digest).collect()))
        }
        (Some(_), Some(_)) => Err(ApiError::Conditions),
    }
}

/// Whether `If-None-Match` says that the client has this content already.
pub fn is_cached(headers: &HeaderMap, digest: &Digest) -> bool {
    EntityTags::of(headers, &header::IF_NONE_MATCH).is_some_and(|tags| tags.match_weakly(digest))
}

/// `Range`, unless `If-Range` names other content. A date never matches: no answer has one.
pub fn range<'a>(headers: &'a HeaderMap, digest: &Digest) -> Option<&'a str> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    let Some(condition) = headers.get(header::IF_RANGE) else { return Some(range) };
    let tag = EntityTag::parse(condition.to_str().ok()?.trim());
    (!tag.is_weak && tag.text == digest.to_string()).then_some(range)
}

/// A request's body on its way to the registry. It is not polled before somebody reads it:
/// `Expect: 100-continue` is answered at the first poll, so refusals come before.
#[derive(Debug)]
pub struct RequestBody(Body);

impl RequestBody {
    /// Of a request.
    pub fn new(body: Body) -> Self {
        Self(body)
    }

    /// As a chunk of an upload. The headers go: they must not wait for the body (see `dispatch`).
    pub fn into_chunk(self, headers: HeaderMap) -> Result<Chunk, ApiError> {
        let (range, length) = (content_range(&headers)?, content_length(&headers));
        // A request with neither length nor coding has no body (RFC 9112, section 6.3).
        let length = length.or_else(|| self.0.is_end_stream().then_some(0));
        Ok(Chunk { range, length, body: self.into_stream() })
    }

    /// As the registry reads it.
    pub fn into_stream(self) -> registry::Body {
        Box::pin(self)
    }

    /// All of it. Refused at once when more than `size_bytes_max` is announced, later when more
    /// arrives, and when others have taken the memory; memory grows with what arrives. The headers
    /// go at once.
    pub async fn collect<'a>(
        self,
        headers: HeaderMap,
        size_bytes_max: u64,
        all: &'a Collected,
    ) -> Result<(Bytes, Counted<'a>), ApiError> {
        let too_large = || ApiError::ManifestTooLarge { size_bytes_max };
        let announced = content_length(&headers).unwrap_or(0);
        drop(headers);
        if announced > size_bytes_max {
            return Err(too_large());
        }
        let first = usize::try_from(announced.min(FIRST_SIZE_BYTES_MAX)).unwrap_or(0);
        let mut collected = BytesMut::with_capacity(first);
        let mut counted = Counted { all, bytes: 0 };
        let mut stream = self.into_stream();
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(registry::Error::Body)?;
            if (collected.len() + bytes.len()) as u64 > size_bytes_max {
                return Err(too_large());
            }
            collected.extend_from_slice(&bytes);
            counted.grow(collected.len())?;
        }
        Ok((collected.freeze(), counted))
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let frame = ready!(Pin::new(&mut this.0).poll_frame(cx));
            let item = match frame {
                // Trailers carry nothing that this API knows.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => Some(Ok(bytes)),
                    _ => continue,
                },
                Some(Err(error)) => Some(Err(body_error(&error))),
                None => None,
            };
            return Poll::Ready(item);
        }
    }
}

/// What the connection's stream reported, found at the end of the chain of errors.
fn body_error(error: &(dyn std::error::Error + 'static)) -> BodyError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::TimedOut => BodyError::TooSlow,
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => BodyError::Malformed,
                _ => BodyError::Disconnected,
            };
        }
        cause = error.source();
    }
    BodyError::Disconnected
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn digest() -> Digest {
        Digest::parse(DIGEST).unwrap()
    }

    #[test]
    fn entity_tags_match_bare_quoted_weak_listed_and_star() {
        let matching = [
            DIGEST.to_owned(),
            format!("\"{DIGEST}\""),
            format!("W/\"{DIGEST}\""),
            format!("\"other\", \"{DIGEST}\""),
            format!(" , {DIGEST} ,"),
            "*".to_owned(),
        ];
        for text in matching {
            let headers = headers(&[(header::IF_NONE_MATCH, &text)]);
            assert!(is_cached(&headers, &digest()), "{text}");
        }
        for text in ["", "\"\"", "sha256:e3b0", "\"**\"", &DIGEST.to_uppercase()] {
            let headers = headers(&[(header::IF_NONE_MATCH, text)]);
            assert!(!is_cached(&headers, &digest()), "{text}");
        }
        assert!(!is_cached(&HeaderMap::new(), &digest()));
    }

    #[test]
    fn conditions_of_a_push_become_expectations() {
        let of = |pairs: &[(HeaderName, &str)]| expectation(&headers(pairs)).unwrap();
        assert_eq!(of(&[]), Expect::Anything);
        assert_eq!(of(&[(header::IF_MATCH, "*")]), Expect::Present);
        assert_eq!(of(&[(header::IF_NONE_MATCH, "*")]), Expect::Absent);
        let strong = [(header::IF_MATCH, DIGEST), (header::IF_MATCH, "\"x\"")];
        assert_eq!(of(&strong), Expect::OneOf(vec![digest()]));
        let weak = format!("W/\"{DIGEST}\"");
        assert_eq!(of(&[(header::IF_MATCH, &weak)]), Expect::OneOf(vec![]));
        assert_eq!(of(&[(header::IF_NONE_MATCH, &weak)]), Expect::NoneOf(vec![digest()]));
        let both = headers(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]);
        assert!(matches!(expectation(&both), Err(ApiError::Conditions)));
    }

    #[test]
    fn a_range_counts_only_for_the_content_that_if_range_names() {
        let range_with = |condition: &str| {
            let headers = headers(&[(header::RANGE, "bytes=0-1"), (header::IF_RANGE, condition)]);
            range(&headers, &digest()).map(str::to_owned)
        };
        assert_eq!(range_with(&format!("\"{DIGEST}\"")).as_deref(), Some("bytes=0-1"));
        assert_eq!(range_with(&format!("W/\"{DIGEST}\"")), None);
        assert_eq!(range_with("Thu, 03 Nov 2016 01:24:40 GMT"), None);
        let without = headers(&[(header::RANGE, "bytes=0-1")]);
        assert_eq!(range(&without, &digest()), Some("bytes=0-1"));
    }

    #[test]
    fn repeated_or_malformed_types_and_ranges_are_refused() {
        let twice = |name: HeaderName, value| headers(&[(name.clone(), value), (name, value)]);
        assert!(media_type(&twice(header::CONTENT_TYPE, "a/b")).is_err());
        assert!(content_range(&twice(header::CONTENT_RANGE, "0-1")).is_err());
        assert!(media_type(&headers(&[(header::CONTENT_TYPE, "text")])).is_err());
        let typed = media_type(&headers(&[(header::CONTENT_TYPE, "a/b; charset=utf-8")]));
        assert_eq!(typed.unwrap().unwrap().as_str(), "a/b");
        assert!(media_type(&headers(&[(header::CONTENT_TYPE, "")])).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_refused_announced_or_not() {
        let all = Collected::default();
        let collect = async |size: usize, announced: Option<&str>| {
            let body = RequestBody::new(Body::from(vec![b'x'; size]));
            let headers = match announced {
                Some(length) => headers(&[(header::CONTENT_LENGTH, length)]),
                None => HeaderMap::new(),
            };
            body.collect(headers.clone(), 10, &all).await.map(|(bytes, _)| bytes)
        };
        assert_eq!(collect(10, None).await.unwrap(), vec![b'x'; 10]);
        let streamed = collect(11, None).await;
        assert!(matches!(streamed, Err(ApiError::ManifestTooLarge { size_bytes_max: 10 })));
        let announced = collect(0, Some("11")).await;
        assert!(matches!(announced, Err(ApiError::ManifestTooLarge { .. })));
    }

    #[tokio::test]
    async fn large_bodies_take_no_more_memory_together_than_is_meant_for_them() {
        let all = Collected::default();
        let collect = async |size: usize| {
            let body = RequestBody::new(Body::from(vec![b'x'; size]));
            body.collect(HeaderMap::new(), u64::MAX, &all).await
        };
        let share = 10 * 1024 * 1024;
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(collect(share).await.unwrap());
        }
        let refused = collect(share).await.map(drop);
        assert!(matches!(refused, Err(ApiError::Registry(registry::Error::Exhausted(_)))));
        collect(64 * 1024).await.unwrap();
        held.pop();
        collect(share).await.unwrap();
        drop(held);
        assert_eq!(all.0.into_inner(), 0);
    }

    #[tokio::test]
    async fn the_cause_of_a_broken_body_is_told_apart() {
        let kinds = [
            (io::ErrorKind::TimedOut, BodyError::TooSlow),
            (io::ErrorKind::InvalidData, BodyError::Malformed),
            (io::ErrorKind::UnexpectedEof, BodyError::Disconnected),
        ];
        for (kind, expected) in kinds {
            let stream = futures_util::stream::iter([Err::<Bytes, _>(io::Error::from(kind))]);
            let body = RequestBody::new(Body::from_stream(stream));
            let items: Vec<_> = body.into_stream().collect().await;
            assert_eq!(items, [Err(expected)]);
        }
    }
}
