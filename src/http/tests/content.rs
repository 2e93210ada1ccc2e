//! Blobs, uploads and manifests.

use super::*;

const BLOB_SIZE_BYTES: usize = 1_000_000;

fn content() -> Vec<u8> {
    (0..BLOB_SIZE_BYTES).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_blob_goes_in_by_chunks_and_comes_out_whole() {
    let server = Server::start().await;
    let (content, digest) = (content(), sha256(&content()));
    let begun = server.call("POST", "/v2/a/b/blobs/uploads/", &[], b"").await;
    assert_eq!((begun.status, begun.header("range")), (202, "0-0"));
    let location = begun.header("location").to_owned();
    let uuid = begun.header("docker-upload-uuid");
    assert_eq!(location, format!("/v2/a/b/blobs/uploads/{uuid}"));
    let (first, last) = content.split_at(400_000);
    let patched = server.call("PATCH", &location, &["Content-Range: 0-399999"], first).await;
    assert_eq!((patched.status, patched.header("range")), (202, "0-399999"));
    assert_eq!(patched.header("location"), location);

    let again = server.call("PATCH", &location, &["Content-Range: 0-399999"], first).await;
    assert_eq!((again.status, again.code().as_str()), (416, "BLOB_UPLOAD_INVALID"));
    assert_eq!((again.header("range"), again.header("location")), ("0-399999", &*location));
    assert_eq!(again.header("docker-upload-uuid"), uuid);

    let target = format!("{location}?digest={digest}");
    let finished = server.call("PUT", &target, &[], last).await;
    assert_eq!(finished.status, 201, "{}", finished.text());
    assert_eq!(finished.header("docker-content-digest"), digest);
    let blob = format!("/v2/a/b/blobs/{digest}");
    assert_eq!(finished.header("location"), blob);
    assert_eq!(server.call("GET", &location, &[], b"").await.code(), "BLOB_UPLOAD_UNKNOWN");

    let pulled = server.call("GET", &blob, &[], b"").await;
    assert!(pulled.body == content);
    assert_eq!(pulled.header("content-type"), "application/octet-stream");
    assert_eq!(pulled.header("etag"), format!("\"{digest}\""));
    assert_eq!(pulled.header("cache-control"), "max-age=31536000");
    assert_eq!(pulled.header("accept-ranges"), "bytes");
    let head = server.call("HEAD", &blob, &["Range: bytes=0-1"], b"").await;
    assert_eq!((head.status, head.number("content-length")), (200, BLOB_SIZE_BYTES));
    assert_eq!(head.header("docker-content-digest"), digest);
    assert_eq!(server.call("GET", &blob.replace("/a/b/", "/c/"), &[], b"").await.status, 404);
}

#[tokio::test]
async fn one_range_is_a_part_of_the_blob() {
    let server = Server::start().await;
    let content = content();
    let digest = server.push_blob("a", &content).await;
    let blob = format!("/v2/a/blobs/{digest}");
    let size = BLOB_SIZE_BYTES;
    let cases = [("5-9", 5..10), ("999000-", 999_000..size), ("-3", size - 3..size)];
    for (range, expected) in cases {
        let answer = server.call("GET", &blob, &[&format!("Range: bytes={range}")], b"").await;
        assert_eq!(answer.status, 206);
        let wanted = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(answer.header("content-range"), wanted);
        assert!(answer.body == content[expected]);
    }
    let beyond = server.call("GET", &blob, &["Range: bytes=1000000-"], b"").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */1000000"));
    let other = ["Range: bytes=0-1", "If-Range: \"other\""];
    assert_eq!(server.call("GET", &blob, &other, b"").await.status, 200);
    let same = format!("If-Range: \"{digest}\"");
    assert_eq!(server.call("GET", &blob, &["Range: bytes=0-1", &same], b"").await.status, 206);
}

#[tokio::test]
async fn several_ranges_are_one_part_each_in_their_order() {
    let server = Server::start().await;
    let content = content();
    let digest = server.push_blob("a", &content).await;
    let blob = format!("/v2/a/blobs/{digest}");
    // Overlapping, adjacent, repeated, and longer than one read; one does not exist.
    let ranges = [(500_000, 800_000), (0, 0), (10, 19), (20, 29), (15, 24), (10, 19)];
    let specs: Vec<String> = ranges.iter().map(|(start, end)| format!("{start}-{end}")).collect();
    let header = format!("Range: bytes={},2000000-", specs.join(", "));
    let answer = server.call("GET", &blob, &[&header], b"").await;
    assert_eq!(answer.status, 206);
    let kind = answer.header("content-type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for (start, end) in ranges {
        let before = if expected.is_empty() { "" } else { "\r\n" };
        expected.extend_from_slice(
            format!(
                "{before}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {start}-{end}/{BLOB_SIZE_BYTES}\r\n\r\n"
            )
            .as_bytes(),
        );
        expected.extend_from_slice(&content[start..=end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(answer.body == expected);
    assert!(boundary.len() <= 70 && boundary.bytes().all(|byte| byte.is_ascii_alphanumeric()));

    let many: Vec<String> = (0..1024).map(|at| format!("{}-{}", at * 9, at * 9 + 4)).collect();
    let header = format!("Range: bytes={}", many.join(","));
    let answer = server.call("GET", &blob, &[&header], b"").await;
    assert_eq!(answer.status, 206);
    assert_eq!(answer.text().matches("Content-Range: bytes ").count(), 1024);
}

#[tokio::test]
async fn a_client_that_has_the_content_is_told_so() {
    let server = Server::start().await;
    let digest = server.push_blob("a", b"hello").await;
    let manifest = server.push_manifest("a", "v1", "x").await;
    let same = |digest: &str| format!("If-None-Match: W/\"{digest}\"");
    let targets =
        [(format!("/v2/a/blobs/{digest}"), &digest), ("/v2/a/manifests/v1".to_owned(), &manifest)];
    for (target, digest) in targets {
        for method in ["GET", "HEAD"] {
            let answer = server.call(method, &target, &[&same(digest)], b"").await;
            assert_eq!(answer.status, 304);
            assert_eq!(answer.header("docker-content-digest"), digest);
            assert_eq!(answer.header("content-length"), "");
            let other = server.call(method, &target, &["If-None-Match: \"x\""], b"").await;
            assert_eq!(other.status, 200);
        }
    }
    let elsewhere = format!("/v2/b/blobs/{digest}");
    assert_eq!(server.call("GET", &elsewhere, &[&same(&digest)], b"").await.status, 404);
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let server = Server::start().await;
    let digest = server.push_blob("a", b"").await;
    let blob = format!("/v2/a/blobs/{digest}");
    for method in ["GET", "HEAD"] {
        let answer = server.call(method, &blob, &[], b"").await;
        assert_eq!((answer.status, answer.header("content-length")), (200, "0"));
    }
}

#[tokio::test]
async fn a_mount_needs_a_source_that_has_the_blob() {
    let server = Server::start().await;
    let digest = server.push_blob("a", b"hello").await;
    let mount = async |query: &str| {
        server.call("POST", &format!("/v2/b/blobs/uploads/?mount={query}"), &[], b"").await
    };
    let missing = mount(&format!("{digest}&from=c")).await;
    assert_eq!((missing.status, missing.header("range")), (202, "0-0"));
    let mounted = mount(&format!("{digest}&from=a")).await;
    assert_eq!(mounted.status, 201);
    assert_eq!(mounted.header("location"), format!("/v2/b/blobs/{digest}"));
    assert_eq!(mounted.header("docker-content-digest"), digest);
    assert_eq!(mount(&digest).await.status, 201);
}

#[tokio::test]
async fn locations_ignore_what_clients_say_and_follow_the_settings() {
    let forged =
        ["X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "Forwarded: host=x"];
    let server = Server::start().await;
    let answer = server.call("POST", "/v2/a/blobs/uploads/", &forged, b"").await;
    assert!(answer.header("location").starts_with("/v2/a/blobs/uploads/"));
    let options = Options {
        prefix: "/sub/".to_owned(),
        host: Some("https://r.example.com".to_owned()),
        ..options()
    };
    let server = Server::start_with(options, registry::Options::default()).await;
    let answer = server.call("POST", "/sub/v2/a/blobs/uploads/", &forged, b"").await;
    let base = "https://r.example.com/sub/v2/a/blobs/uploads/";
    assert!(answer.header("location").starts_with(base));
    assert_eq!(server.call("GET", "/sub/v2/", &[], b"").await.status, 200);
    for outside in ["/v2/", "/subv2/", "/sub", "/SUB/v2/"] {
        assert_eq!(server.call("GET", outside, &[], b"").await.status, 404, "{outside}");
    }
}

#[tokio::test]
async fn a_manifest_comes_back_as_it_was_pushed() {
    let server = Server::start().await;
    let document = server.manifest("a", "x", "").await;
    let document = format!("{document} \n");
    let digest = sha256(document.as_bytes());
    let kind = format!("Content-Type: {MANIFEST}; charset=utf-8");
    let target = format!("/v2/a/manifests/{digest}?tag=one&tag=two");
    let pushed = server.call("PUT", &target, &[&kind], document.as_bytes()).await;
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    assert_eq!(pushed.header("oci-tag"), "one, two");
    assert_eq!(pushed.header("location"), format!("/v2/a/manifests/{digest}"));
    for reference in ["one", "two", &digest] {
        let target = format!("/v2/a/manifests/{reference}");
        let pulled = server.call("GET", &target, &["Accept: text/html"], b"").await;
        assert_eq!(pulled.text(), document);
        assert_eq!(pulled.header("content-type"), MANIFEST);
        let head = server.call("HEAD", &target, &[], b"").await;
        assert_eq!(head.number("content-length"), document.len());
        assert_eq!(head.header("content-type"), MANIFEST);
        assert_eq!(head.header("docker-content-digest"), digest);
    }
    let deleted = server.call("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"").await;
    assert_eq!(deleted.status, 202);
    assert_eq!(server.call("GET", "/v2/a/manifests/one", &[], b"").await.status, 404);
}

#[tokio::test]
async fn a_chunked_manifest_is_taken_up_to_the_limit() {
    let options = Options { manifest_size_bytes_max: 2000, ..options() };
    let server = Server::start_with(options, registry::Options::default()).await;
    let push = async |document: String| {
        let mut client = server.connect().await;
        let head = format!(
            "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: h\r\nContent-Type: {MANIFEST}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{document}\r\n0\r\n\r\n",
            document.len()
        );
        client.send(head.as_bytes()).await;
        client.answer("PUT").await
    };
    let fitting = server.manifest("a", "x", "").await;
    let padding = " ".repeat(2000 - fitting.len());
    assert_eq!(push(format!("{fitting}{padding}")).await.status, 201);
    let refused = push(format!("{fitting}{padding} ")).await;
    assert_eq!((refused.status, refused.code().as_str()), (413, "MANIFEST_INVALID"));
}

#[tokio::test]
async fn a_conditional_push_moves_a_tag_only_from_where_it_is_expected() {
    let server = Server::start().await;
    let kind = format!("Content-Type: {MANIFEST}");
    let push = async |seed: &str, condition: &str| {
        let document = server.manifest("a", seed, "").await;
        let headers = [kind.as_str(), condition];
        server.call("PUT", "/v2/a/manifests/v1", &headers, document.as_bytes()).await
    };
    assert_eq!(push("1", "If-Match: *").await.status, 412);
    let first = push("1", "If-None-Match: *").await;
    assert_eq!(first.status, 201);
    let digest = first.header("docker-content-digest");
    let refused = push("2", "If-None-Match: *").await;
    assert_eq!((refused.status, refused.code().as_str()), (412, "MANIFEST_INVALID"));
    assert_eq!(push("2", &format!("If-None-Match: \"{digest}\"")).await.status, 412);
    assert_eq!(push("2", &format!("If-Match: \"{digest}\"")).await.status, 201);
    assert_eq!(push("3", &format!("If-Match: \"{digest}\"")).await.status, 412);
}

#[tokio::test]
async fn each_missing_blob_of_a_manifest_is_named() {
    let server = Server::start().await;
    let missing = [sha256(b"1"), sha256(b"2")];
    let layer = |digest: &String| {
        format!(
            "{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\
             \"digest\":\"{digest}\",\"size\":1}}"
        )
    };
    let layers = missing.iter().map(layer).collect::<Vec<_>>().join(",");
    let document = server.manifest("a", "x", "").await;
    let document = document.replace("\"layers\":[]", &format!("\"layers\":[{layers}]"));
    let kind = format!("Content-Type: {MANIFEST}");
    let answer = server.call("PUT", "/v2/a/manifests/v1", &[&kind], document.as_bytes()).await;
    assert_eq!(answer.status, 400);
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    assert_eq!(errors.len(), 2);
    for error in &errors {
        assert_eq!(error["code"], "MANIFEST_BLOB_UNKNOWN");
    }
    let mut named: Vec<_> = errors.iter().map(|it| it["detail"]["digest"].as_str()).collect();
    let mut expected: Vec<_> = missing.iter().map(|it| Some(it.as_str())).collect();
    named.sort_unstable();
    expected.sort_unstable();
    assert_eq!(named, expected);
}
