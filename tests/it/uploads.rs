//! Upload sessions: chunks, streams, offsets, cancelling.

use crate::support::client::with_query;
use crate::support::{Client, OCTETS, Server, eventually, random_bytes, sha256, sha512, sound};

/// Waits until the session has received this much, and no more.
#[track_caller]
fn assert_offset(client: &Client, location: &str, offset: u64) {
    let mut last = 0;
    eventually(&format!("the upload stands at {offset}"), || {
        last = client.get(location).expect(204).offset();
        assert!(last <= offset, "{last} bytes instead of {offset}");
        (last == offset).then_some(())
    });
}

#[test]
fn new_session_stands_at_zero() {
    let server = Server::start();
    let client = server.client();
    for path in ["/v2/app/blobs/uploads/", "/v2/app/blobs/uploads"] {
        let answer = client.request("POST", path).send().expect(202);
        let id = answer.header("docker-upload-uuid").unwrap().to_owned();
        assert_eq!(uuid::Uuid::try_parse(&id).unwrap().to_string(), id);
        assert!(answer.location().starts_with(&format!("/v2/app/blobs/uploads/{id}")));
        assert_eq!(answer.header("range"), Some("0-0"));
        assert_eq!(answer.content_length(), 0);
        let status = client.get(&answer.location()).expect(204);
        assert_eq!(status.header("range"), Some("0-0"));
        assert_eq!(status.header("docker-upload-uuid"), Some(id.as_str()));
        assert!(status.location().contains(&id));
        assert!(status.body.is_empty());
    }
}

#[test]
fn chunks_in_order_make_a_blob() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(300_000);
    let mut location = client.begin_upload("app");
    for (start, end) in [(0, 1), (1, 1000), (1000, 100_000), (100_000, 299_999)] {
        let range = format!("{start}-{}", end - 1);
        let answer = client.patch(&location, Some(&range), &bytes[start..end]).expect(202);
        assert_eq!(answer.header("range"), Some(format!("0-{}", end - 1).as_str()));
        assert_eq!(answer.content_length(), 0);
        location = answer.location();
        let status = client.get(&location).expect(204);
        assert_eq!(status.header("range"), Some(format!("0-{}", end - 1).as_str()));
    }
    let last = with_query(&location, &format!("digest={}", sha256(&bytes)));
    let put = client.request("PUT", &last).header("Content-Range", "299999-299999");
    let answer = put.body(&bytes[299_999..]).send().expect(201);
    assert_eq!(answer.digest(), sha256(&bytes));
    assert!(client.get(&answer.location()).expect(200).body == bytes);
    let _ = client.get(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(sound::staged(&server.root()).is_empty());
}

#[test]
fn streams_without_a_length_are_appended() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(200_000);
    let location = client.begin_upload("app");
    let patch = |part: &[u8], location: &str| {
        let request = client.request("PATCH", location).header("Content-Type", OCTETS);
        request.streamed(part).send().expect(202)
    };
    let answer = patch(&bytes[..70_000], &location);
    assert_eq!(answer.header("range"), Some("0-69999"));
    let answer = patch(&bytes[70_000..150_000], &answer.location());
    assert_eq!(answer.header("range"), Some("0-149999"));
    let url = with_query(&answer.location(), &format!("digest={}", sha512(&bytes)));
    let put = client.request("PUT", &url).streamed(&bytes[150_000..]).send().expect(201);
    assert!(client.get(&put.location()).expect(200).body == bytes);
}

#[test]
fn chunk_out_of_order_is_416_and_the_session_goes_on() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(3067);
    let first = client.begin_upload("app");
    let refuse = |location: &str, range: &str, bytes: &[u8], at: &str| {
        let answer = client.patch(location, Some(range), bytes);
        let answer = answer.expect_error(416, "BLOB_UPLOAD_INVALID");
        assert_eq!(answer.header("range"), Some(at));
        assert!(answer.location().starts_with("/v2/app/blobs/uploads/"));
    };
    refuse(&first, "1024-2047", &bytes[1024..2048], "0-0");
    let second = client.patch(&first, Some("0-1023"), &bytes[..1024]).expect(202).location();
    // Again, with a gap, and with the Location from before.
    refuse(&second, "0-1023", &bytes[..1024], "0-1023");
    refuse(&second, "1025-1026", &bytes[1025..1027], "0-1023");
    refuse(&first, "0-1023", &bytes[..1024], "0-1023");
    assert_eq!(client.get(&first).expect(204).header("range"), Some("0-1023"));

    let url = with_query(&second, &format!("digest={}", sha256(&bytes)));
    let put = |range: &str, bytes: &[u8]| {
        client.request("PUT", &url).header("Content-Range", range).body(bytes).send()
    };
    let _ = put("2048-3066", &bytes[2048..]).expect_error(416, "BLOB_UPLOAD_INVALID");
    let _ = client.patch(&second, Some("1024-2047"), &bytes[1024..2048]).expect(202);
    let _ = put("2048-3066", &bytes[2048..]).expect(201);
    assert_eq!(client.blob("app", &sha256(&bytes)).expect(200).body, bytes);
}

#[test]
fn malformed_content_range_takes_no_byte() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let malformed =
        ["abc", "bytes 0-4/5", "0-", "-4", "4-0", "0-99999999999999999999", "", "0-4-8", "+0-4"];
    for range in malformed {
        let answer = client.patch(&location, Some(range), b"01234");
        let _ = answer.expect_error(400, "BLOB_UPLOAD_INVALID");
    }
    assert_eq!(client.get(&location).expect(204).header("range"), Some("0-0"));
    let _ = client.finish(&location, &sha256(b"whole"), b"whole").expect(201);
}

#[test]
fn chunk_of_another_length_than_its_range_takes_no_byte() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    for range in ["0-9", "0-3"] {
        let _ = client.patch(&location, Some(range), b"01234").expect_error(400, "SIZE_INVALID");
    }
    assert_eq!(client.get(&location).expect(204).header("range"), Some("0-0"));
    let answer = client.patch(&location, Some("0-4"), b"01234").expect(202);
    assert_eq!(answer.header("range"), Some("0-4"));
}

#[test]
fn put_without_a_digest_keeps_the_session() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let location = client.patch(&location, None, b"content").expect(202).location();
    let _ = client.request("PUT", &location).send().expect_error(400, "DIGEST_INVALID");
    let malformed = with_query(&location, "digest=sha256:short");
    let _ = client.request("PUT", &malformed).send().expect_error(400, "DIGEST_INVALID");
    assert_eq!(client.get(&location).expect(204).header("range"), Some("0-6"));
    let _ = client.finish(&location, &sha256(b"content"), b"").expect(201);
}

#[test]
fn cancelled_session_is_gone() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let location = client.patch(&location, None, &random_bytes(100_000)).expect(202).location();
    let answer = client.delete(&location).expect(204);
    assert!(answer.body.is_empty());
    let _ = client.get(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    let _ = client.patch(&location, None, b"x").expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    let _ = client.delete(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    let put = client.finish(&location, &sha256(b"x"), b"x");
    let _ = put.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(sound::staged(&server.root()).is_empty());
}

#[test]
fn session_belongs_to_its_repository() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("team/a");
    let location = client.patch(&location, None, b"secret").expect(202).location();
    let elsewhere = location.replace("/v2/team/a/", "/v2/team/b/");
    let unknown = "BLOB_UPLOAD_UNKNOWN";
    let _ = client.get(&elsewhere).expect_error(404, unknown);
    let _ = client.patch(&elsewhere, None, b"more").expect_error(404, unknown);
    let _ = client.finish(&elsewhere, &sha256(b"secret"), b"").expect_error(404, unknown);
    let _ = client.delete(&elsewhere).expect_error(404, unknown);
    let _ = client.finish(&location, &sha256(b"secret"), b"").expect(201);
}

#[test]
fn session_that_never_was_is_unknown() {
    let server = Server::start();
    let client = server.client();
    let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    for id in [id, &id.to_uppercase(), "nonsense", "..%2f..%2fetc", "*"] {
        let location = format!("/v2/app/blobs/uploads/{id}");
        let answer = client.patch(&location, None, b"x");
        let _ = answer.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
        let put = client.finish(&location, &sha256(b"x"), b"x");
        let _ = put.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn odd_content_types_are_taken_and_nothing_is_decoded() {
    let server = Server::start();
    let client = server.client();
    let bytes = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
    let location = client.begin_upload("app");
    let request = client.request("PATCH", &location).header("Content-Type", "text/html");
    let answer = request.header("Content-Encoding", "gzip").body(bytes).send().expect(202);
    let _ = client.finish(&answer.location(), &sha256(bytes), b"").expect(201);
    let answer = client.request("GET", &format!("/v2/app/blobs/{}", sha256(bytes)));
    let answer = answer.header("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8").send().expect(200);
    assert_eq!(answer.body, bytes);
    assert_eq!(answer.header("content-encoding"), None);
}

#[test]
fn upload_goes_on_after_a_cut_connection() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(1_000_000);
    let location = client.begin_upload("app");
    let mut offset = 0;
    for received in [2, 65_536, 300_001] {
        let mut raw = server.raw();
        let range = format!("Content-Range: {offset}-999999");
        let length = format!("Content-Length: {}", bytes.len() - offset);
        raw.send_head(&format!("PATCH {location}"), &[&range, &length]);
        raw.send(&bytes[offset..offset + received]);
        drop(raw);
        offset += received;
        assert_offset(&client, &location, offset as u64);
    }
    let range = format!("{offset}-999999");
    let answer = client.patch(&location, Some(&range), &bytes[offset..]).expect(202);
    let put = client.finish(&answer.location(), &sha256(&bytes), b"").expect(201);
    assert!(client.get(&put.location()).expect(200).body == bytes);
}

#[test]
fn upload_goes_on_after_a_cut_chunked_body() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let mut raw = server.raw();
    raw.send_head(&format!("PATCH {location}"), &["Transfer-Encoding: chunked"]);
    raw.send("5\r\nhello\r\n7\r\n, wor");
    drop(raw);
    assert_offset(&client, &location, 10);
    let answer = client.patch(&location, Some("10-11"), b"ld").expect(202);
    let _ = client.finish(&answer.location(), &sha256(b"hello, world"), b"").expect(201);
}

#[test]
fn cut_put_commits_nothing_and_can_be_repeated() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let digest = sha256(b"hello");
    let mut raw = server.raw();
    let line = format!("PUT {}", with_query(&location, &format!("digest={digest}")));
    raw.send_head(&line, &["Content-Length: 9"]);
    raw.send("hello");
    drop(raw);
    assert_offset(&client, &location, 5);
    let _ = client.blob("app", &digest).expect_error(404, "BLOB_UNKNOWN");
    let _ = client.finish(&location, &digest, b"").expect(201);
}

#[test]
fn malformed_chunked_body_takes_no_more_than_came_before_it() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let mut raw = server.raw();
    raw.send_head(&format!("PATCH {location}"), &["Transfer-Encoding: chunked"]);
    raw.send("3\r\nabc\r\nzz\r\nnever\r\n0\r\n\r\n");
    if let Some(answer) = raw.try_response() {
        assert_eq!(answer.status(), 400, "{answer:?}");
    }
    assert!(raw.is_closed());
    let offset = client.get(&location).expect(204).offset();
    assert!(offset == 0 || offset == 3, "{offset}");
}

#[test]
fn expected_continue_is_sent_before_the_body() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let mut raw = server.raw();
    let headers = ["Content-Length: 5", "Expect: 100-continue"];
    raw.send_head(&format!("PATCH {location}"), &headers);
    assert_eq!(raw.response().status(), 100);
    raw.send("hello");
    assert_eq!(raw.response().status(), 202);
    let mut refused = server.raw();
    let unknown = "PATCH /v2/app/blobs/uploads/6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    refused.send_head(unknown, &headers);
    assert_eq!(refused.response().status(), 404);
}

#[test]
fn length_of_a_body_is_never_believed_in_advance() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let mut raw = server.raw();
    // 8 EiB less one byte: nothing of that may be allocated or reserved.
    raw.send_head(&format!("PATCH {location}"), &["Content-Length: 9223372036854775807"]);
    raw.send("abc");
    drop(raw);
    let offset = client.get(&location).expect(204).offset();
    assert!(offset <= 3);
    let _ = client.delete(&location).expect(204);
}
