//! Conditional requests: what has not changed is not sent, what has changed is not overwritten.

use crate::support::{Client, Image, OCI_MANIFEST, Response, Server, random_bytes};

fn ask(client: &Client, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = client.request(method, path).header("Accept", OCI_MANIFEST);
    headers.iter().fold(request, |it, (name, value)| it.header(name, value)).send()
}

#[test]
fn known_content_is_304() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[100_000]);
    let manifest = image.push(&client, "app", "v1");
    let blob = client.push_blob("app", &random_bytes(10));
    let paths = [
        (format!("/v2/app/blobs/{blob}"), &blob),
        ("/v2/app/manifests/v1".to_owned(), &manifest),
        (format!("/v2/app/manifests/{manifest}"), &manifest),
    ];
    for (path, digest) in paths {
        let known = [
            format!("\"{digest}\""),
            digest.clone(),
            format!("W/\"{digest}\""),
            format!("\"x\", \"{digest}\""),
            "*".to_owned(),
        ];
        for value in known {
            for method in ["GET", "HEAD"] {
                let answer = ask(&client, method, &path, &[("If-None-Match", &value)]).expect(304);
                assert!(answer.body.is_empty());
                assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"").as_str()));
                assert!(answer.header("content-length").is_none_or(|length| length == "0"));
            }
        }
        for value in ["\"x\"", "sha256:x"] {
            let answer = ask(&client, "GET", &path, &[("If-None-Match", value)]).expect(200);
            assert!(!answer.body.is_empty());
        }
    }
}

#[test]
fn unknown_content_is_404_under_every_condition() {
    let server = Server::start();
    let client = server.client();
    Image::random(&[]).push(&client, "app", "v1");
    let path = "/v2/app/manifests/other";
    let _ = ask(&client, "GET", path, &[("If-None-Match", "*")]).expect(404);
    let _ = ask(&client, "GET", path, &[("If-None-Match", "\"x\"")]).expect(404);
}

#[test]
fn not_modified_keeps_the_connection_usable() {
    let server = Server::start();
    let client = server.client();
    let digest = client.push_blob("app", &random_bytes(1000));
    let mut raw = server.raw();
    for _ in 0..3 {
        let condition = format!("If-None-Match: \"{digest}\"");
        raw.send_head(&format!("GET /v2/app/blobs/{digest}"), &[&condition]);
        assert_eq!(raw.response().status(), 304);
        raw.send_head("GET /v2/", &[]);
        assert_eq!(raw.response().body, b"{}");
    }
}

#[test]
fn range_holds_only_if_the_content_is_the_same() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(1000);
    let digest = client.push_blob("app", &bytes);
    let path = format!("/v2/app/blobs/{digest}");
    let asked = |condition: &str| {
        ask(&client, "GET", &path, &[("Range", "bytes=0-9"), ("If-Range", condition)])
    };
    assert_eq!(asked(&format!("\"{digest}\"")).expect(206).body, bytes[..10]);
    for other in ["\"x\"", "W/\"x\"", &format!("W/\"{digest}\""), "Mon, 23 Nov 2026 00:00:00 GMT"] {
        assert_eq!(asked(other).expect(200).body, bytes, "{other}");
    }
}

/// A repository with `old` under `v1`, and the parts of `new`.
fn two_images(client: &Client) -> (Image, Image) {
    let (old, new) = (Image::random(&[10]), Image::random(&[20]));
    old.push(client, "app", "v1");
    new.push_blobs(client, "app");
    (old, new)
}

fn put(client: &Client, image: &Image, tag: &str, condition: (&str, &str)) -> Response {
    let request = client.request("PUT", &format!("/v2/app/manifests/{tag}"));
    let request = request.header("Content-Type", OCI_MANIFEST).body(&image.manifest);
    request.header(condition.0, condition.1).send()
}

#[test]
fn tag_is_moved_only_from_where_the_client_saw_it() {
    let server = Server::start();
    let client = server.client();
    let (old, new) = two_images(&client);
    let quoted = |image: &Image| format!("\"{}\"", image.digest());
    let _ = put(&client, &new, "v1", ("If-Match", &quoted(&new))).expect(412);
    let _ = put(&client, &new, "v2", ("If-Match", "*")).expect(412);
    old.assert_pullable(&client, "app", "v1");
    assert_eq!(client.tags("app"), ["v1"]);
    let _ = client.manifest("app", &new.digest()).expect(404);
    let _ = put(&client, &new, "v1", ("If-Match", &quoted(&old))).expect(201);
    new.assert_pullable(&client, "app", "v1");
    let several = format!("{}, {}", quoted(&old), quoted(&new));
    let _ = put(&client, &old, "v1", ("If-Match", &several)).expect(201);
    let _ = put(&client, &new, "v1", ("If-Match", "*")).expect(201);
}

#[test]
fn tag_is_made_only_if_it_is_new() {
    let server = Server::start();
    let client = server.client();
    let (old, new) = two_images(&client);
    let _ = put(&client, &new, "v1", ("If-None-Match", "*")).expect(412);
    old.assert_pullable(&client, "app", "v1");
    let _ = put(&client, &new, "v2", ("If-None-Match", "*")).expect(201);
    let _ = put(&client, &new, "v2", ("If-None-Match", "*")).expect(412);
    new.assert_pullable(&client, "app", "v2");
}

#[test]
fn of_many_who_want_a_new_tag_one_gets_it() {
    let server = Server::start();
    let client = server.client();
    let images: Vec<_> = (0..16).map(|_| Image::random(&[])).collect();
    images.iter().for_each(|image| image.push_blobs(&client, "app"));
    let statuses = crate::support::at_once(images.len(), |number| {
        put(&client, &images[number], "v1", ("If-None-Match", "*")).status
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 412].contains(status)), "{statuses:?}");
    let winner = statuses.iter().position(|status| *status == 201).unwrap();
    images[winner].assert_pullable(&client, "app", "v1");
}
