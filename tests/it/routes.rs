//! Paths, methods and headers that every route shares.

use crate::support::{Image, OCI_MANIFEST, Server, random_bytes, sha256};

#[test]
fn base_answers_with_the_headers_of_registry_2_in_their_order() {
    let server = Server::start();
    let mut raw = server.raw();
    for path in ["/v2/", "/v2", "/v2/?ns=docker.io"] {
        raw.send_head(&format!("GET {path}"), &[]);
        let answer = raw.response();
        assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
        let mut headers: Vec<_> =
            answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (name, date) = headers.pop().unwrap();
        assert!(name == "Date" && date.ends_with(" GMT"), "{name}: {date}");
        let expected = [
            ("Content-Length", "2"),
            ("Content-Type", "application/json; charset=utf-8"),
            ("Docker-Distribution-Api-Version", "registry/2.0"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        assert_eq!(headers, expected);
        assert_eq!(answer.body, b"{}");
    }
}

#[test]
fn probes_are_answered() {
    let server = Server::start();
    let client = server.client();
    let root = client.get("/").expect(200);
    assert!(root.body.is_empty());
    for path in ["/healthz", "/readyz"] {
        let _ = client.get(path).expect(200);
        let _ = client.head(path).expect(200);
    }
}

#[test]
fn every_answer_names_the_api_version() {
    let server = Server::start();
    let client = server.client();
    let unknown = sha256(b"unknown");
    let paths = [
        "/v2/",
        "/v2/_catalog",
        "/v2/app/tags/list",
        "/v2/UPPER/tags/list",
        &format!("/v2/app/blobs/{unknown}"),
        &format!("/v2/app/referrers/{unknown}"),
    ];
    for path in paths {
        let answer = client.get(path);
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[test]
fn components_may_be_called_like_routes() {
    let server = Server::start();
    let client = server.client();
    let names = [
        "manifests/manifests",
        "blobs/uploads",
        "a/blobs/uploads/b",
        "tags/list",
        "app/tags/list",
        "referrers",
        "v2/v2",
        "uploads/manifests/blobs/tags",
        "app/manifests",
    ];
    for name in names {
        let image = Image::random(&[10]);
        image.push(&client, name, "list");
        image.assert_pullable(&client, name, "list");
        assert_eq!(client.tags(name), ["list"]);
        assert_eq!(client.get(&format!("/v2/{name}/tags/list")).expect(200).json()["name"], name);
    }
    assert_eq!(client.walk("/v2/_catalog", "repositories").concat().len(), names.len());
    let answer = client.get("/v2/foo/blobs/uploads/tags/list");
    let _ = answer.expect_error(404, "NAME_UNKNOWN");
}

#[test]
fn wrong_names_are_refused_and_nothing_is_made() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    let long = "a".repeat(256);
    let names = [
        "UPPER",
        "-foo",
        "foo-",
        "foo..bar",
        "foo___bar",
        "foo%2Fbar",
        "foo%00bar",
        "%ff%fe",
        "foo%20bar",
        "foo:bar",
        "a%2e%2e%2fb",
        "foo//bar",
        "foo/%2e%2e/bar",
        "_catalog/x",
        &long,
    ];
    for name in names {
        let path = format!("/v2/{name}/tags/list");
        let mut raw = server.raw();
        raw.send_head(&format!("GET {path}"), &[]);
        let answer = raw.response();
        let body = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!((answer.status(), body.contains("NAME_INVALID")), (400, true), "{name}: {body}");
        let put = format!("PUT /v2/{name}/manifests/v1");
        let length = format!("Content-Length: {}", image.manifest.len());
        let mut raw = server.raw();
        raw.send_head(&put, &[&format!("Content-Type: {OCI_MANIFEST}"), &length]);
        raw.try_send(&image.manifest);
        assert_eq!(raw.response().status(), 400, "{name}");
    }
    assert_eq!(
        client.get("/v2/_catalog").expect(200).json()["repositories"],
        serde_json::json!([])
    );
}

#[test]
fn dots_never_leave_the_path() {
    let server = Server::start();
    for path in ["/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v2/../../etc/passwd", "/v2/./"] {
        let mut raw = server.raw();
        raw.send_head(&format!("GET {path}"), &[]);
        let status = raw.response().status();
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
}

#[test]
fn name_of_255_characters_is_a_name() {
    let server = Server::start();
    let client = server.client();
    let name = format!("{}/{}", "a".repeat(127), "b".repeat(127));
    let image = Image::random(&[10]);
    image.push(&client, &name, "v1");
    image.assert_pullable(&client, &name, "v1");
}

#[test]
fn unknown_parameters_are_ignored() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    let more = "ns=docker.io&x=%zz&y";
    let location = client.request("POST", &format!("/v2/app/blobs/uploads/?{more}")).send();
    let location = crate::support::client::with_query(&location.expect(202).location(), more);
    let _ = client.finish(&location, &sha256(&image.config), &image.config).expect(201);
    client.push_blob("app", &image.layers[0]);
    let put = client.put_manifest("app", &format!("v1?{more}"), OCI_MANIFEST, &image.manifest);
    let _ = put.expect(201);
    let digest = image.digest();
    let paths = [
        "/v2/".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/app/tags/list".to_owned(),
        "/v2/app/manifests/v1".to_owned(),
        format!("/v2/app/manifests/{digest}"),
        format!("/v2/app/blobs/{}", sha256(&image.config)),
        format!("/v2/app/referrers/{digest}"),
    ];
    for path in paths {
        let asked = client.get(&format!("{path}?{more}")).expect(200);
        assert_eq!(asked.body, client.get(&path).expect(200).body);
        let _ = client.head(&format!("{path}?{more}")).expect(200);
    }
    let _ = client.delete(&format!("/v2/app/manifests/v1?{more}")).expect(202);
}

#[test]
fn wrong_method_is_405_with_the_right_ones() {
    let server = Server::start();
    let client = server.client();
    let digest = client.push_blob("app", b"x");
    let upload = client.begin_upload("app");
    let cases = [
        ("PUT", "/v2/".to_owned(), vec!["GET", "HEAD"]),
        ("POST", "/v2/_catalog".to_owned(), vec!["GET", "HEAD"]),
        ("POST", "/v2/app/tags/list".to_owned(), vec!["GET", "HEAD"]),
        ("POST", "/v2/app/manifests/v1".to_owned(), vec!["GET", "HEAD", "PUT", "DELETE"]),
        ("PUT", format!("/v2/app/blobs/{digest}"), vec!["GET", "HEAD", "DELETE"]),
        ("PUT", format!("/v2/app/referrers/{digest}"), vec!["GET", "HEAD"]),
        ("GET", "/v2/app/blobs/uploads/".to_owned(), vec!["POST"]),
        ("POST", upload, vec!["GET", "PATCH", "PUT", "DELETE"]),
    ];
    for (method, path, expected) in cases {
        for method in [method, "FOO"] {
            let answer = client.request(method, &path).send().expect_error(405, "UNSUPPORTED");
            let allow: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
            for name in &expected {
                assert!(allow.contains(name), "{method} {path}: {allow:?}");
            }
            assert!(!allow.contains(&method));
        }
        let options = client.request("OPTIONS", &path).send();
        assert!(options.status == 200 || options.status == 204, "{}", options.status);
        let allow: Vec<_> = options.header("allow").unwrap().split(", ").collect();
        assert!(expected.iter().all(|name| allow.contains(name)), "{path}: {allow:?}");
        assert_eq!(options.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn unknown_paths_are_404() {
    let server = Server::start();
    let client = server.client();
    let paths = [
        "/v1/repositories/x/images",
        "/v2/app/foo/bar",
        "/v2/app",
        "/debug/pprof/",
        "/v2/;jsessionid=1/x",
        "/v3/",
        "/favicon.ico",
    ];
    for path in paths {
        let _ = client.get(path).expect(404);
    }
}

#[test]
fn locations_are_paths_whatever_the_headers_say() {
    let server = Server::start();
    let client = server.client();
    let request = client.request("POST", "/v2/app/blobs/uploads/");
    let request = request.header("X-Forwarded-Host", "evil.test");
    let answer = request.header("X-Forwarded-Proto", "https").send().expect(202);
    assert!(answer.location().starts_with("/v2/app/blobs/uploads/"));
}

#[test]
fn tls_on_the_plain_port_is_told_so() {
    let server = Server::start();
    let mut raw = server.raw();
    // The beginning of a ClientHello: handshake, TLS 1.0 record, its length, type 1.
    let hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[7; 400]].concat();
    raw.try_send(hello);
    let answer = String::from_utf8(raw.rest()).unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
}

#[test]
fn connection_is_kept_after_errors() {
    let server = Server::start();
    let mut raw = server.raw();
    for _ in 0..3 {
        for (path, status) in [("app/tags/list", 404), ("UPPER/tags/list", 400), ("", 200)] {
            raw.send_head(&format!("GET /v2/{path}"), &[]);
            assert_eq!(raw.response().status(), status, "{path}");
        }
    }
}

#[test]
fn body_that_nobody_reads_is_never_taken_for_a_request() {
    let server = Server::start();
    let mut raw = server.raw();
    let body = "GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.send_head("POST /v2/_catalog", &[&format!("Content-Length: {}", body.len())]);
    raw.send(body);
    let answer = raw.response();
    assert_eq!(answer.status(), 405);
    // The server may read over it, or say that it closes and then do so.
    if answer.header("connection") == Some("close") {
        assert!(raw.rest().is_empty());
        return;
    }
    raw.send_head("GET /v2/UPPER/tags/list", &[]);
    assert_eq!(raw.response().status(), 400);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start();
    let mut raw = server.raw();
    let one =
        "GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\nGET /v2/app/tags/list HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.send(one.repeat(5));
    for _ in 0..5 {
        assert_eq!(raw.response().status(), 200);
        assert_eq!(raw.response().status(), 404);
    }
}

#[test]
fn ambiguous_framing_is_refused() {
    let server = Server::start();
    let client = server.client();
    let heads: [&[&str]; 6] = [
        &["Content-Length: 3", "Content-Length: 4"],
        &["Content-Length: +3"],
        &["Content-Length: 0x3"],
        &["Transfer-Encoding: chunked, gzip"],
        &["Transfer-Encoding: xchunked"],
        &["Content-Length: 99999999999999999999"],
    ];
    for headers in heads {
        let mut raw = server.raw();
        raw.send_head("POST /v2/app/blobs/uploads/", headers);
        if let Some(answer) = raw.try_response() {
            assert!([400, 413, 501].contains(&answer.status()), "{headers:?}: {answer:?}");
        }
        assert!(raw.is_closed(), "{headers:?}");
    }
    let _ = client.get("/v2/").expect(200);
}

#[test]
fn errors_of_a_large_push_reach_the_client() {
    let server = Server::start();
    let client = server.client();
    let url = format!(
        "/v2/app/blobs/uploads/6ba7b810-9dad-41d1-80b4-00c04fd430c8?digest={}",
        sha256(b"")
    );
    let put = client.request("PUT", &url).body(&random_bytes(200_000)).send();
    let _ = put.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}
