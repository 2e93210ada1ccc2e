//! Framing, timeouts, limits, and the end of connections.

use axum::Router;
use axum::routing::put;
use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::ops::Blocking;

#[tokio::test]
async fn ping_has_the_headers_of_distribution_in_their_order() {
    let server = Server::start().await;
    let answer = server.call("GET", "/v2/", &[], b"").await;
    let (fixed, date) = answer.head.split_once("Date: ").unwrap();
    assert_eq!(
        fixed,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\
         Content-Type: application/json; charset=utf-8\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\n\
         X-Content-Type-Options: nosniff\r\n"
    );
    assert!(date.ends_with(" GMT\r\n\r\n"));
    assert_eq!(answer.body, b"{}");
    let head = server.call("HEAD", "/v2/", &[], b"").await;
    assert_eq!(head.number("content-length"), 2);
    assert_eq!(server.call("GET", "/v2", &[], b"").await.status, 200);
}

#[tokio::test]
async fn a_refused_head_is_answered_after_the_requests_before_it() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let good = request("GET", "/v2/", &[], b"");
    let bad = b"GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n";
    client.send(&[&good[..], &good, bad, &good].concat()).await;
    assert_eq!(client.answer("GET").await.status, 200);
    assert_eq!(client.answer("GET").await.status, 200);
    let refused = client.answer("GET").await;
    assert_eq!((refused.status, refused.header("connection")), (400, "close"));
    assert_eq!(refused.code(), "UNSUPPORTED");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_answered() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.stream.set_nodelay(true).unwrap();
    for byte in request("GET", "/v2/", &[], b"") {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer("GET").await.status, 200);
}

#[tokio::test]
async fn a_tls_hello_is_told_that_this_is_plain_http() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    let answer = client.answer("GET").await;
    assert!(answer.head.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{}", answer.head);
    assert!(answer.text().contains("plain HTTP"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_refused_head_request_gets_no_body() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let long = "a".repeat(300 * 1024);
    client.send(&request("HEAD", "/v2/", &[&format!("X: {long}")], b"")).await;
    let answer = client.answer("HEAD").await;
    assert_eq!(answer.status, 431);
    assert!(client.is_closed().await);
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> Options {
    let mut options = options();
    change(&mut options.limits);
    options
}

#[tokio::test]
async fn an_unfinished_head_is_answered_408_in_time() {
    let options = with_limits(|limits| limits.header_timeout = Duration::from_millis(100));
    let server = Server::start_with(options, registry::Options::default()).await;
    let mut client = server.connect().await;
    client.send(b"GET /v2/ HTTP/1.1\r\nHo").await;
    let answer = client.answer("GET").await;
    assert_eq!((answer.status, answer.header("connection")), (408, "close"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_silence() {
    let options = with_limits(|limits| {
        limits.idle_timeout = Duration::from_millis(100);
        limits.header_timeout = Duration::from_secs(60);
    });
    let server = Server::start_with(options, registry::Options::default()).await;
    let mut fresh = server.connect().await;
    assert!(fresh.is_closed().await);
    let mut used = server.connect().await;
    used.send(&request("GET", "/v2/", &[], b"")).await;
    assert_eq!(used.answer("GET").await.status, 200);
    assert!(used.is_closed().await);
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_408_and_what_came_is_kept() {
    let options = with_limits(|limits| limits.body_window = Duration::from_millis(200));
    let server = Server::start_with(options, registry::Options::default()).await;
    let begun = server.call("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    let location = begun.header("location").to_owned();
    let mut client = server.connect().await;
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
    client.send(head.as_bytes()).await;
    let answer = client.answer("PATCH").await;
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!(client.is_closed().await);
    let status = server.call("GET", &location, &[], b"").await;
    assert_eq!((status.status, status.header("range")), (204, "0-2"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let options = with_limits(|limits| limits.body_window = Duration::from_millis(200));
    let server = Server::start_with(options, registry::Options::default()).await;
    let content = vec![7; 32 * 1024 * 1024];
    let digest = server.push_blob("a", &content).await;
    let mut client = server.connect().await;
    client.send(&request("GET", &format!("/v2/a/blobs/{digest}"), &[], b"")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    while client.read().await {}
    assert!(client.bytes.len() < content.len(), "{} bytes", client.bytes.len());
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_still_sends() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let body = vec![b'A'; 8 * 1024 * 1024];
    let bytes = request("PUT", "/v2/a/manifests/v1", &[], &body);
    let (mut reader, mut writer) = client.stream.split();
    let mut answer = Vec::new();
    // The write may fail half way: the answer must be there nevertheless.
    let (_, _) = tokio::join!(writer.write_all(&bytes), reader.read_to_end(&mut answer));
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("MANIFEST_INVALID"), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_is_wanted() {
    let server = Server::start().await;
    let expect = "Expect: 100-continue";
    let mut refused = server.connect().await;
    let head = request("PUT", "/v2/a/manifests/v1", &[expect, "Content-Length: 9000000"], b"");
    let head = String::from_utf8(head).unwrap().replace("Content-Length: 0\r\n", "");
    refused.send(head.as_bytes()).await;
    assert_eq!(refused.answer("PUT").await.status, 413);
    assert!(refused.is_closed().await);

    let mut wanted = server.connect().await;
    let target = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"hello"));
    let whole = request("POST", &target, &[expect], b"hello");
    let (head, body) = whole.split_at(whole.len() - 5);
    wanted.send(head).await;
    assert_eq!(wanted.answer("POST").await.status, 100);
    wanted.send(body).await;
    assert_eq!(wanted.answer("POST").await.status, 201);
}

#[tokio::test]
async fn malformed_chunks_append_nothing() {
    let server = Server::start().await;
    let begun = server.call("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    let location = begun.header("location").to_owned();
    let mut client = server.connect().await;
    let head =
        format!("PATCH {location} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send([head.as_bytes(), b"zz\r\n"].concat().as_slice()).await;
    assert_eq!(client.answer("PATCH").await.status, 400);
    assert!(client.is_closed().await);
    assert_eq!(server.call("GET", &location, &[], b"").await.header("range"), "0-0");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_slot() {
    let options = with_limits(|limits| limits.connections_max = 1);
    let server = Server::start_with(options, registry::Options::default()).await;
    let mut first = server.connect().await;
    first.send(&request("GET", "/v2/", &[], b"")).await;
    assert_eq!(first.answer("GET").await.status, 200);
    let mut second = server.connect().await;
    second.send(&request("GET", "/v2/", &[], b"")).await;
    let waiting = tokio::time::timeout(Duration::from_millis(200), second.read()).await;
    assert!(waiting.is_err(), "the second connection was served beside the first");
    drop(first);
    assert_eq!(second.answer("GET").await.status, 200);
}

#[tokio::test]
async fn a_stop_finishes_what_runs_and_closes_the_rest() {
    let mut server = Server::start().await;
    let mut idle = server.connect().await;
    idle.send(&request("GET", "/v2/", &[], b"")).await;
    assert_eq!(idle.answer("GET").await.status, 200);
    let mut fresh = server.connect().await;
    let mut running = server.connect().await;
    let target = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"hello"));
    let whole = request("POST", &target, &["Expect: 100-continue"], b"hello");
    running.send(&whole[..whole.len() - 5]).await;
    assert_eq!(running.answer("POST").await.status, 100);
    server.stop.cancel();
    assert!(idle.is_closed().await);
    assert!(fresh.is_closed().await);
    assert!(TcpStream::connect(server.address).await.is_err());
    running.send(b"hello").await;
    assert_eq!(running.answer("POST").await.status, 201);
    assert!(running.is_closed().await);
    assert_eq!((&mut server.stopped).await.unwrap(), Stopped { cut: 0 });
}

#[tokio::test]
async fn a_stop_cuts_what_outlasts_the_drain_timeout() {
    let options = Options { drain_timeout: Duration::from_millis(100), ..options() };
    let mut server = Server::start_with(options, registry::Options::default()).await;
    let mut running = server.connect().await;
    let target = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"hello"));
    let whole = request("POST", &target, &["Expect: 100-continue"], b"hello");
    running.send(&whole[..whole.len() - 5]).await;
    assert_eq!(running.answer("POST").await.status, 100);
    server.stop.cancel();
    assert_eq!((&mut server.stopped).await.unwrap(), Stopped { cut: 1 });
    assert!(running.is_closed().await);
}

#[tokio::test]
async fn the_access_log_has_a_line_per_request_with_the_bytes_sent() {
    let mut server = Server::start().await;
    let content = vec![7; 100_000];
    let digest = server.push_blob("a", &content).await;
    let agent = "User-Agent: x\t\"}\t{\"level\":\"error\"}";
    server.call("GET", &format!("/v2/a/blobs/{digest}"), &[agent], b"").await;
    let mut broken = server.connect().await;
    broken.send(b"GET\r\n").await;
    broken.answer("GET").await;
    // A client that goes away while the server waits for its body.
    let mut gone = server.connect().await;
    let location = server.call("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    let location = location.header("location").to_owned();
    let head = request("PATCH", &location, &["Expect: 100-continue"], b"hello");
    gone.send(&head[..head.len() - 5]).await;
    assert_eq!(gone.answer("PATCH").await.status, 100);
    drop(gone);
    server.stop.cancel();
    (&mut server.stopped).await.unwrap();
    let lines = written(&mut server).await;
    let of = |needle: &str| lines.iter().filter(|line| line.contains(needle)).count();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert_eq!(of(&format!("\"GET /v2/a/blobs/{digest} HTTP/1.1\" 200 100000 ")), 1, "{lines:#?}");
    assert_eq!(of("\"x\\x09\\\"}\\x09{\\\"level\\\":\\\"error\\\"}\""), 1, "{lines:#?}");
    assert_eq!(of("\"-\" 400 "), 1, "{lines:#?}");
    assert_eq!(of(&format!("\"PATCH {location} HTTP/1.1\" 4")), 1, "{lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("127.0.0.1 - - [")), "{lines:#?}");
}

/// The lines of the access log of a server that has stopped.
async fn written(server: &mut Server) -> Vec<String> {
    let (_, nothing) = access_log::channel();
    let writer = std::mem::replace(&mut server.log, nothing);
    let file = tempfile::NamedTempFile::new().unwrap();
    writer.run(file.reopen().unwrap(), Blocking::Inline).await;
    let text = std::fs::read_to_string(file.path()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn probes_answer_and_readiness_goes_down_before_a_stop() {
    let server = Server::start().await;
    for path in ["/", "/healthz", "/readyz"] {
        let answer = server.call("GET", path, &[], b"").await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-cache"));
        assert!(answer.body.is_empty());
        assert_eq!(server.call("HEAD", path, &[], b"").await.status, 200);
        let refused = server.call("PUT", path, &[], b"").await;
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, OPTIONS"));
    }
    server.draining.cancel();
    assert_eq!(server.call("GET", "/readyz", &[], b"").await.status, 503);
    assert_eq!(server.call("GET", "/healthz", &[], b"").await.status, 200);
}

/// A store that stands still must not gather changes of clients that have gone.
#[tokio::test]
async fn a_change_keeps_its_connections_slot_when_its_client_goes_away() {
    let root = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (api, _log) = api(options(), registry::Options::default(), root.path(), stop.clone()).await;
    let (slots, ready) = (Arc::new(Semaphore::new(1)), Arc::new(Notify::new()));
    let stand_still = Arc::clone(&ready);
    let router = Router::new().route(
        "/v2/",
        put(async move || {
            stand_still.notified().await;
        }),
    );
    let (mut client, stream) = tokio::io::duplex(1 << 16);
    let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
    let serving = serve::converse(api, router, stream, (None, Some(slot)), stop);
    client.write_all(&request("PUT", "/v2/", &[], b"x")).await.unwrap();
    let gone = async {
        tokio::task::yield_now().await;
        drop(client);
    };
    tokio::join!(serving, gone);
    assert_eq!(slots.available_permits(), 0, "its change still runs");
    ready.notify_one();
    let freed = tokio::time::timeout(PATIENCE, slots.acquire()).await;
    assert!(freed.is_ok());
}
