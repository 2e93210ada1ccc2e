//! The catalog: repositories with at least one manifest.

use crate::support::client::strings;
use crate::support::{Client, Image, OCI_MANIFEST, Options, Server, at_once};

/// An empty image in each of these repositories.
fn fill(client: &Client, names: &[String]) {
    let image = Image::random(&[]);
    at_once(8, |worker| {
        for name in names.iter().skip(worker).step_by(8) {
            client.push_blob(name, &image.config);
            let put = client.put_manifest(name, "v1", OCI_MANIFEST, &image.manifest);
            let _ = put.expect(201);
        }
    });
}

fn list(client: &Client, query: &str) -> Vec<String> {
    strings(&client.get(&format!("/v2/_catalog{query}")).expect(200).json()["repositories"])
}

#[test]
fn catalog_is_walked_in_order_by_links() {
    let server = Server::start();
    let client = server.client();
    let mut names: Vec<_> = (0..500)
        .map(|n: u32| format!("{}{}", ["a/", "a", "z-", "0."][n as usize % 4], n))
        .collect();
    fill(&client, &names);
    names.sort_unstable();
    for page in [7, 100, 500] {
        let pages = client.walk(&format!("/v2/_catalog?n={page}"), "repositories");
        assert!(pages.iter().rev().skip(1).all(|it| it.len() == page));
        assert_eq!(pages.concat(), names);
    }
    // Without a size, pages have distribution's 100.
    assert_eq!(list(&client, ""), names[..100]);
    assert_eq!(client.walk("/v2/_catalog", "repositories").concat(), names);
}

#[test]
fn page_begins_after_last_whether_it_exists_or_not() {
    let server = Server::start();
    let client = server.client();
    fill(&client, &["a", "a/b", "a-b", "b"].map(str::to_owned));
    assert_eq!(list(&client, ""), ["a", "a-b", "a/b", "b"]);
    assert_eq!(list(&client, "?last=a"), ["a-b", "a/b", "b"]);
    assert_eq!(list(&client, "?last=a%2Fa&n=1"), ["a/b"]);
    assert_eq!(list(&client, "?last=zzz"), Vec::<String>::new());
    assert_eq!(list(&client, "?n=0"), Vec::<String>::new());
    let answer = client.get("/v2/_catalog?n=2").expect(200);
    assert!(answer.next_link().unwrap().starts_with("/v2/_catalog?"));
    assert_eq!(client.get("/v2/_catalog?n=4").expect(200).next_link(), None);
}

#[test]
fn empty_catalog_is_an_empty_list() {
    let server = Server::start();
    let answer = server.client().get("/v2/_catalog").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.body.trim_ascii(), br#"{"repositories":[]}"#);
}

#[test]
fn repository_is_listed_while_it_has_a_manifest() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[10]);
    image.push_blobs(&client, "app");
    client.begin_upload("uploads/only");
    assert_eq!(list(&client, ""), Vec::<String>::new());
    let digest = image.push(&client, "app", "v1");
    assert_eq!(list(&client, ""), ["app"]);
    let _ = client.delete("/v2/app/manifests/v1").expect(202);
    assert_eq!(list(&client, ""), ["app"]);
    let _ = client.delete(&format!("/v2/app/manifests/{digest}")).expect(202);
    assert_eq!(list(&client, ""), Vec::<String>::new());
    image.push(&client, "app", "v1");
    assert_eq!(list(&client, ""), ["app"]);
}

#[test]
fn page_above_the_setting_is_400() {
    let server = Server::with(Options::default().env("REGISTRY_CATALOG_MAXENTRIES", "5"));
    let client = server.client();
    let names: Vec<_> = (0..7).map(|n| format!("r{n}")).collect();
    fill(&client, &names);
    for n in ["6", "1000000000000", "-1", "1.5", "x"] {
        let _ = client.get(&format!("/v2/_catalog?n={n}")).expect(400);
    }
    assert_eq!(list(&client, "?n=5"), names[..5]);
    assert_eq!(client.walk("/v2/_catalog", "repositories").concat(), names);
}
