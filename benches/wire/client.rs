//! One kept-alive connection.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, LOCATION};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use super::Image;

/// Body of a request.
type Sent = UnsyncBoxBody<Bytes, Infallible>;

/// What a streamed body is sent in.
const PIECE_SIZE_BYTES: usize = 64 << 10;

/// A connection to a registry.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Sent>,
    address: SocketAddr,
}

/// A request and the status that its answer must have.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub method: Method,
    pub path: &'a str,
    pub content_type: &'static str,
    pub body: Bytes,
    /// Whether the body goes out in pieces, without its length.
    pub streamed: bool,
    pub expected: StatusCode,
    pub keep: Keep,
}

/// What is kept of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Digest,
    Body,
}

/// What became of it.
#[derive(Debug)]
pub struct Answer {
    pub location: Option<String>,
    /// Of the body, not of the header.
    pub length: u64,
    pub content_length: Option<u64>,
    /// `sha256:...` of the body, when asked for.
    pub digest: Option<String>,
    /// The body, when asked for.
    pub body: Vec<u8>,
}

impl<'a> Request<'a> {
    /// GET of what must be there.
    pub fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            content_type: "",
            body: Bytes::new(),
            streamed: false,
            expected: StatusCode::OK,
            keep: Keep::Nothing,
        }
    }

    /// A request that makes something.
    pub fn create(method: Method, path: &'a str, content_type: &'static str, body: Bytes) -> Self {
        Self { method, content_type, body, expected: StatusCode::CREATED, ..Self::get(path) }
    }
}

impl Connection {
    /// Connects; the connection's own task ends with it.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, address })
    }

    /// Sends and reads the answer to its end.
    ///
    /// # Errors
    /// The connection breaks, or the answer has another status or length than it must.
    pub async fn send(&mut self, request: Request<'_>) -> Result<Answer> {
        let Request { method, path, content_type, body, streamed, expected, keep } = request;
        let what = format!("{method} {path}");
        let is_head = method == Method::HEAD;
        let mut builder = hyper::Request::builder().method(method).uri(path);
        builder = builder.header(HOST, self.address.to_string()).header("Accept", "*/*");
        if is_manifest(path) {
            builder = builder.header("Accept", super::image::MANIFEST);
        }
        if !content_type.is_empty() {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        let body = if streamed { in_pieces(body) } else { Full::new(body).boxed_unsync() };
        let request = builder.body(body)?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await.with_context(|| what.clone())?;
        let (parts, mut body) = answer.into_parts();
        let mut hasher = (keep == Keep::Digest).then(Sha256::new);
        let (mut length, mut kept) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.with_context(|| what.clone())?.into_data() else { continue };
            length += bytes.len() as u64;
            if let Some(hasher) = &mut hasher {
                hasher.update(&bytes);
            }
            if keep == Keep::Body {
                kept.extend_from_slice(&bytes);
            }
        }
        if parts.status != expected {
            bail!("{what}: {} instead of {expected}", parts.status);
        }
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let content_length: Option<u64> = text("content-length").and_then(|it| it.parse().ok());
        let complete = is_head || content_length.is_none_or(|stated| stated == length);
        ensure!(complete, "{what}: {length} bytes instead of {content_length:?}");
        let location = text(LOCATION.as_str()).map(without_authority);
        let digest = hasher.map(|it| super::image::digest_text(&it.finalize()));
        Ok(Answer { location, length, content_length, digest, body: kept })
    }

    /// Pushes a blob with POST and PUT.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn push_blob(&mut self, repo: &str, digest: &str, bytes: Bytes) -> Result<()> {
        let path = format!("/v2/{repo}/blobs/uploads/");
        let mut begin = Request::create(Method::POST, &path, "", Bytes::new());
        begin.expected = StatusCode::ACCEPTED;
        let location = self.send(begin).await?.location.context("no Location")?;
        self.finish(&location, digest, bytes).await
    }

    /// Pushes a blob with POST, one streamed PATCH, and a PUT that brings nothing, as docker does.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn stream_blob(&mut self, repo: &str, digest: &str, bytes: Bytes) -> Result<()> {
        let path = format!("/v2/{repo}/blobs/uploads/");
        let mut begin = Request::create(Method::POST, &path, "", Bytes::new());
        begin.expected = StatusCode::ACCEPTED;
        let location = self.send(begin).await?.location.context("no Location")?;
        let kind = "application/octet-stream";
        let mut patch = Request::create(Method::PATCH, &location, kind, bytes);
        (patch.expected, patch.streamed) = (StatusCode::ACCEPTED, true);
        let location = self.send(patch).await?.location.context("no Location")?;
        self.finish(&location, digest, Bytes::new()).await
    }

    async fn finish(&mut self, location: &str, digest: &str, bytes: Bytes) -> Result<()> {
        let separator = if location.contains('?') { '&' } else { '?' };
        let path = format!("{location}{separator}digest={digest}");
        let put = Request::create(Method::PUT, &path, "application/octet-stream", bytes);
        self.send(put).await?;
        Ok(())
    }

    /// Pushes an image as clients do: config, layer, manifest by tag.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn push(&mut self, repo: &str, tag: &str, image: &Image) -> Result<()> {
        for (digest, bytes) in &image.blobs {
            self.push_blob(repo, digest, bytes.clone()).await?;
        }
        let path = format!("/v2/{repo}/manifests/{tag}");
        let bytes = image.manifest.clone();
        self.send(Request::create(Method::PUT, &path, super::image::MANIFEST, bytes)).await?;
        Ok(())
    }
}

fn in_pieces(bytes: Bytes) -> Sent {
    let pieces = (0..bytes.len()).step_by(PIECE_SIZE_BYTES).map(move |at| {
        let end = bytes.len().min(at + PIECE_SIZE_BYTES);
        Ok(Frame::data(bytes.slice(at..end)))
    });
    StreamBody::new(stream::iter(pieces)).boxed_unsync()
}

fn is_manifest(path: &str) -> bool {
    path.contains("/manifests/")
}

/// Path and query of a Location, whatever server it names.
fn without_authority(location: &str) -> String {
    let rest = location.split_once("://").map_or(location, |(_, rest)| rest);
    rest.find('/').map_or_else(String::new, |at| rest[at..].to_owned())
}
