//! Little room on the disk: nothing is added, and everything else goes on.

use crate::support::{Image, OCI_MANIFEST, Options, Raw, Server, eventually, sha256};

/// More than any disk has.
fn without_room() -> Options {
    Options::default().env("REGISTRY_KELSON_STORAGE_WATERMARK", "1000000GiB")
}

/// A server without room, with an image in `app:v1` and an upload of `begun` bytes, and where
/// that goes on.
fn full_server(image: &Image, begun: &[u8]) -> (Server, String) {
    let mut roomy = Server::start();
    let client = roomy.client();
    image.push(&client, "app", "v1");
    let location = client.begin_upload("app");
    let path = client.patch(&location, None, begun).expect(202).location();
    let path = path.split_once("/v2/").map(|(_, rest)| format!("/v2/{rest}")).unwrap();
    let _ = roomy.stop();
    (Server::in_folder(without_room(), roomy.take_folder()), path)
}

#[test]
fn without_room_every_addition_is_answered_507_and_says_when_to_come_back() {
    let image = Image::random(&[100, 100_000]);
    let (server, upload) = full_server(&image, b"begun");
    let client = server.client();
    let digest = sha256(b"new");
    let layer = sha256(image.blobs().last().unwrap());
    let additions = [
        ("POST", "/v2/app/blobs/uploads/".to_owned()),
        ("POST", format!("/v2/app/blobs/uploads/?digest={digest}")),
        ("POST", format!("/v2/other/blobs/uploads/?mount={layer}&from=app")),
        ("POST", format!("/v2/other/blobs/uploads/?mount={layer}")),
        ("PATCH", upload.clone()),
        ("PUT", format!("{upload}?digest={digest}")),
        ("PUT", "/v2/app/manifests/v2".to_owned()),
    ];
    for (method, path) in additions {
        let body = if path.contains("manifests") { &image.manifest } else { &b"new".to_vec() };
        let request = client.request(method, &path).header("Content-Type", OCI_MANIFEST);
        let refused = request.body(body).send().expect_error(507, "UNAVAILABLE");
        let wait: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{method} {path}: {wait}");
    }
    let log = server.log();
    assert_eq!(log.matches("too little room is left").count(), 1, "{log}");
    assert!(log.contains("free_bytes="), "{log}");
}

#[test]
fn without_room_everything_that_adds_nothing_goes_on() {
    let image = Image::random(&[100, 100_000]);
    let (mut server, upload) = full_server(&image, b"begun");
    let client = server.client();
    let _ = client.get("/readyz").expect(200);
    image.assert_pullable(&client, "app", "v1");
    assert_eq!(client.tags("app"), ["v1"]);
    let _ = client.patch(&upload, None, b"more").expect(507);
    assert_eq!(client.get(&upload).expect(204).offset(), 5, "the session is as it was");
    // It brings nothing, so it may end.
    let _ = client.finish(&upload, &sha256(b"begun"), b"").expect(201);
    assert_eq!(client.blob("app", &sha256(b"begun")).expect(200).body, b"begun");
    let _ = client.delete("/v2/app/manifests/v1").expect(202);
    let _ = client.delete(&format!("/v2/app/manifests/{}", image.digest())).expect(202);
    let _ = client.delete(&format!("/v2/app/blobs/{}", sha256(b"begun"))).expect(202);
    let _ = client.manifest("app", &image.digest()).expect(404);
    server.restart();
    let _ = server.client().manifest("app", &image.digest()).expect(404);
}

#[test]
fn a_chunk_without_room_is_refused_before_it_is_sent() {
    let (server, upload) = full_server(&Image::random(&[100]), b"begun");
    let mut raw = server.raw();
    raw.send(format!(
        "PATCH {upload} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\
         Expect: 100-continue\r\n\r\n"
    ));
    assert_eq!(raw.response().status(), 507);
    let mut cancel: Raw = server.raw();
    cancel.send(format!("DELETE {upload} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(cancel.response().status(), 204);
}

#[test]
fn small_contents_get_their_files_without_room_too() {
    let mut roomy = Server::start();
    let image = Image::random(&[100]);
    image.push(&roomy.client(), "app", "v1");
    // Killed, so that some may still wait for their files.
    roomy.kill();
    let server = Server::in_folder(without_room(), roomy.take_folder());
    let hex = image.digest().replace("sha256:", "");
    let file = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let path = server.root().join(file);
    eventually("the manifest has its file", || path.is_file().then_some(()));
}
