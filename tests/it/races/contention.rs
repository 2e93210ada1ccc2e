//! many clients, one digest or one session. R-7: many clients, one tag.

use super::{result, scaled};
use crate::support::{Client, Image, OCI_MANIFEST, Server, at_once, random_bytes, sha256};

const CLIENTS: usize = 64;

#[test]
fn sixty_four_uploads_of_one_digest_all_succeed() {
    let server = Server::start();
    let rounds = scaled(10);
    let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    for round in 0..rounds {
        let bytes = random_bytes([1000, 100_000][round % 2]);
        let digest = sha256(&bytes);
        at_once(CLIENTS, |number| {
            let repo = format!("same/{}", number % 4);
            let client = &clients[number];
            assert_eq!(client.push_blob(&repo, &bytes), digest);
            let _ = client.head(&format!("/v2/{repo}/blobs/{digest}")).expect(200);
        });
        for repo in 0..4 {
            let blob = clients[0].blob(&format!("same/{repo}"), &digest).expect(200);
            assert!(blob.body == bytes);
        }
    }
    result("R-3-digest", &format!("rounds={rounds} clients={CLIENTS}"));
}

#[test]
fn of_sixty_four_appends_at_one_offset_at_most_one_wins() {
    const SIZE_BYTES: usize = 1000;
    let server = Server::start();
    let client = server.client();
    let rounds = scaled(10);
    let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    let mut won = 0;
    for _ in 0..rounds {
        let location = client.begin_upload("app");
        let content = |number: usize| vec![number as u8; SIZE_BYTES];
        let statuses = at_once(CLIENTS, |number| {
            let range = format!("0-{}", SIZE_BYTES - 1);
            let answer = clients[number].patch(&location, Some(&range), &content(number));
            assert!([202, 409, 416].contains(&answer.status), "{answer:?}");
            answer.status
        });
        let winners: Vec<_> = (0..CLIENTS).filter(|number| statuses[*number] == 202).collect();
        assert!(winners.len() <= 1, "{winners:?} were all told that their bytes are there");
        match winners[..] {
            [winner] => {
                won += 1;
                assert_eq!(client.get(&location).expect(204).offset(), SIZE_BYTES as u64);
                let digest = sha256(&content(winner));
                let put = client.finish(&location, &digest, b"").expect(201);
                assert!(client.get(&put.location()).expect(200).body == content(winner));
            }
            // Each was ended by the next; whatever is there is not what this digest says.
            _ => {
                let wrong = sha256(&random_bytes(10));
                let _ = client.finish(&location, &wrong, b"").expect_error(400, "DIGEST_INVALID");
            }
        }
    }
    result("R-3-session", &format!("rounds={rounds} clients={CLIENTS} won={won}"));
}

/// An image without layers of its own; one for each client and generation.
fn push_contestant(client: &Client, image: &Image, number: usize, generation: usize) -> Vec<u8> {
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["annotations"] = serde_json::json!({ "who": format!("{generation}/{number}") });
    let bytes = manifest.to_string().into_bytes();
    let _ = client.put_manifest("app", &sha256(&bytes), OCI_MANIFEST, &bytes).expect(201);
    bytes
}

#[test]
fn of_thirty_two_conditional_pushes_exactly_one_wins_each_generation() {
    const CONTESTANTS: usize = 32;
    let server = Server::start();
    let client = server.client();
    let generations = scaled(4);
    let image = Image::random(&[]);
    image.push_blobs(&client, "app");
    let clients: Vec<_> = (0..CONTESTANTS).map(|_| server.client()).collect();
    let mut condition = ("If-None-Match", "*".to_owned());
    for generation in 0..generations {
        let contestants = at_once(CONTESTANTS, |number| {
            push_contestant(&clients[number], &image, number, generation)
        });
        let statuses = at_once(CONTESTANTS, |number| {
            let request = clients[number].request("PUT", "/v2/app/manifests/v1");
            let request = request.header("Content-Type", OCI_MANIFEST);
            let request = request.header(condition.0, &condition.1);
            request.body(&contestants[number]).send().status
        });
        let winners: Vec<_> = (0..CONTESTANTS).filter(|it| statuses[*it] == 201).collect();
        assert_eq!(winners.len(), 1, "generation {generation}: {statuses:?}");
        assert!(statuses.iter().all(|status| [201, 412].contains(status)), "{statuses:?}");
        let seen = client.manifest("app", "v1").expect(200);
        assert!(seen.body == contestants[winners[0]]);
        condition = ("If-Match", format!("\"{}\"", seen.digest()));
    }
    result("R-7", &format!("generations={generations} clients={CONTESTANTS}"));
}
