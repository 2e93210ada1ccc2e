//! Tag lists: order, pages, Links.

use crate::support::{Client, Image, OCI_MANIFEST, Options, Server, at_once};

/// One manifest under all these tags.
fn tag_all(client: &Client, repo: &str, tags: &[String]) {
    let image = Image::random(&[]);
    image.push_blobs(client, repo);
    let tens: Vec<_> = tags.chunks(10).collect();
    at_once(8, |worker| {
        for ten in tens.iter().skip(worker).step_by(8) {
            let query: Vec<_> = ten.iter().map(|tag| format!("tag={tag}")).collect();
            let reference = format!("{}?{}", image.digest(), query.join("&"));
            let put = client.put_manifest(repo, &reference, OCI_MANIFEST, &image.manifest);
            let _ = put.expect(201);
        }
    });
}

#[test]
fn ten_thousand_tags_are_walked_in_order_by_links() {
    let server = Server::start();
    let client = server.client();
    let mut tags: Vec<_> = (0..10_000_u32)
        .map(|n| {
            format!("{}{}", ["v", "V", "_", "0"][n as usize % 4], n.wrapping_mul(2_654_435_761))
        })
        .collect();
    tag_all(&client, "app", &tags);
    tags.sort_unstable();
    for page in [777, 1000] {
        let pages = client.walk(&format!("/v2/app/tags/list?n={page}"), "tags");
        assert!(pages.iter().rev().skip(1).all(|it| it.len() == page));
        assert!(pages.concat() == tags, "pages of {page}");
    }
    assert!(client.tags("app") == tags);
}

#[test]
fn page_begins_after_last_whether_it_exists_or_not() {
    let server = Server::start();
    let client = server.client();
    tag_all(&client, "app", &["A", "a", "b", "c.1", "c-1", "d"].map(str::to_owned));
    let list = |query: &str| {
        let answer = client.get(&format!("/v2/app/tags/list?{query}")).expect(200);
        crate::support::client::strings(&answer.json()["tags"])
    };
    assert_eq!(list(""), ["A", "a", "b", "c-1", "c.1", "d"]);
    assert_eq!(list("last=a"), ["b", "c-1", "c.1", "d"]);
    assert_eq!(list("last=aa&n=2"), ["b", "c-1"]);
    assert_eq!(list("last=c-1&n=2"), ["c.1", "d"]);
    assert_eq!(list("last=zzz"), Vec::<String>::new());
    assert_eq!(list("n=2&last="), ["A", "a"]);
    assert_eq!(list("last=not%20a%20tag"), Vec::<String>::new());
    assert_eq!(list("last=%20"), ["A", "a", "b", "c-1", "c.1", "d"]);
}

#[test]
fn link_is_there_exactly_while_there_is_more() {
    let server = Server::start();
    let client = server.client();
    tag_all(&client, "app", &["a", "b", "c"].map(str::to_owned));
    let link = |n: u32| client.get(&format!("/v2/app/tags/list?n={n}")).expect(200).next_link();
    assert_eq!(link(3), None);
    assert_eq!(link(4), None);
    let next = link(2).unwrap();
    assert!(next.starts_with("/v2/app/tags/list?"), "{next}");
    let answer = client.get(&next).expect(200);
    assert_eq!(answer.json()["tags"], serde_json::json!(["c"]));
    assert_eq!(answer.next_link(), None);
}

#[test]
fn page_of_nothing_is_empty_without_a_link() {
    let server = Server::start();
    let client = server.client();
    tag_all(&client, "app", &["a".to_owned()]);
    let answer = client.get("/v2/app/tags/list?n=0").expect(200);
    assert_eq!(answer.body.trim_ascii(), br#"{"name":"app","tags":[]}"#);
    assert_eq!(answer.next_link(), None);
}

#[test]
fn wrong_page_sizes_are_400() {
    let server = Server::start();
    let client = server.client();
    tag_all(&client, "app", &["a".to_owned()]);
    for n in ["-1", "1.5", "%00", "ten", "0x10"] {
        let answer = client.get(&format!("/v2/app/tags/list?n={n}"));
        let _ = answer.expect(400);
    }
}

#[test]
fn too_large_a_page_is_cut_to_the_setting() {
    let server = Server::with(Options::default().env("REGISTRY_TAGS_MAXTAGS", "3"));
    let client = server.client();
    let tags: Vec<_> = (0..7).map(|n| format!("v{n}")).collect();
    tag_all(&client, "app", &tags);
    let pages = client.walk("/v2/app/tags/list?n=1000000", "tags");
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(pages.concat(), tags);
}

#[test]
fn repository_without_tags_has_an_empty_list() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[]);
    image.push(&client, "app", "v1");
    let _ = client.delete("/v2/app/manifests/v1").expect(202);
    let answer = client.get("/v2/app/tags/list").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.body.trim_ascii(), br#"{"name":"app","tags":[]}"#);
}

#[test]
fn unknown_repository_is_404() {
    let server = Server::start();
    let client = server.client();
    client.push_blob("only/blobs", b"x");
    for repo in ["never/seen", "only/blobs"] {
        let answer = client.get(&format!("/v2/{repo}/tags/list"));
        let _ = answer.expect_error(404, "NAME_UNKNOWN");
    }
}
