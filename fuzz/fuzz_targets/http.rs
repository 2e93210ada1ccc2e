//! F-11: any bytes on a connection of the whole HTTP service (framing guard, HTTP library, router,
//! registry) over stores in memory that hold an image. No panic, no hang, no 5xx, and every answer
//! is well formed. The first byte is the size of the pieces in which the stream arrives.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kelson::blob::MemoryBlobs;
use kelson::config::Config;
use kelson::http::{Api, Parts, fuzzing};
use kelson::meta::Expect;
use kelson::meta::memory::MemoryMeta;
use kelson::oci::{Algorithm, Digest, MediaType, Reference, RepositoryName, Tag};
use kelson::registry::{self, Chunk, PutManifest, Registry};
use kelson_fuzz::{Numbered, VirtualClock, virtual_time};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// What the store holds: the seeds and the dictionary name these digests.
const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = b"a layer of an image";
/// More than any deadline of one connection, in virtual time.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else { return };
    let piece_size_bytes = usize::from(*size).max(1) * 8;
    let answers = virtual_time(async {
        let api = api().await;
        let (client, server) = duplex(1 << 16);
        let talk = talk(client, stream, piece_size_bytes);
        let both = async { tokio::join!(fuzzing::converse(api, server), talk).1 };
        tokio::time::timeout(PATIENCE, both).await.expect("a connection must end")
    });
    check(&answers);
});

/// A service whose every run is the same.
async fn api() -> Api {
    let config = Config::load(None, std::iter::empty()).expect("the embedded configuration").config;
    let (clock, random) = (Arc::new(VirtualClock::start()), Arc::new(Numbered::default()));
    let (meta, blobs) = (Arc::new(MemoryMeta::default()), Arc::new(MemoryBlobs::default()));
    let options = registry::Options { uploads_per_repository_max: 8, ..config.registry };
    let registry = Registry::open(meta, blobs, clock.clone(), random.clone(), options).await;
    let registry = registry.expect("stores in memory");
    seed(&registry).await;
    let draining = Default::default();
    let parts = Parts { registry, clock, random, access_log: None, draining };
    Api::new(config.http, parts).expect("the embedded headers")
}

/// Pushes an image as `a:latest`.
async fn seed(registry: &Registry) {
    let repository = RepositoryName::parse("a").expect("a name");
    let descriptor = |media_type: &str, content: &[u8]| {
        let (digest, size) = (Digest::of(Algorithm::Sha256, content), content.len());
        format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{size}}}")
    };
    for content in [CONFIG, LAYER] {
        let body = futures_util::stream::iter([Ok(Bytes::from_static(content))]);
        let chunk = Chunk { range: None, length: None, body: Box::pin(body) };
        let digest = Digest::of(Algorithm::Sha256, content);
        registry.push_blob(&repository, &digest, chunk).await.expect("a blob");
    }
    let (config, layer) = (descriptor("c/d", CONFIG), descriptor("e/f", LAYER));
    let document = format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{layer}]}}");
    let media_type = MediaType::parse(kelson::oci::media_type::OCI_MANIFEST).ok();
    let put = PutManifest {
        repository,
        reference: Reference::Tag(Tag::parse("latest").expect("a tag")),
        tags: Vec::new(),
        media_type,
        bytes: document.into(),
        expect: Expect::Anything,
    };
    registry.put_manifest(put).await.expect("a manifest");
}

/// Sends the stream in pieces, and gives everything that comes back until the server closes.
async fn talk(client: DuplexStream, stream: &[u8], piece_size_bytes: usize) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(client);
    let mut answers = Vec::new();
    let send = async {
        for piece in stream.chunks(piece_size_bytes) {
            // The server may close before it has read everything.
            if writer.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let (_, received) = tokio::join!(send, reader.read_to_end(&mut answers));
    received.expect("a duplex stream has no errors");
    answers
}

/// Each answer is a head of visible ASCII with a status that is no failure of the server, and a
/// body of the stated length. An answer to HEAD states a length and has no body: the next begins.
fn check(answers: &[u8]) {
    let mut rest = answers;
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        // The connection may be cut within an answer, when a pipelined request is refused.
        let Some(end) = end else { return };
        let (head, after) = rest.split_at(end);
        let head = std::str::from_utf8(head).expect("heads are ASCII");
        assert!(head.chars().all(|c| matches!(c, '\r' | '\n' | ' '..='~')), "{head:?}");
        let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)).and_then(|text| text.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no status: {head:?}"));
        assert!((100..500).contains(&status), "{head:?}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |text| text.parse().expect("a length"));
        let bodyless = matches!(status, 100 | 204 | 304) || after.starts_with(b"HTTP/1.");
        rest = if bodyless { after } else { after.get(length..).unwrap_or_default() };
    }
}
