//! Referrers: what is attached to a manifest.

use serde_json::{Value, json};

use crate::support::client::strings;
use crate::support::image::descriptor;
use crate::support::{
    Client, Image, OCI_INDEX, OCI_MANIFEST, Response, Server, index, random_bytes, sha256, sha512,
};

fn referrers(client: &Client, repo: &str, subject: &str, query: &str) -> Response {
    let answer = client.get(&format!("/v2/{repo}/referrers/{subject}{query}")).expect(200);
    assert_eq!(answer.header("content-type"), Some(OCI_INDEX));
    let body = answer.json();
    assert_eq!((&body["schemaVersion"], &body["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
    answer
}

/// The digests listed, sorted.
fn listed(client: &Client, repo: &str, subject: &str, query: &str) -> Vec<String> {
    let body = referrers(client, repo, subject, query).json();
    let digest = |it: &Value| it["digest"].as_str().unwrap().to_owned();
    let mut digests: Vec<_> = body["manifests"].as_array().unwrap().iter().map(digest).collect();
    digests.sort();
    digests
}

fn sorted(mut digests: Vec<String>) -> Vec<String> {
    digests.sort();
    digests
}

/// Attaches an artifact; its digest.
fn attach(client: &Client, repo: &str, subject: &Value, artifact_type: &str) -> String {
    let annotations = json!({ "unique": sha256(&random_bytes(8)) });
    let artifact = Image::attached(subject, artifact_type, annotations);
    artifact.push_blobs(client, repo);
    let put = client.put_manifest(repo, &artifact.digest(), OCI_MANIFEST, &artifact.manifest);
    let put = put.expect(201);
    assert_eq!(put.header("oci-subject"), subject["digest"].as_str());
    artifact.digest()
}

#[test]
fn unknown_subject_or_repository_has_no_referrers() {
    let server = Server::start();
    let client = server.client();
    let zeros = format!("sha256:{}", "0".repeat(64));
    for repo in ["never/seen", "app"] {
        for digest in [&zeros, &sha512(b"never seen")] {
            assert_eq!(listed(&client, repo, digest, ""), Vec::<String>::new());
        }
        client.push_blob("app", b"x");
    }
    for digest in ["latest", "sha256:short", "md5:5d41402abc4b2a76b9719d911017c592"] {
        let answer = client.get(&format!("/v2/app/referrers/{digest}"));
        let _ = answer.expect_error(400, "DIGEST_INVALID");
    }
}

#[test]
fn referrer_is_listed_with_its_type_size_and_annotations() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    image.push(&client, "app", "v1");
    let annotations = json!({ "org.example.key": "value \"quoted\" é", "empty": "" });
    let artifact = Image::attached(&image.descriptor(), "application/x.sbom", annotations.clone());
    artifact.push(&client, "app", &artifact.digest());
    let body = referrers(&client, "app", &image.digest(), "").json();
    let expected = json!({
        "mediaType": OCI_MANIFEST,
        "digest": artifact.digest(),
        "size": artifact.manifest.len(),
        "artifactType": "application/x.sbom",
        "annotations": annotations,
    });
    assert_eq!(body["manifests"], json!([expected]));
}

#[test]
fn referrer_may_come_before_its_subject() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    let digest = attach(&client, "app", &image.descriptor(), "application/x.signature");
    assert_eq!(listed(&client, "app", &image.digest(), ""), [digest.as_str()]);
    image.push(&client, "app", "v1");
    assert_eq!(listed(&client, "app", &image.digest(), ""), [digest]);
    assert_eq!(listed(&client, "other", &image.digest(), ""), Vec::<String>::new());
}

#[test]
fn filter_takes_one_type_or_several() {
    let server = Server::start();
    let client = server.client();
    let subject = Image::random(&[]).descriptor();
    let digest = subject["digest"].as_str().unwrap();
    let types = ["application/x.a", "application/x.b+json", "application/x.c"];
    let [a, b, c] = types.map(|it| attach(&client, "app", &subject, it));
    let filtered = |query: &str| {
        let answer = referrers(&client, "app", digest, query);
        assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"), "{query}");
        listed(&client, "app", digest, query)
    };
    assert_eq!(filtered("?artifactType=application%2Fx.a"), [a.as_str()]);
    assert_eq!(filtered("?artifactType=application/x.b%2Bjson"), [b.as_str()]);
    assert_eq!(filtered("?artifactType=application/x.none"), Vec::<String>::new());
    let two = "?artifactType=application/x.a&artifactType=application/x.c";
    assert_eq!(filtered(two), sorted(vec![a.clone(), c.clone()]));
    let all = referrers(&client, "app", digest, "");
    assert_eq!(all.header("oci-filters-applied"), None);
    assert_eq!(listed(&client, "app", digest, ""), sorted(vec![a, b, c]));
    let hostile = referrers(&client, "app", digest, "?artifactType=x%0d%0aX-Injected:1");
    assert_eq!(hostile.header("x-injected"), None);
}

#[test]
fn image_without_an_artifact_type_shows_its_config_type() {
    let server = Server::start();
    let client = server.client();
    let subject = Image::random(&[]).descriptor();
    let config = b"{}";
    client.push_blob("app", config);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "subject": subject, "layers": [],
        "config": descriptor("application/vnd.example.config+json", config),
    });
    let bytes = manifest.to_string().into_bytes();
    let put = client.put_manifest("app", "attached", OCI_MANIFEST, &bytes).expect(201);
    assert_eq!(put.header("oci-subject"), subject["digest"].as_str());
    let body = referrers(&client, "app", subject["digest"].as_str().unwrap(), "").json();
    assert_eq!(body["manifests"][0]["artifactType"], "application/vnd.example.config+json");
}

#[test]
fn index_can_refer_and_shows_only_its_own_artifact_type() {
    let server = Server::start();
    let client = server.client();
    let subject = Image::random(&[]).descriptor();
    let plain = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject,
    });
    let mut typed = plain.clone();
    typed["artifactType"] = json!("application/x.index");
    for document in [&plain, &typed] {
        let bytes = document.to_string().into_bytes();
        let put = client.put_manifest("app", &sha256(&bytes), OCI_INDEX, &bytes).expect(201);
        assert_eq!(put.header("oci-subject"), subject["digest"].as_str());
        let body = referrers(&client, "app", subject["digest"].as_str().unwrap(), "").json();
        let is_it = |it: &&Value| it["digest"] == json!(sha256(&bytes));
        let listed = body["manifests"].as_array().unwrap().iter().find(is_it).unwrap().clone();
        assert_eq!(listed["mediaType"], OCI_INDEX);
        assert_eq!(listed.get("artifactType"), document.get("artifactType"));
    }
}

#[test]
fn deleted_referrer_is_no_longer_listed() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    image.push(&client, "app", "v1");
    let first = attach(&client, "app", &image.descriptor(), "application/x.a");
    let second = attach(&client, "app", &image.descriptor(), "application/x.a");
    let _ = client.delete(&format!("/v2/app/manifests/{first}")).expect(202);
    assert_eq!(listed(&client, "app", &image.digest(), ""), [second]);
}

#[test]
fn referrers_over_4_mb_come_in_pages() {
    let server = Server::start();
    let client = server.client();
    let subject = Image::random(&[]).descriptor();
    let padding = "x".repeat(900_000);
    let mut pushed = Vec::new();
    for number in 0..10 {
        let annotations = json!({ "number": number.to_string(), "padding": padding });
        let artifact = Image::attached(&subject, "application/x.large", annotations);
        pushed.push(artifact.push(&client, "app", &artifact.digest()));
    }
    for query in ["", "?artifactType=application/x.large"] {
        let digest = subject["digest"].as_str().unwrap();
        let mut next = Some(format!("/v2/app/referrers/{digest}{query}"));
        let (mut pages, mut all) = (0, Vec::new());
        while let Some(path) = next {
            let answer = client.get(&path).expect(200);
            assert_eq!(answer.header("content-type"), Some(OCI_INDEX));
            assert!(answer.content_length() <= 4 << 20);
            for one in answer.json()["manifests"].as_array().unwrap() {
                all.push(one["digest"].as_str().unwrap().to_owned());
            }
            next = answer.next_link();
            pages += 1;
        }
        assert!(pages > 1);
        assert_eq!(sorted(all), sorted(pushed.clone()));
    }
}

#[test]
fn fallback_tag_is_folded_into_the_list() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    image.push(&client, "app", "v1");
    let attached = attach(&client, "app", &image.descriptor(), "application/x.new");
    // What a client left that found no referrers API: an index under the subject's name.
    let old = Image::random(&[]);
    old.push(&client, "app", &old.digest());
    let mut listed_by_tag = old.descriptor();
    listed_by_tag["artifactType"] = json!("application/x.old");
    let fallback = index(&[listed_by_tag]);
    let tag = image.digest().replace(':', "-");
    let _ = client.put_manifest("app", &tag, OCI_INDEX, &fallback).expect(201);
    let both = sorted(vec![attached.clone(), old.digest()]);
    assert_eq!(listed(&client, "app", &image.digest(), ""), both);
    let query = "?artifactType=application/x.old";
    assert_eq!(listed(&client, "app", &image.digest(), query), [old.digest()]);
    let answer = client.get("/v2/app/tags/list").expect(200);
    assert!(strings(&answer.json()["tags"]).contains(&tag));
    let _ = client.delete(&format!("/v2/app/manifests/{tag}")).expect(202);
    assert_eq!(listed(&client, "app", &image.digest(), ""), [attached]);
}
