//! Manifests: stored verbatim, checked, tagged, deleted.

use serde_json::{Value, json};

use crate::support::image::descriptor;
use crate::support::{
    Client, DOCKER_LIST, DOCKER_MANIFEST, Image, OCI_INDEX, OCI_MANIFEST, Options, Server, blake3,
    index, random_bytes, sha256, sha512,
};

const LIMIT_SIZE_BYTES: usize = 4 << 20;

/// A config in `repo`, and its descriptor.
fn config(client: &Client, repo: &str) -> Value {
    let bytes = random_bytes(20);
    client.push_blob(repo, &bytes);
    descriptor("application/vnd.oci.image.config.v1+json", &bytes)
}

/// A manifest of exactly that size.
fn padded(config: &Value, size_bytes: usize) -> Vec<u8> {
    let build = |padding: &str| {
        let annotations = json!({ "padding": padding });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [],
            "annotations": annotations,
        });
        manifest.to_string().into_bytes()
    };
    build(&"x".repeat(size_bytes - build("").len()))
}

fn manifest_with(config: &Value, layers: Value) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers,
    });
    manifest.to_string().into_bytes()
}

#[test]
fn manifest_is_served_as_pushed_by_tag_and_digest() {
    let server = Server::start();
    let client = server.client();
    let config = config(&client, "app");
    let odd = format!(
        " {{\n\t\"schemaVersion\" : 2, \"config\": {config}, \"layers\":[ ],\n \
         \"newUnspecifiedField\": [1e3, {{\"a\": null}}],\n \
         \"annotations\": {{\"\\u00e9\": \"é\"}} }}\n"
    );
    let digest = sha256(odd.as_bytes());
    let put = client.put_manifest("app", "v1", OCI_MANIFEST, odd.as_bytes()).expect(201);
    assert_eq!(put.location(), format!("/v2/app/manifests/{digest}"));
    assert_eq!(put.digest(), digest);
    assert_eq!(put.content_length(), 0);
    for reference in ["v1", &digest] {
        let get = client.manifest("app", reference).expect(200);
        assert_eq!(String::from_utf8(get.body.clone()).unwrap(), odd);
        let head = client.manifest_request("HEAD", "app", reference).send().expect(200);
        for answer in [get, head] {
            assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));
            assert_eq!(answer.digest(), digest);
            assert_eq!(answer.content_length(), odd.len() as u64);
            assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"").as_str()));
        }
    }
}

#[test]
fn accept_of_any_form_gets_the_stored_document() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    image.push(&client, "app", "v1");
    let list = index(&[image.descriptor()]);
    let _ = client.put_manifest("app", "all", OCI_INDEX, &list).expect(201);
    let forms = ["*/*", "application/json", DOCKER_MANIFEST, "text/html;q=0.1, a/b", "nonsense"];
    for (tag, stored) in [("v1", &image.manifest), ("all", &list)] {
        let path = format!("/v2/app/manifests/{tag}");
        assert_eq!(client.get(&path).expect(200).body, *stored);
        for form in forms {
            let answer = client.request("GET", &path).header("Accept", form).send().expect(200);
            assert_eq!(answer.body, *stored, "{form}");
        }
        let request = client.request("GET", &path).header("Accept", "a/b");
        assert_eq!(request.header("Accept", OCI_INDEX).send().expect(200).body, *stored);
    }
}

#[test]
fn docker_images_and_lists_are_kept_as_they_are() {
    let server = Server::start();
    let client = server.client();
    let image = Image::docker(&[100, 70_000]);
    image.push(&client, "app", "v1");
    image.assert_pullable(&client, "app", "v1");
    let list = json!({
        "schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [image.descriptor()],
    });
    let list = list.to_string().into_bytes();
    let _ = client.put_manifest("app", "list", DOCKER_LIST, &list).expect(201);
    let answer = client.manifest("app", "list").expect(200);
    assert_eq!((answer.header("content-type"), answer.body.clone()), (Some(DOCKER_LIST), list));
}

#[test]
fn schema_1_is_refused() {
    let server = Server::start();
    let client = server.client();
    let body = json!({ "schemaVersion": 1, "name": "app", "tag": "v1", "fsLayers": [] });
    for kind in ["manifest.v1+json", "manifest.v1+prettyjws"] {
        let media_type = format!("application/vnd.docker.distribution.{kind}");
        let put = client.put_manifest("app", "v1", &media_type, body.to_string().as_bytes());
        let _ = put.expect_error(400, "MANIFEST_INVALID");
    }
}

#[test]
fn index_may_hold_manifests_indexes_and_blobs() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    image.push(&client, "app", &image.digest());
    let cache = random_bytes(100);
    client.push_blob("app", &cache);
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &cache);
    let inner = index(&[image.descriptor(), layer]);
    let _ = client.put_manifest("app", &sha256(&inner), OCI_INDEX, &inner).expect(201);
    let outer = index(&[descriptor(OCI_INDEX, &inner)]);
    let _ = client.put_manifest("app", "nested", OCI_INDEX, &outer).expect(201);
    assert_eq!(client.manifest("app", "nested").expect(200).body, outer);
    let _ = client.put_manifest("app", "empty", OCI_INDEX, &index(&[])).expect(201);
    let _ = client.delete(&format!("/v2/app/blobs/{}", sha256(&cache))).expect(405);
}

#[test]
fn missing_parts_are_refused_and_leave_no_tag() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    let absent = Image::random(&[20]);
    image.push_blobs(&client, "app");
    absent.push_blobs(&client, "other");
    let known = descriptor("application/vnd.oci.image.config.v1+json", &image.config);
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar", &absent.layers[0]);
    let other = descriptor("application/vnd.oci.image.config.v1+json", &absent.config);
    let refused = [
        (OCI_MANIFEST, manifest_with(&known, json!([layer]))),
        (OCI_MANIFEST, manifest_with(&other, json!([]))),
        (OCI_INDEX, index(&[absent.descriptor()])),
    ];
    for (media_type, bytes) in refused {
        for reference in ["v1", &sha256(&bytes)] {
            let put = client.put_manifest("app", reference, media_type, &bytes);
            let _ = put.expect_error(400, "MANIFEST_BLOB_UNKNOWN");
            let _ = client.manifest("app", reference).expect(404);
        }
    }
    let _ = client.get("/v2/app/tags/list").expect_error(404, "NAME_UNKNOWN");
}

#[test]
fn sparse_setting_lets_parts_be_missing() {
    let missing = |kind: &str| {
        let options = Options::default().env("REGISTRY_KELSON_MANIFESTS_SPARSE", kind);
        let server = Server::with(options);
        let client = server.client();
        let image = Image::random(&[10]);
        let one = client.put_manifest("app", "v1", OCI_MANIFEST, &image.manifest).status;
        let other = index(&[Image::random(&[]).descriptor()]);
        (one, client.put_manifest("app", "all", OCI_INDEX, &other).status)
    };
    assert_eq!(missing("none"), (400, 400));
    assert_eq!(missing("images"), (201, 400));
    assert_eq!(missing("indexes"), (400, 201));
    assert_eq!(missing("all"), (201, 201));
}

#[test]
fn content_that_others_distribute_may_be_missing() {
    let server = Server::start();
    let client = server.client();
    let config = config(&client, "app");
    let mut foreign = descriptor(
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        &random_bytes(30),
    );
    foreign["urls"] = json!(["https://store.test/foreign-layer"]);
    let bytes = manifest_with(&config, json!([foreign]));
    let _ = client.put_manifest("app", "v1", OCI_MANIFEST, &bytes).expect(201);
    assert_eq!(client.manifest("app", "v1").expect(200).body, bytes);
}

#[test]
fn manifest_of_4_mib_fits_and_one_byte_more_is_413() {
    let server = Server::start();
    let client = server.client();
    let config = config(&client, "app");
    let largest = padded(&config, LIMIT_SIZE_BYTES);
    let _ = client.put_manifest("app", "v1", OCI_MANIFEST, &largest).expect(201);
    assert!(client.manifest("app", "v1").expect(200).body == largest);
    let put = || {
        let request = client.request("PUT", "/v2/app/manifests/v2");
        request.header("Content-Type", OCI_MANIFEST)
    };
    let too_large = padded(&config, LIMIT_SIZE_BYTES + 1);
    let _ = put().streamed(&too_large).send().expect_error(413, "MANIFEST_INVALID");
    let _ = client.manifest("app", "v2").expect_error(404, "MANIFEST_UNKNOWN");
    let _ = put().streamed(&largest).send().expect(201);
}

#[test]
fn too_long_a_manifest_is_refused_before_its_body() {
    let server = Server::start();
    for size_bytes in [LIMIT_SIZE_BYTES + 1, usize::MAX / 4] {
        let mut raw = server.raw();
        let length = format!("Content-Length: {size_bytes}");
        let headers = [&format!("Content-Type: {OCI_MANIFEST}"), length.as_str()];
        raw.send_head("PUT /v2/app/manifests/v1", &headers);
        let answer = raw.response();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(body["errors"][0]["code"], "MANIFEST_INVALID");
    }
}

#[test]
fn parameters_of_a_content_type_are_dropped() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    image.push_blobs(&client, "app");
    let with_charset = format!("{OCI_MANIFEST}; charset=utf-8");
    let _ = client.put_manifest("app", "v1", &with_charset, &image.manifest).expect(201);
    let answer = client.manifest("app", "v1").expect(200);
    assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));
}

#[test]
fn type_of_a_manifest_comes_from_header_or_body_and_they_agree() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    image.push_blobs(&client, "app");
    let put = |body: &[u8]| client.request("PUT", "/v2/app/manifests/v1").body(body).send();
    let _ = put(&image.manifest).expect(201);
    let answer = client.manifest("app", "v1").expect(200);
    assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));

    let config = config(&client, "app");
    let untyped = json!({ "schemaVersion": 2, "config": config, "layers": [] }).to_string();
    let _ = put(untyped.as_bytes()).expect_error(400, "MANIFEST_INVALID");
    for media_type in [OCI_INDEX, DOCKER_MANIFEST, "text/plain", "application/json"] {
        let put = client.put_manifest("app", "v1", media_type, &image.manifest);
        let _ = put.expect_error(400, "MANIFEST_INVALID");
    }
    assert_eq!(client.manifest("app", "v1").expect(200).body, image.manifest);
}

#[test]
fn document_of_two_kinds_is_refused() {
    let server = Server::start();
    let client = server.client();
    let config = config(&client, "app");
    for media_type in [OCI_MANIFEST, OCI_INDEX] {
        let both = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [],
            "manifests": [],
        });
        let put = client.put_manifest("app", "v1", media_type, both.to_string().as_bytes());
        let _ = put.expect_error(400, "MANIFEST_INVALID");
    }
}

#[test]
fn wrong_documents_are_refused() {
    let server = Server::start();
    let client = server.client();
    let config = config(&client, "app");
    let layer = |change: fn(&mut Value)| {
        let mut layer = config.clone();
        change(&mut layer);
        manifest_with(&config, json!([layer]))
    };
    let documents = [
        b"".to_vec(),
        b"hello".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        [manifest_with(&config, json!([])), b"{}".to_vec()].concat(),
        format!("{{\"annotations\":{}", "[".repeat(50_000)).into_bytes(),
        layer(|it| it["size"] = json!(-1)),
        layer(|it| it["size"] = json!("20")),
        layer(|it| it["size"] = json!(20.5)),
        layer(|it| it["size"] = json!(21)),
        layer(|it| it["digest"] = json!("sha256:short")),
        layer(|it| it["digest"] = json!({})),
        layer(|it| drop(it.as_object_mut().unwrap().remove("digest"))),
        layer(|it| drop(it.as_object_mut().unwrap().remove("mediaType"))),
        manifest_with(&config, json!({})),
        manifest_with(&json!(null), json!([])),
        json!({ "schemaVersion": 3, "config": config, "layers": [] }).to_string().into_bytes(),
        json!({ "schemaVersion": "2", "config": config, "layers": [] }).to_string().into_bytes(),
    ];
    for document in documents {
        let answer = client.put_manifest("app", "v1", OCI_MANIFEST, &document);
        let _ = answer.expect_error(400, "MANIFEST_INVALID");
    }
    let _ = client.manifest("app", "v1").expect(404);
}

#[test]
fn digest_in_the_path_is_checked() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    image.push_blobs(&client, "app");
    let wrong = [sha256(b"other"), sha512(b"other"), "sha256:baddigeststring".to_owned()];
    for digest in wrong {
        let put = client.put_manifest("app", &digest, OCI_MANIFEST, &image.manifest);
        let _ = put.expect_error(400, "DIGEST_INVALID");
    }
    let _ = client.manifest("app", &image.digest()).expect(404);
}

#[test]
fn same_manifest_under_three_algorithms_has_three_names() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    image.push_blobs(&client, "app");
    let bytes = &image.manifest;
    for digest in [sha512(bytes), blake3(bytes), sha256(bytes)] {
        let _ = client.manifest("app", &digest).expect_error(404, "MANIFEST_UNKNOWN");
        let put = client.put_manifest("app", &digest, OCI_MANIFEST, bytes).expect(201);
        assert_eq!(put.digest(), digest);
        assert_eq!(put.location(), format!("/v2/app/manifests/{digest}"));
        let answer = client.manifest("app", &digest).expect(200);
        assert_eq!((answer.digest(), &answer.body), (digest.as_str(), bytes));
    }
    let _ = client.delete(&format!("/v2/app/manifests/{}", sha512(bytes))).expect(202);
    let _ = client.manifest("app", &sha512(bytes)).expect_error(404, "MANIFEST_UNKNOWN");
    let _ = client.manifest("app", &blake3(bytes)).expect(200);
}

#[test]
fn push_by_digest_sets_several_tags_at_once() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    image.push_blobs(&client, "app");
    for digest in [sha256(&image.manifest), sha512(&image.manifest)] {
        let tags: Vec<_> = (0..10).map(|n| format!("{}-{n}", &digest[..6])).collect();
        let query: Vec<_> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let reference = format!("{digest}?{}", query.join("&"));
        let put = client.put_manifest("app", &reference, OCI_MANIFEST, &image.manifest).expect(201);
        let accepted: Vec<_> = put.headers.get_all("oci-tag").iter().collect();
        let accepted: Vec<_> =
            accepted.iter().flat_map(|it| it.to_str().unwrap().split(',')).collect();
        let accepted: Vec<_> = accepted.iter().map(|tag| tag.trim()).collect();
        assert_eq!(accepted, tags);
        for tag in &tags {
            assert_eq!(client.manifest("app", tag).expect(200).digest(), digest);
        }
    }
}

#[test]
fn one_wrong_tag_refuses_all() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    image.push_blobs(&client, "app");
    let digest = image.digest();
    for query in ["tag=good&tag=bad%20tag", "tag=good&tag=", "tag=-x&tag=good"] {
        let put =
            client.put_manifest("app", &format!("{digest}?{query}"), OCI_MANIFEST, &image.manifest);
        let _ = put.expect_error(400, "MANIFEST_INVALID");
    }
    let put = client.put_manifest("app", "v1?tag=v2", OCI_MANIFEST, &image.manifest);
    let _ = put.expect(400);
    let _ = client.get("/v2/app/tags/list").expect_error(404, "NAME_UNKNOWN");
    let many = vec!["tag=t"; 10_000].join("&");
    let put =
        client.put_manifest("app", &format!("{digest}?{many}"), OCI_MANIFEST, &image.manifest);
    assert!([414, 400, 431].contains(&put.status), "{}", put.status);
}

#[test]
fn tag_moves_and_the_old_manifest_stays() {
    let server = Server::start();
    let client = server.client();
    let (old, new) = (Image::random(&[10]), Image::random(&[20]));
    old.push(&client, "app", "v1");
    new.push(&client, "app", "v1");
    new.assert_pullable(&client, "app", "v1");
    old.assert_pullable(&client, "app", &old.digest());
    assert_eq!(client.tags("app"), ["v1"]);
}

#[test]
fn deleted_tag_is_gone_at_once_and_leaves_the_manifest() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    image.push(&client, "app", "v1");
    image.push(&client, "app", "v2");
    let _ = client.delete("/v2/app/manifests/v1").expect(202);
    let _ = client.manifest("app", "v1").expect_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(client.tags("app"), ["v2"]);
    image.assert_pullable(&client, "app", "v2");
    image.assert_pullable(&client, "app", &image.digest());
    let _ = client.delete("/v2/app/manifests/v1").expect_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn deleted_manifest_takes_all_its_tags_along() {
    let server = Server::start();
    let client = server.client();
    let (image, other) = (Image::random(&[10]), Image::random(&[20]));
    let digest = image.push(&client, "app", "v1");
    image.push(&client, "app", "v2");
    other.push(&client, "app", "other");
    image.push(&client, "elsewhere", "v1");
    let _ = client.delete(&format!("/v2/app/manifests/{digest}")).expect(202);
    for reference in ["v1", "v2", &digest] {
        let _ = client.manifest("app", reference).expect_error(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(client.tags("app"), ["other"]);
    image.assert_pullable(&client, "elsewhere", "v1");
    let again = client.delete(&format!("/v2/app/manifests/{digest}"));
    let _ = again.expect_error(404, "MANIFEST_UNKNOWN");
    let nowhere = client.delete(&format!("/v2/does/not/exist/manifests/{digest}"));
    let _ = nowhere.expect_error(404, "NAME_UNKNOWN");
    image.push(&client, "app", "v1");
    image.assert_pullable(&client, "app", "v1");
}

#[test]
fn layer_is_no_manifest_and_manifest_of_one_repository_is_unknown_in_another() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    let digest = image.push(&client, "a", "v1");
    let layer = sha256(&image.layers[0]);
    let _ = client.manifest("a", &layer).expect_error(404, "MANIFEST_UNKNOWN");
    client.push_blob("b", b"something");
    let _ = client.manifest("b", &digest).expect(404);
    let _ = client.manifest("b", "v1").expect(404);
}

#[test]
fn tag_of_129_characters_is_refused() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    image.push_blobs(&client, "app");
    let longest = "t".repeat(128);
    let _ = client.put_manifest("app", &longest, OCI_MANIFEST, &image.manifest).expect(201);
    for tag in ["t".repeat(129), ".hidden".into(), "-dash".into(), "a+b".into(), "v1%0a".into()] {
        let put = client.put_manifest("app", &tag, OCI_MANIFEST, &image.manifest);
        let _ = put.expect_error(400, "MANIFEST_INVALID");
        let _ = client.manifest("app", &tag).expect_error(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(client.tags("app"), [longest]);
}

#[test]
fn manifest_with_many_layers_is_handled_quickly() {
    let server = Server::start();
    let client = server.client();
    let config = config(&client, "app");
    let mut layer = config.clone();
    layer["mediaType"] = json!("a/b");
    let bytes = manifest_with(&config, json!(vec![layer; 20_000]));
    assert!(bytes.len() < LIMIT_SIZE_BYTES);
    let start = std::time::Instant::now();
    let _ = client.put_manifest("app", "v1", OCI_MANIFEST, &bytes).expect(201);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
