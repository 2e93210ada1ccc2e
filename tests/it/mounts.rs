//! Blobs that another repository has already.

use crate::support::{Server, random_bytes, sha256};

fn mount_url(to: &str, digest: &str, from: Option<&str>) -> String {
    let digest = digest.replace(':', "%3A");
    let from = from.map(|from| format!("&from={}", from.replace('/', "%2F"))).unwrap_or_default();
    format!("/v2/{to}/blobs/uploads/?mount={digest}{from}")
}

#[test]
fn mounted_blob_is_readable_at_once() {
    let server = Server::start();
    let client = server.client();
    for size_bytes in [0, 500, 100_000] {
        let bytes = random_bytes(size_bytes);
        let digest = client.push_blob("team/a", &bytes);
        let to = format!("team/b{size_bytes}");
        let answer = client.request("POST", &mount_url(&to, &digest, Some("team/a"))).send();
        let answer = answer.expect(201);
        assert_eq!(answer.location(), format!("/v2/{to}/blobs/{digest}"));
        assert_eq!(answer.digest(), digest);
        assert_eq!(client.head(&answer.location()).expect(200).content_length(), size_bytes as u64);
        assert!(client.get(&answer.location()).expect(200).body == bytes);
    }
}

#[test]
fn mount_without_a_source_finds_one() {
    let server = Server::start();
    let client = server.client();
    let digest = client.push_blob("a", b"anywhere");
    let answer = client.request("POST", &mount_url("b", &digest, None)).send().expect(201);
    assert_eq!(answer.location(), format!("/v2/b/blobs/{digest}"));
    assert_eq!(client.get(&answer.location()).expect(200).body, b"anywhere");
}

#[test]
fn mount_of_what_is_not_there_opens_a_session() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(100);
    let unknown = sha256(&bytes);
    let elsewhere = client.push_blob("c", b"in c, not in a");
    let requests = [
        mount_url("b", &unknown, Some("a")),
        mount_url("b", &unknown, None),
        mount_url("b", &elsewhere, Some("a")),
        mount_url("b", &elsewhere, Some("never/seen")),
        mount_url("b", &elsewhere, Some("../../etc")),
    ];
    for request in requests {
        let answer = client.request("POST", &request).send().expect(202);
        let location = answer.location();
        assert!(location.starts_with("/v2/b/blobs/uploads/"), "{location}");
        let _ = client.blob("b", &elsewhere).expect_error(404, "BLOB_UNKNOWN");
        assert_eq!(client.finish(&location, &unknown, &bytes).expect(201).digest(), unknown);
        let _ = client.delete(&format!("/v2/b/blobs/{unknown}")).expect(202);
    }
}

#[test]
fn mount_into_its_own_repository_is_created() {
    let server = Server::start();
    let client = server.client();
    let digest = client.push_blob("a", b"here");
    let answer = client.request("POST", &mount_url("a", &digest, Some("a"))).send();
    assert_eq!(answer.expect(201).location(), format!("/v2/a/blobs/{digest}"));
}

#[test]
fn mounted_blob_outlives_its_source() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(100_000);
    let digest = client.push_blob("a", &bytes);
    let _ = client.request("POST", &mount_url("b", &digest, Some("a"))).send().expect(201);
    let _ = client.delete(&format!("/v2/a/blobs/{digest}")).expect(202);
    assert!(client.blob("b", &digest).expect(200).body == bytes);
    let again = client.request("POST", &mount_url("c", &digest, Some("a"))).send().expect(202);
    let _ = client.delete(&again.location()).expect(204);
    let _ = client.request("POST", &mount_url("c", &digest, Some("b"))).send().expect(201);
    assert!(client.blob("c", &digest).expect(200).body == bytes);
}

#[test]
fn further_parameters_of_a_mount_are_ignored() {
    let server = Server::start();
    let client = server.client();
    let digest = client.push_blob("a", b"with an origin");
    let url = format!("{}&origin=registry.test&x", mount_url("b", &digest, Some("a")));
    let _ = client.request("POST", &url).send().expect(201);
}
