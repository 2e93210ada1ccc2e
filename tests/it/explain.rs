//! `kelson explain`.

use serde_json::{Value, json};

use crate::support::image::{index, random_bytes, sha256};
use crate::support::{Image, OCI_INDEX, Server};

fn explain(server: &Server, digest: &str) -> (String, Value) {
    let run = |arguments: &[&str]| {
        let output = server.command().args(["explain", digest]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let json = serde_json::from_str(&run(&["--json"])).unwrap();
    (run(&[]), json)
}

#[test]
fn whoever_holds_a_content_is_named() {
    let mut server = Server::start();
    let client = server.client();
    let image = Image::random(&[100, 70_000]);
    image.push(&client, "a", "v1");
    image.push(&client, "b", "latest");
    let list = index(&[image.descriptor()]);
    let _ = client.put_manifest("a", "all", OCI_INDEX, &list).expect(201);
    let signature = Image::attached(&image.descriptor(), "application/vnd.example", json!({}));
    signature.push(&client, "a", &signature.digest());
    let check = |server: &Server| {
        let layer = sha256(&image.layers[1]);
        let (text, found) = explain(server, &layer);
        assert_eq!((&found["repositories"], &found["size_bytes"]), (&json!(2), &json!(70_000)));
        let parent = format!("held as layer of {}", image.digest());
        assert_eq!(text.matches(&parent).count(), 2, "{text}");
        assert!(text.contains("live, in its file"), "{text}");
        assert_eq!(found["holders"][0]["blob"]["standing"], json!("held"));
        let (text, found) = explain(server, &image.digest());
        assert!(text.contains("held by tag v1") && text.contains("held by tag latest"), "{text}");
        assert!(text.contains(&format!("held as child of {}", sha256(&list))), "{text}");
        assert_eq!(found["holders"][0]["manifest"]["standing"], json!("held"));
        let (text, _) = explain(server, &signature.digest());
        assert!(text.contains(&format!("held by its subject {}", image.digest())), "{text}");
    };
    check(&server);
    server.stop();
    check(&server);
}

#[test]
fn what_nothing_holds_says_when_it_may_go() {
    let server = Server::start();
    let client = server.client();
    let digest = client.push_blob("a", &random_bytes(100_000));
    let (text, found) = explain(&server, &digest);
    assert!(text.contains("no manifest of the repository refers to it; it may go in"), "{text}");
    let blob = &found["holders"][0]["blob"];
    assert_eq!(blob["standing"], json!("waiting"));
    let seconds = blob["may_go_in_seconds"].as_u64().unwrap();
    assert!((24 * 3600 - 60..=24 * 3600 + 1).contains(&seconds), "{found}");
    assert_eq!(found["holders"][0]["leased_seconds"], Value::Null);
    let _ = client.head(&format!("/v2/a/blobs/{digest}")).expect(200);
    let (text, found) = explain(&server, &digest);
    assert!(text.contains("leased: a client was told that it is there"), "{text}");
    let leased = found["holders"][0]["leased_seconds"].as_u64().unwrap();
    assert!((6 * 3600 - 60..=6 * 3600).contains(&leased), "{found}");
    let _ = client.delete(&format!("/v2/a/blobs/{digest}")).expect(202);
    let (text, found) = explain(&server, &digest);
    assert!(text.contains("no repository has it: it may go in"), "{text}");
    assert_eq!(found["holders"], json!([]));
}

#[test]
fn an_unknown_content_is_an_error() {
    let server = Server::start();
    let explain = |digest: &str| server.command().args(["explain", digest]).output().unwrap();
    let unknown = explain(&sha256(b"nowhere"));
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("is not stored"));
    assert_eq!(explain("latest").status.code(), Some(2));
}
