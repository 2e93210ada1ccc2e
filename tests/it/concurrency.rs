//! Many clients at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{
    Image, OCI_MANIFEST, Server, at_once, eventually, random_bytes, sha256, sound,
};

#[test]
fn fifty_pushes_of_one_blob_all_succeed() {
    let mut server = Server::start();
    let client = server.client();
    for size_bytes in [1000, 300_000] {
        let bytes = random_bytes(size_bytes);
        let digest = sha256(&bytes);
        let repo = |number: usize| format!("team/app{}", number % 5);
        at_once(50, |number| {
            let client = server.client();
            let location = client.begin_upload(&repo(number));
            let half = bytes.len() / 2;
            let location = client.patch(&location, None, &bytes[..half]).expect(202).location();
            let put = client.finish(&location, &digest, &bytes[half..]).expect(201);
            assert!(client.get(&put.location()).expect(200).body == bytes);
        });
        for number in 0..5 {
            assert!(client.blob(&repo(number), &digest).expect(200).body == bytes);
        }
    }
    server.stop();
    assert_eq!(sound::blob_files(&server.root()).len(), 2);
    assert!(sound::staged(&server.root()).is_empty());
}

#[test]
fn newer_writer_ends_the_older_and_keeps_its_prefix() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let mut older = server.raw();
    older.send_head(&format!("PATCH {location}"), &["Content-Length: 1000"]);
    older.send([b'a'; 100]);
    std::thread::sleep(Duration::from_millis(300));
    // No Content-Range: it goes wherever the older one got to.
    let answer = client.patch(&location, None, &[b'b'; 50]).expect(202);
    let kept = usize::try_from(answer.offset()).unwrap() - 50;
    assert!(kept <= 100, "{kept}");
    // What the older one still sends is never appended.
    older.try_send([b'a'; 900]);
    if let Some(refusal) = older.try_response() {
        assert!((400..500).contains(&refusal.status()), "{refusal:?}");
    }
    assert_eq!(client.get(&location).expect(204).offset(), kept as u64 + 50);
    let content = [vec![b'a'; kept], vec![b'b'; 50]].concat();
    let put = client.finish(&answer.location(), &sha256(&content), b"").expect(201);
    assert_eq!(client.get(&put.location()).expect(200).body, content);
}

#[test]
fn dead_connection_does_not_block_its_upload() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(500_000);
    let location = client.begin_upload("app");
    // It stays open and silent, as behind a router that lost it.
    let mut dead = server.raw();
    dead.send_head(&format!("PATCH {location}"), &["Content-Length: 500000"]);
    dead.send(&bytes[..200_000]);
    let offset = eventually("a chunk is taken where the dead one stopped", || {
        let at = usize::try_from(client.get(&location).expect(204).offset()).unwrap();
        let range = format!("{at}-{}", bytes.len() - 1);
        let answer = client.patch(&location, Some(&range), &bytes[at..]);
        (answer.status == 202).then_some(at)
    });
    assert!(offset <= 200_000);
    let _ = client.finish(&location, &sha256(&bytes), b"").expect(201);
    assert!(client.blob("app", &sha256(&bytes)).expect(200).body == bytes);
}

#[test]
fn two_writers_never_interleave() {
    const SIZE_BYTES: usize = 400_000;
    let server = Server::start();
    let client = server.client();
    for _ in 0..10 {
        let location = client.begin_upload("app");
        // The older of the two may be answered, or lose its connection.
        let offsets = at_once(2, |number| {
            let client = server.client();
            let content = vec![b"01"[number]; SIZE_BYTES];
            let answer = client.request("PATCH", &location).streamed(&content).try_send().ok()?;
            (answer.status == 202).then(|| answer.offset())
        });
        let offset = client.get(&location).expect(204).offset();
        // Whoever was told this offset came last, and all its bytes are at the end.
        let last = offsets.iter().position(|it| *it == Some(offset)).expect("one of them is last");
        let prefix = usize::try_from(offset).unwrap() - SIZE_BYTES;
        let first = vec![b"10"[last]; prefix];
        let content = [first, vec![b"01"[last]; SIZE_BYTES]].concat();
        let put = client.finish(&location, &sha256(&content), b"").expect(201);
        assert!(client.get(&put.location()).expect(200).body == content);
    }
}

#[test]
fn tag_ends_where_one_of_its_writers_put_it() {
    let server = Server::start();
    let client = server.client();
    let images: Vec<_> = (0..8).map(|_| Image::random(&[10])).collect();
    images.iter().for_each(|image| image.push_blobs(&client, "app"));
    at_once(images.len(), |number| {
        for _ in 0..20 {
            let manifest = &images[number].manifest;
            let _ = client.put_manifest("app", "v1", OCI_MANIFEST, manifest).expect(201);
            let seen = client.manifest("app", "v1").expect(200);
            assert!(images.iter().any(|image| image.manifest == seen.body));
            assert_eq!(seen.digest(), sha256(&seen.body));
        }
    });
    let last = client.manifest("app", "v1").expect(200);
    let image = images.iter().find(|image| image.manifest == last.body).unwrap();
    image.assert_pullable(&client, "app", "v1");
    assert_eq!(client.tags("app"), ["v1"]);
}

#[test]
fn delete_beside_push_leaves_all_or_nothing() {
    let server = Server::start();
    let client = server.client();
    let image = Image::random(&[1000, 100_000]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = server.client();
            while !stop.load(Ordering::Relaxed) {
                let path = format!("/v2/app/manifests/{}", image.digest());
                assert!([202, 404].contains(&client.delete(&path).status));
                for blob in image.blobs() {
                    let path = format!("/v2/app/blobs/{}", sha256(blob));
                    assert!([202, 404, 405].contains(&client.delete(&path).status));
                }
            }
        });
        for _ in 0..50 {
            // The deleter may take a blob away before the manifest comes.
            image.push_blobs(&client, "app");
            let put = client.put_manifest("app", "v1", OCI_MANIFEST, &image.manifest);
            assert!(put.status == 201 || put.status == 400, "{put:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    image.push(&client, "app", "v1");
    image.assert_pullable(&client, "app", "v1");
}

#[test]
fn mounted_blob_is_whole_whatever_happens_to_its_source() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(100_000);
    let digest = sha256(&bytes);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = server.client();
            while !stop.load(Ordering::Relaxed) {
                client.push_blob("source", &bytes);
                let _ = client.delete(&format!("/v2/source/blobs/{digest}")).expect(202);
            }
        });
        for number in 0..60 {
            let path = format!("/v2/to{number}/blobs/uploads/?mount={digest}&from=source");
            let answer = client.request("POST", &path).send();
            match answer.status {
                201 => assert!(client.get(&answer.location()).expect(200).body == bytes),
                status => assert_eq!(status, 202),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn readers_of_a_deleted_blob_finish() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(30_000_000);
    let digest = client.push_blob("app", &bytes);
    let mut raw = server.raw();
    raw.send_head(&format!("GET /v2/app/blobs/{digest}"), &[]);
    std::thread::sleep(Duration::from_millis(50));
    let _ = client.delete(&format!("/v2/app/blobs/{digest}")).expect(202);
    assert!(raw.response().body == bytes);
}

#[test]
fn slow_reader_costs_others_nothing() {
    let server = Server::start();
    let client = server.client();
    let bytes = random_bytes(30_000_000);
    let digest = client.push_blob("app", &bytes);
    let mut slow: Vec<_> = (0..8).map(|_| server.raw()).collect();
    for raw in &mut slow {
        raw.send_head(&format!("GET /v2/app/blobs/{digest}"), &[]);
    }
    for _ in 0..20 {
        Image::random(&[1000]).push(&client, "app", "v1");
    }
    assert!(slow.pop().unwrap().response().body == bytes);
}
