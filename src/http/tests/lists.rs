//! Lists and their pages, methods that are not allowed.

use super::*;

/// The path of the next page.
fn next(answer: &Answer) -> Option<String> {
    let (target, relation) = answer.header("link").strip_prefix('<')?.split_once('>')?;
    assert_eq!(relation, "; rel=\"next\"");
    Some(target.to_owned())
}

/// Every page of a list, by its links.
async fn walk(server: &Server, first: &str, key: &str) -> Vec<Vec<String>> {
    let (mut target, mut pages) = (Some(first.to_owned()), Vec::new());
    while let Some(path) = target {
        let answer = server.call("GET", &path, &[], b"").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let items = answer.json()[key].as_array().unwrap().clone();
        pages.push(items.iter().map(|item| item.as_str().unwrap().to_owned()).collect());
        target = next(&answer);
    }
    pages
}

#[tokio::test]
async fn tags_come_in_pages_that_lead_on() {
    let options = Options { tags_max: 3, prefix: "/p/".to_owned(), ..options() };
    let server = Server::start_with(options, registry::Options::default()).await;
    let kind = format!("Content-Type: {MANIFEST}");
    let blob = format!("/p/v2/a/blobs/uploads/?digest={}", sha256(b"{}"));
    assert_eq!(server.call("POST", &blob, &[], b"{}").await.status, 201);
    let document = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"a/b\",\"digest\":\"{}\",\
         \"size\":2}},\"layers\":[]}}",
        sha256(b"{}")
    );
    let tags = ["A", "_", "a", "b.1", "b_1"];
    for tag in tags {
        let target = format!("/p/v2/a/manifests/{tag}");
        let answer = server.call("PUT", &target, &[&kind], document.as_bytes()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let list = "/p/v2/a/tags/list";
    assert_eq!(walk(&server, list, "tags").await, [&tags[..3], &tags[3..]]);
    let clamped = walk(&server, &format!("{list}?n=1000000"), "tags").await;
    assert_eq!(clamped, [&tags[..3], &tags[3..]]);
    assert_eq!(walk(&server, &format!("{list}?n=2"), "tags").await.concat(), tags);
    assert_eq!(walk(&server, &format!("{list}?last=az"), "tags").await.concat(), tags[3..]);
    let none = server.call("GET", &format!("{list}?n=0"), &[], b"").await;
    assert_eq!((none.text().as_str(), none.header("link")), ("{\"name\":\"a\",\"tags\":[]}", ""));
    for bad in ["-1", "1.5", "x", "%00", "99999999999999999999"] {
        let answer = server.call("GET", &format!("{list}?n={bad}"), &[], b"").await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    let unknown = server.call("GET", "/p/v2/b/tags/list", &[], b"").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "NAME_UNKNOWN"));
}

#[tokio::test]
async fn the_catalog_comes_in_pages_and_refuses_longer_ones() {
    let options = Options { catalog_entries_max: 2, ..options() };
    let server = Server::start_with(options, registry::Options::default()).await;
    for repo in ["a", "a-b", "a/b"] {
        server.push_manifest(repo, "v1", "x").await;
    }
    server.push_blob("only/blobs", b"x").await;
    let pages = walk(&server, "/v2/_catalog", "repositories").await;
    assert_eq!(pages, [vec!["a", "a-b"], vec!["a/b"]]);
    let refused = server.call("GET", "/v2/_catalog?n=3", &[], b"").await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "UNSUPPORTED"));
    let empty = server.call("GET", "/v2/_catalog?n=0", &[], b"").await;
    assert_eq!(empty.text(), "{\"repositories\":[]}");
}

#[tokio::test]
async fn referrers_are_an_index_never_a_404() {
    let server = Server::start().await;
    let subject = sha256(b"nothing");
    let target = format!("/v2/a/referrers/{subject}");
    let empty = server.call("GET", &target, &[], b"").await;
    assert_eq!((empty.status, empty.header("content-type")), (200, INDEX));
    assert_eq!(empty.json()["manifests"], serde_json::json!([]));

    let more = format!(
        ",\"artifactType\":\"application/x.y\",\"subject\":{{\"mediaType\":\"{MANIFEST}\",\
         \"digest\":\"{subject}\",\"size\":7}}"
    );
    let document = server.manifest("a", "x", &more).await;
    let kind = format!("Content-Type: {MANIFEST}");
    let pushed = server.call("PUT", "/v2/a/manifests/v1", &[&kind], document.as_bytes()).await;
    assert_eq!((pushed.status, pushed.header("oci-subject")), (201, &*subject));

    let filtered = format!("{target}?artifactType=application/x.y");
    let listed = server.call("GET", &filtered, &[], b"").await;
    assert_eq!(listed.header("oci-filters-applied"), "artifactType");
    let expected = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            "mediaType": MANIFEST,
            "digest": sha256(document.as_bytes()),
            "size": document.len(),
            "artifactType": "application/x.y",
            "annotations": {"seed": "x"},
        }],
    });
    assert_eq!(listed.json(), expected);
    let other = server.call("GET", &format!("{target}?artifactType=a/b"), &[], b"").await;
    assert_eq!(other.json()["manifests"], serde_json::json!([]));
}

#[tokio::test]
async fn every_endpoint_says_which_methods_it_has() {
    let server = Server::start().await;
    let digest = sha256(b"x");
    let cases = [
        ("/v2/".to_owned(), "GET, HEAD, OPTIONS"),
        ("/v2/_catalog".to_owned(), "GET, HEAD, OPTIONS"),
        ("/v2/a/tags/list".to_owned(), "GET, HEAD, OPTIONS"),
        (format!("/v2/a/blobs/{digest}"), "DELETE, GET, HEAD, OPTIONS"),
        ("/v2/a/manifests/v1".to_owned(), "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/v2/a/blobs/uploads/".to_owned(), "OPTIONS, POST"),
    ];
    for (target, allow) in cases {
        let options = server.call("OPTIONS", &target, &[], b"").await;
        assert_eq!((options.status, options.header("allow")), (200, allow), "{target}");
        assert_eq!(options.header("x-content-type-options"), "nosniff");
        let refused = server.call("FOO", &target, &[], b"").await;
        assert_eq!((refused.status, refused.header("allow")), (405, allow), "{target}");
        assert_eq!(refused.code(), "UNSUPPORTED");
        assert_eq!(refused.header("docker-distribution-api-version"), "registry/2.0");
    }
}

#[tokio::test]
async fn a_read_only_registry_refuses_writes_before_their_bodies() {
    let registry = registry::Options { read_only: true, ..registry::Options::default() };
    let server = Server::start_with(options(), registry).await;
    let expect = "Expect: 100-continue";
    let put = server.call("PUT", "/v2/a/manifests/v1", &[expect], b"{}").await;
    assert_eq!((put.status, put.header("allow")), (405, "GET, HEAD, OPTIONS"));
    assert_eq!(put.code(), "UNSUPPORTED");
    let post = server.call("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    assert_eq!((post.status, post.header("allow")), (405, "OPTIONS"));
    assert_eq!(server.call("GET", "/v2/", &[], b"").await.status, 200);
}

#[tokio::test]
async fn a_registry_without_deletion_still_lets_uploads_be_cancelled() {
    let registry = registry::Options { delete_enabled: false, ..registry::Options::default() };
    let server = Server::start_with(options(), registry).await;
    let digest = server.push_manifest("a", "v1", "x").await;
    let target = format!("/v2/a/manifests/{digest}");
    let refused = server.call("DELETE", &target, &[], b"").await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, OPTIONS, PUT"));
    let begun = server.call("POST", "/v2/a/blobs/uploads/", &[], b"").await;
    let location = begun.header("location").to_owned();
    assert_eq!(server.call("DELETE", &location, &[], b"").await.status, 204);
    assert_eq!(server.call("GET", &location, &[], b"").await.status, 404);
}

#[tokio::test]
async fn a_blob_that_a_manifest_needs_stays() {
    let server = Server::start().await;
    server.push_manifest("a", "v1", "x").await;
    let target = format!("/v2/a/blobs/{}", sha256(b"{}"));
    let refused = server.call("DELETE", &target, &[], b"").await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, OPTIONS"));
    assert_eq!(server.call("GET", &target, &[], b"").await.text(), "{}");
}
