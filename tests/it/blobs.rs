//! Blobs: pushed whole, read back, deleted.

use crate::support::client::with_query;
use crate::support::{
    Image, OCTETS, Options, Server, blake3, digest, random_bytes, sha256, sha512, sound,
};

fn upload_url(repo: &str, digest: &str) -> String {
    format!("/v2/{repo}/blobs/uploads/?digest={}", digest.replace(':', "%3A"))
}

#[test]
fn pushed_blob_is_read_back_byte_for_byte() {
    let server = Server::start();
    let client = server.client();
    for size_bytes in [1, 100, 65_536, 65_537, 300_000, 9_000_001] {
        let bytes = random_bytes(size_bytes);
        let digest = client.push_blob("team/app", &bytes);
        let answer = client.blob("team/app", &digest).expect(200);
        assert!(answer.body == bytes, "{size_bytes} bytes");
        assert_eq!(answer.content_length(), size_bytes as u64);
        assert_eq!(answer.digest(), digest);
        assert_eq!(answer.header("content-type"), Some(OCTETS));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"").as_str()));
    }
}

#[test]
fn head_of_a_blob_tells_what_get_tells() {
    let server = Server::start();
    let client = server.client();
    let digest = client.push_blob("app", &random_bytes(1000));
    let path = format!("/v2/app/blobs/{digest}");
    let (head, get) = (client.head(&path).expect(200), client.get(&path).expect(200));
    assert!(head.body.is_empty());
    for name in ["content-length", "content-type", "docker-content-digest", "etag"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_eq!(head.content_length(), 1000);
}

#[test]
fn blob_is_pushed_by_a_single_post() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(5000);
    let digest = sha256(&bytes);
    let post = client.request("POST", &upload_url("app", &digest)).body(&bytes);
    let answer = post.header("Content-Type", OCTETS).send().expect(201);
    assert_eq!(answer.location(), format!("/v2/app/blobs/{digest}"));
    assert_eq!(answer.digest(), digest);
    assert_eq!(client.get(&answer.location()).expect(200).body, bytes);
}

#[test]
fn single_post_of_other_content_leaves_nothing() {
    let server = Server::start();
    let client = server.client();
    let (claimed, actual) = (sha256(b"claimed"), sha256(b"actual"));
    let post = client.request("POST", &upload_url("app", &claimed)).body(b"actual");
    let _ = post.send().expect_error(400, "DIGEST_INVALID");
    let _ = client.blob("app", &claimed).expect_error(404, "BLOB_UNKNOWN");
    let _ = client.blob("app", &actual).expect_error(404, "BLOB_UNKNOWN");
    assert!(sound::staged(&server.root()).is_empty());
}

#[test]
fn put_with_wrong_digest_leaves_nothing() {
    let mut server = Server::start();
    let client = server.client();
    for size_bytes in [100, 200_000] {
        let bytes = random_bytes(size_bytes);
        let claimed = sha256(&random_bytes(8));
        let location = client.begin_upload("app");
        let _ = client.finish(&location, &claimed, &bytes).expect_error(400, "DIGEST_INVALID");
        let _ = client.blob("app", &claimed).expect_error(404, "BLOB_UNKNOWN");
        let _ = client.blob("app", &sha256(&bytes)).expect_error(404, "BLOB_UNKNOWN");
        let _ = client.get(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    server.stop();
    assert!(sound::staged(&server.root()).is_empty());
    assert!(sound::blob_files(&server.root()).is_empty());
}

#[test]
fn zero_byte_blob_is_a_blob() {
    let server = Server::start();
    let client = server.client();
    let digest = client.push_blob("app", b"");
    let path = format!("/v2/app/blobs/{digest}");
    let answer = client.get(&path).expect(200);
    assert_eq!((answer.content_length(), answer.body.len()), (0, 0));
    assert_eq!(client.head(&path).expect(200).content_length(), 0);
    let post = client.request("POST", &upload_url("other", &digest)).send();
    assert_eq!(post.expect(201).digest(), digest);
    // No part of nothing can be sent, and a client that resumes it is done.
    let _ = client.request("GET", &path).header("Range", "bytes=0-0").send().expect(200);
}

#[test]
fn same_bytes_under_three_algorithms_are_three_blobs() {
    let server = Server::start();
    let client = server.client();
    for size_bytes in [0, 700, 150_000] {
        let bytes = random_bytes(size_bytes);
        let digests = [sha256(&bytes), sha512(&bytes), blake3(&bytes)];
        for (pushed, digest) in digests.iter().enumerate() {
            let location = client.begin_upload("app");
            let answer = client.finish(&location, digest, &bytes).expect(201);
            assert_eq!(answer.digest(), digest);
            assert_eq!(answer.location(), format!("/v2/app/blobs/{digest}"));
            for (number, other) in digests.iter().enumerate() {
                let status = client.head(&format!("/v2/app/blobs/{other}")).status;
                assert_eq!(status, if number <= pushed { 200 } else { 404 }, "{other}");
            }
            assert!(client.blob("app", digest).expect(200).body == bytes);
        }
        let path = format!("/v2/app/blobs/{}", digests[1]);
        let _ = client.delete(&path).expect(202);
        let _ = client.get(&path).expect_error(404, "BLOB_UNKNOWN");
        let _ = client.blob("app", &digests[2]).expect(200);
    }
}

#[test]
fn digest_of_another_algorithm_or_spelling_is_refused() {
    let server = Server::start();
    let client = server.client();
    let known = client.push_blob("app", b"hello");
    let hex = known.strip_prefix("sha256:").unwrap();
    let spellings = [
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha1:{}", &hex[..40]),
        "md5:5d41402abc4b2a76b9719d911017c592".to_owned(),
        format!("sha512:{hex}"),
        format!("sha384:{hex}"),
        format!("sha256:{}", &hex[..63]),
        format!("sha256:{hex}0"),
        "sha256:".to_owned(),
        format!("sha256:{}", "z".repeat(64)),
    ];
    for spelling in spellings {
        let _ = client.blob("app", &spelling).expect_error(400, "DIGEST_INVALID");
        let location = client.begin_upload("app");
        let put = client.finish(&location, &spelling, b"hello");
        let _ = put.expect_error(400, "DIGEST_INVALID");
    }
    let encoded = client.blob("app", &known.replace(':', "%3A")).expect(200);
    assert_eq!(encoded.body, b"hello");
}

#[test]
fn digest_with_other_hex_of_the_same_length_is_another_blob() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(100);
    client.push_blob("app", &bytes);
    let as_blake3 = sha256(&bytes).replace("sha256", "blake3");
    let _ = client.blob("app", &as_blake3).expect_error(404, "BLOB_UNKNOWN");
    let location = client.begin_upload("app");
    let _ = client.finish(&location, &as_blake3, &bytes).expect_error(400, "DIGEST_INVALID");
}

#[test]
fn blob_of_one_repository_is_unknown_in_another() {
    let server = Server::start();
    let client = server.client();
    for size_bytes in [100, 100_000] {
        let bytes = random_bytes(size_bytes);
        let digest = client.push_blob("team/a", &bytes);
        let path = format!("/v2/team/b/blobs/{digest}");
        let _ = client.get(&path).expect_error(404, "BLOB_UNKNOWN");
        assert_eq!(client.head(&path).status, 404);
        let _ = client.delete(&path).expect(404);
        client.push_blob("team/b", &bytes);
        assert!(client.get(&path).expect(200).body == bytes);
    }
}

#[test]
fn deleted_blob_is_gone_at_once_and_only_there() {
    let server = Server::start();
    let client = server.client();
    for size_bytes in [10, 100_000] {
        let bytes = random_bytes(size_bytes);
        let digest = client.push_blob("a", &bytes);
        client.push_blob("b", &bytes);
        let path = format!("/v2/a/blobs/{digest}");
        let _ = client.delete(&path).expect(202);
        assert_eq!(client.head(&path).status, 404);
        let _ = client.get(&path).expect_error(404, "BLOB_UNKNOWN");
        let _ = client.delete(&path).expect_error(404, "BLOB_UNKNOWN");
        assert!(client.blob("b", &digest).expect(200).body == bytes);
        client.push_blob("a", &bytes);
        assert!(client.get(&path).expect(200).body == bytes);
    }
}

#[test]
fn blob_that_a_manifest_needs_is_not_deleted() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[100, 100_000]);
    let manifest = image.push(&client, "app", "v1");
    for blob in image.blobs() {
        let answer = client.delete(&format!("/v2/app/blobs/{}", sha256(blob)));
        let answer = answer.expect_error(405, "UNSUPPORTED");
        assert!(answer.header("allow").is_some());
    }
    image.assert_pullable(&client, "app", "v1");
    let _ = client.delete(&format!("/v2/app/manifests/{manifest}")).expect(202);
    for blob in image.blobs() {
        let _ = client.delete(&format!("/v2/app/blobs/{}", sha256(blob))).expect(202);
    }
}

#[test]
fn blobs_lie_in_the_tree_of_distribution() {
    let mut server = Server::start();
    let client = server.client();
    let contents = [random_bytes(10), random_bytes(100_000)];
    for bytes in &contents {
        client.push_blob("app", bytes);
    }
    server.stop();
    for bytes in &contents {
        let hex = sha256(bytes).split_off("sha256:".len());
        let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        assert!(std::fs::read(server.root().join(path)).unwrap() == *bytes);
    }
}

#[test]
fn announced_algorithm_may_differ_from_the_digest() {
    let server = Server::start();
    let client = server.client();
    for announced in ["sha256", "sha512", "blake3"] {
        for named in ["sha256", "sha512", "blake3"] {
            let bytes = random_bytes(3000);
            let path = format!("/v2/app/blobs/uploads/?digest-algorithm={announced}");
            let location = client.request("POST", &path).send().expect(202).location();
            let location = client.patch(&location, None, &bytes[..1000]).expect(202).location();
            let digest = digest(named, &bytes);
            let put = client.finish(&location, &digest, &bytes[1000..]).expect(201);
            assert_eq!(put.digest(), digest);
            assert_eq!(client.blob("app", &digest).expect(200).body, bytes);
        }
    }
    let unknown = client.request("POST", "/v2/app/blobs/uploads/?digest-algorithm=md5").send();
    let _ = unknown.expect_error(400, "DIGEST_INVALID");
}

#[test]
fn delete_switched_off_is_405() {
    let options = Options::default().env("REGISTRY_STORAGE_DELETE_ENABLED", "false");
    let server = Server::with(options);
    let client = server.client();
    let bytes = random_bytes(10);
    let digest = client.push_blob("app", &bytes);
    let path = with_query(&format!("/v2/app/blobs/{digest}"), "x=1");
    let _ = client.delete(&path).expect_error(405, "UNSUPPORTED");
    assert_eq!(client.get(&path).expect(200).body, bytes);
}
