//! The whole of `http` over real sockets, on a registry with real files.

mod connections;
mod content;
mod lists;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::access_log::{self, Writer};
use super::listen::Listener;
use super::options::{Limits, Listen, Options};
use super::serve::{self, Stopped};
use super::{Api, Parts};
use crate::blob::FsBlobs;
use crate::disk::OsVfs;
use crate::meta::memory::MemoryMeta;
use crate::ops::clock::SystemClock;
use crate::ops::random::OsRandom;
use crate::ops::{Blocking, Clock, Random};
use crate::registry::{self, Registry};

/// No test waits longer for bytes.
const PATIENCE: Duration = Duration::from_secs(20);
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Settings on any free port.
pub fn options() -> Options {
    Options {
        listen: Listen::Tcp("127.0.0.1:0".to_owned()),
        prefix: "/".to_owned(),
        host: None,
        relative_urls: false,
        headers: vec![("X-Content-Type-Options".to_owned(), vec!["nosniff".to_owned()])],
        drain_timeout: Duration::from_secs(8),
        access_log: true,
        debug: None,
        catalog_entries_max: 1000,
        tags_max: 1000,
        manifest_size_bytes_max: 4 * 1024 * 1024,
        limits: Limits {
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            body_bytes_per_second_min: 1024,
            body_window: Duration::from_secs(60),
            connections_max: 1000,
        },
    }
}

/// A running server; it stops when it is dropped.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    draining: CancellationToken,
    stopped: tokio::task::JoinHandle<Stopped>,
    log: Writer,
    _root: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What answers, on a store below `root`; and its access log.
async fn api(
    options: Options,
    registry: registry::Options,
    root: &Path,
    draining: CancellationToken,
) -> (Api, Writer) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let random: Arc<dyn Random> = Arc::new(OsRandom);
    let (vfs, blocking) = (Arc::new(OsVfs), Blocking::Pool);
    let blobs = FsBlobs::open(vfs, root, blocking, Arc::clone(&random)).unwrap();
    let (meta, blobs) = (Arc::new(MemoryMeta::default()), Arc::new(blobs));
    let (clocks, randoms) = (Arc::clone(&clock), Arc::clone(&random));
    let registry = Registry::open(meta, blobs, clocks, randoms, registry).await.unwrap();
    let (access_log, log) = access_log::channel();
    let access_log = Some(access_log);
    let parts = Parts { registry, clock, random, access_log, draining };
    (Api::new(options, parts).unwrap(), log)
}

impl Server {
    async fn start() -> Self {
        Self::start_with(options(), registry::Options::default()).await
    }

    async fn start_with(options: Options, registry: registry::Options) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (stop, draining) = (CancellationToken::new(), CancellationToken::new());
        let listener = Listener::bind(&options.listen).await.unwrap();
        let address = listener.local_address().unwrap().parse().unwrap();
        let (api, log) = api(options, registry, root.path(), draining.clone()).await;
        let stopped = tokio::spawn(serve::run(listener, api, stop.clone()));
        Self { address, stop, draining, stopped, log, _root: root }
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), bytes: Vec::new() }
    }

    /// One request on a connection of its own.
    async fn call(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut client = self.connect().await;
        client.send(&request(method, target, headers, body)).await;
        client.answer(method).await
    }

    /// Pushes a blob in one request, and gives its digest.
    async fn push_blob(&self, repo: &str, content: &[u8]) -> String {
        let digest = sha256(content);
        let target = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
        assert_eq!(self.call("POST", &target, &[], content).await.status, 201);
        digest
    }

    /// Pushes a manifest without layers, unlike any of another `seed`, and gives its digest.
    async fn push_manifest(&self, repo: &str, reference: &str, seed: &str) -> String {
        let document = self.manifest(repo, seed, "").await;
        let target = format!("/v2/{repo}/manifests/{reference}");
        let content_type = format!("Content-Type: {MANIFEST}");
        let answer = self.call("PUT", &target, &[&content_type], document.as_bytes()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        sha256(document.as_bytes())
    }

    /// A manifest whose config is pushed; `more` goes into it.
    async fn manifest(&self, repo: &str, seed: &str, more: &str) -> String {
        let config = self.push_blob(repo, b"{}").await;
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{{\"mediaType\":\
             \"application/vnd.oci.image.config.v1+json\",\"digest\":\"{config}\",\"size\":2}},\
             \"layers\":[],\"annotations\":{{\"seed\":\"{seed}\"}}{more}}}"
        )
    }
}

fn sha256(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The bytes of a request; a body brings its `Content-Length`.
fn request(method: &str, target: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n");
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for header in headers {
        text.push_str(&format!("{header}\r\n"));
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

/// A client that reads and writes bytes.
struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads until there is something new; false at the end of the stream.
    async fn read(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.bytes);
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("the server must answer or close").is_ok_and(|size| size > 0)
    }

    /// The next answer. Its body must be as long as it says.
    async fn answer(&mut self, method: &str) -> Answer {
        let end = loop {
            match self.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => assert!(self.read().await, "closed: {:?}", self.bytes),
            }
        };
        let head = String::from_utf8(self.bytes.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let is_bodyless = method == "HEAD" || matches!(status, 100 | 204 | 304);
        let length = if is_bodyless { 0 } else { answer.number("content-length") };
        while self.bytes.len() < length {
            assert!(self.read().await, "cut after {} of {length} bytes", self.bytes.len());
        }
        answer.body = self.bytes.drain(..length).collect();
        answer
    }

    /// Whether the server closes without another byte.
    async fn is_closed(&mut self) -> bool {
        self.bytes.is_empty() && !self.read().await
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// The value of a header; empty without one.
    fn header(&self, name: &str) -> &str {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = fields.filter(|field| field.0.eq_ignore_ascii_case(name));
        let value = values.next().map_or("", |field| field.1);
        assert!(values.next().is_none(), "{name} twice: {}", self.head);
        value
    }

    fn number(&self, name: &str) -> usize {
        self.header(name).parse().unwrap_or_else(|_| panic!("no {name} in {}", self.head))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of the first error.
    fn code(&self) -> String {
        assert!(self.header("content-type").starts_with("application/json"), "{}", self.head);
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}
