//! mounts and pulls beside deletes. R-5: what a delete takes along. R-6: what stays deleted.

use std::sync::atomic::{AtomicBool, Ordering};

use super::linear::Model;
use super::linearizable::{Asker, Contents};
use super::repository::{Answer, Op, Repository, State};
use super::shuffled::Random;
use super::{result, scaled};
use crate::support::{Image, Server, at_once, random_bytes, sha256};

#[test]
fn mount_beside_a_delete_is_readable_or_refused() {
    let server = Server::start();
    let clients = [server.client(), server.client()];
    let rounds = scaled(10);
    let mut mounted = 0;
    for round in 0..rounds {
        let bytes = random_bytes([500, 70_000][round % 2]);
        let digest = clients[0].push_blob("source", &bytes);
        let to = format!("to{}", round % 7);
        let statuses = at_once(2, |number| {
            if number == 0 {
                let path = format!("/v2/source/blobs/{digest}");
                return clients[0].delete(&path).expect(202).status;
            }
            let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from=source");
            let answer = clients[1].request("POST", &path).send();
            if answer.status == 201 {
                assert!(clients[1].get(&answer.location()).expect(200).body == bytes);
            }
            answer.status
        });
        assert!([201, 202].contains(&statuses[1]), "{statuses:?}");
        mounted += usize::from(statuses[1] == 201);
        let after = clients[0].blob(&to, &digest);
        assert_eq!(after.status, if statuses[1] == 201 { 200 } else { 404 });
    }
    result("R-4-mount", &format!("rounds={rounds} mounted={mounted}"));
}

#[test]
fn pull_that_began_before_a_delete_ends_whole() {
    let server = Server::start();
    let client = server.client();
    let rounds = scaled(10);
    for _ in 0..rounds {
        let bytes = random_bytes(3_000_000);
        let digest = client.push_blob("app", &bytes);
        let mut raw = server.raw();
        raw.send_head(&format!("GET /v2/app/blobs/{digest}"), &[]);
        raw.await_answer();
        let _ = client.delete(&format!("/v2/app/blobs/{digest}")).expect(202);
        assert!(raw.response().body == bytes);
        let _ = client.blob("app", &digest).expect(404);
    }
    result("R-4-pull", &format!("rounds={rounds}"));
}

#[test]
fn each_request_changes_exactly_what_it_names() {
    let server = Server::start();
    let client = server.client();
    let contents = Contents::new();
    let seed = u64::from_ne_bytes(random_bytes(8).try_into().unwrap());
    let mut random = Random(seed);
    let requests = scaled(200);
    let asker = Asker { client: &client, contents: &contents, repo: "app" };
    let mut state = State::default();
    for number in 0..requests {
        let op = Op::random(&mut random);
        if matches!(op, Op::MountBlob { .. }) {
            continue;
        }
        let event = (op, asker.ask(op, &mut random));
        let after = Repository.step(&state, &event);
        assert_eq!(after.len(), 1, "seed {seed}, request {number}: {event:?} at {state:?}");
        state = after[0];
        if matches!(op, Op::DeleteTag { .. } | Op::DeleteManifest { .. }) {
            assert_same(&asker, state, &mut random);
        }
    }
    assert_same(&asker, state, &mut random);
    result("R-5", &format!("requests={requests}"));
}

/// Everything that can be asked is as the model has it.
fn assert_same(asker: &Asker<'_>, state: State, random: &mut Random) {
    let tags = (0..super::repository::TAGS).map(|tag| Op::GetTag { tag });
    let manifests =
        (0..super::repository::DOCUMENTS.len() as u8).map(|manifest| Op::GetManifest { manifest });
    for op in tags.chain(manifests).chain([Op::ListTags, Op::ListReferrers]) {
        assert_eq!(asker.ask(op, random), Some(state.run(op).0), "{op:?} at {state:?}");
    }
}

#[test]
fn deleted_here_is_not_readable_through_another_repository() {
    let server = Server::start();
    let clients: Vec<_> = (0..4).map(|_| server.client()).collect();
    let rounds = scaled(10);
    for round in 0..rounds {
        let image = Image::random(&[[200, 70_000][round % 2]]);
        image.push(&clients[0], "here", "v1");
        image.push(&clients[0], "there", "v1");
        let (layer, stop) = (sha256(&image.layers[0]), AtomicBool::new(false));
        at_once(4, |number| {
            let client = &clients[number];
            if number > 0 {
                while !stop.load(Ordering::Relaxed) {
                    assert!(client.blob("there", &layer).expect(200).body == image.layers[0]);
                    let _ = client.manifest("there", &image.digest()).expect(200);
                }
                return;
            }
            let manifest = format!("/v2/here/manifests/{}", image.digest());
            let _ = client.delete(&manifest).expect(202);
            let _ = client.delete(&format!("/v2/here/blobs/{layer}")).expect(202);
            for _ in 0..10 {
                let _ = client.blob("here", &layer).expect(404);
                let _ = client.head(&format!("/v2/here/blobs/{layer}")).expect(404);
                let _ = client.manifest("here", &image.digest()).expect(404);
                let _ = client.manifest("here", "v1").expect(404);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let _ = clients[0].delete(&format!("/v2/there/manifests/{}", image.digest())).expect(202);
    }
    result("R-6", &format!("rounds={rounds}"));
}

#[test]
fn answers_of_the_model_are_those_of_the_wire() {
    // The table that the checks above rest on, once by hand.
    let state = State::default();
    assert_eq!(state.run(Op::PutTag { tag: 0, manifest: 0 }).0, Answer::Incomplete);
    let (_, state) = state.run(Op::PutBlob { blob: 0 });
    let (_, state) = state.run(Op::PutBlob { blob: 1 });
    let (done, state) = state.run(Op::PutTag { tag: 0, manifest: 0 });
    assert_eq!(done, Answer::Done);
    assert_eq!(state.run(Op::DeleteBlob { blob: 0 }).0, Answer::Needed);
    let (_, state) = state.run(Op::DeleteManifest { manifest: 0 });
    assert_eq!(state.run(Op::GetTag { tag: 0 }).0, Answer::Absent);
    assert_eq!(state.run(Op::DeleteBlob { blob: 0 }).0, Answer::Done);
}
