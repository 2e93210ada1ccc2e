//! What is still there after a stop, a kill and a restart; and how a stop goes.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Image, Options, Server, eventually, random_bytes, sha256, sha512};

#[test]
fn pushed_images_are_there_after_a_clean_restart() {
    let mut server = Server::start();
    let images: Vec<_> = [0, 100, 65_536, 65_537, 2_000_000].map(|it| Image::random(&[it])).into();
    for (number, image) in images.iter().enumerate() {
        image.push(&server.client(), &format!("team/app{number}"), "v1");
    }
    server.restart();
    for (number, image) in images.iter().enumerate() {
        image.assert_pullable(&server.client(), &format!("team/app{number}"), "v1");
    }
    let names = server.client().walk("/v2/_catalog", "repositories").concat();
    assert_eq!(names.len(), images.len());
}

#[test]
fn acknowledged_push_survives_a_kill_at_once() {
    let mut server = Server::start();
    for round in 0..5 {
        let image = Image::random(&[100, 100_000]);
        image.push(&server.client(), "app", &format!("v{round}"));
        server.kill();
        server.start_again();
        image.assert_pullable(&server.client(), "app", &format!("v{round}"));
    }
    assert_eq!(server.client().tags("app").len(), 5);
}

#[test]
fn deleted_things_stay_deleted_after_a_kill() {
    let mut server = Server::start();
    let client = server.client();
    let (kept, gone) = (Image::random(&[100]), Image::random(&[100_000]));
    kept.push(&client, "app", "kept");
    gone.push(&client, "app", "gone");
    kept.push(&client, "app", "untagged");
    let _ = client.delete("/v2/app/manifests/untagged").expect(202);
    let _ = client.delete(&format!("/v2/app/manifests/{}", gone.digest())).expect(202);
    let layer = format!("/v2/app/blobs/{}", sha256(&gone.layers[0]));
    let _ = client.delete(&layer).expect(202);
    server.kill();
    server.start_again();
    let client = server.client();
    assert_eq!(client.tags("app"), ["kept"]);
    let _ = client.manifest("app", &gone.digest()).expect_error(404, "MANIFEST_UNKNOWN");
    let _ = client.get(&layer).expect_error(404, "BLOB_UNKNOWN");
    kept.assert_pullable(&client, "app", "kept");
}

#[test]
fn upload_goes_on_after_a_restart_with_its_exact_offset() {
    let restarts: [fn(&mut Server); 2] = [Server::restart, |server| {
        server.kill();
        server.start_again();
    }];
    for restart in restarts {
        let mut server = Server::start();
        let bytes = random_bytes(500_000);
        let path = "/v2/app/blobs/uploads/?digest-algorithm=sha512";
        let location = server.client().request("POST", path).send().expect(202).location();
        let mut offset = 0;
        for end in [1, 70_000, 300_000] {
            let client = server.client();
            let range = format!("{offset}-{}", end - 1);
            let _ = client.patch(&location, Some(&range), &bytes[offset..end]).expect(202);
            restart(&mut server);
            let status = server.client().get(&location).expect(204);
            assert_eq!(status.header("range"), Some(format!("0-{}", end - 1).as_str()));
            offset = end;
        }
        let client = server.client();
        let put = client.finish(&location, &sha512(&bytes), &bytes[offset..]).expect(201);
        assert!(client.get(&put.location()).expect(200).body == bytes);
    }
}

#[test]
fn cut_upload_goes_on_after_a_kill_from_at_least_what_was_acknowledged() {
    let mut server = Server::start();
    let bytes = random_bytes(600_000);
    let location = server.client().begin_upload("app");
    let _ = server.client().patch(&location, None, &bytes[..200_000]).expect(202);
    let mut raw = server.raw();
    raw.send_head(&format!("PATCH {location}"), &["Content-Length: 400000"]);
    raw.send(&bytes[200_000..400_000]);
    server.kill();
    server.start_again();
    let client = server.client();
    let offset = usize::try_from(client.get(&location).expect(204).offset()).unwrap();
    assert!((200_000..=400_000).contains(&offset), "{offset}");
    let range = format!("{offset}-{}", bytes.len() - 1);
    let _ = client.patch(&location, Some(&range), &bytes[offset..]).expect(202);
    let _ = client.finish(&location, &sha256(&bytes), b"").expect(201);
    assert!(client.blob("app", &sha256(&bytes)).expect(200).body == bytes);
}

#[test]
fn cancelled_upload_stays_cancelled_after_a_kill() {
    let mut server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let location = client.patch(&location, None, &random_bytes(1000)).expect(202).location();
    let _ = client.delete(&location).expect(204);
    server.kill();
    server.start_again();
    let _ = server.client().get(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn stop_lets_a_running_upload_finish_and_exits_0() {
    let mut server = Server::start();
    let client = server.client();
    let bytes = random_bytes(300_000);
    let location = client.begin_upload("app");
    let digest = sha256(&bytes);
    let mut raw = server.raw();
    let length = format!("Content-Length: {}", bytes.len());
    let url = crate::support::client::with_query(&location, &format!("digest={digest}"));
    raw.send_head(&format!("PUT {url}"), &[&length]);
    raw.send(&bytes[..100_000]);
    std::thread::sleep(Duration::from_millis(200));
    server.terminate();
    let address = server.address();
    eventually("nothing new is accepted", || TcpStream::connect(address).err());
    raw.send(&bytes[100_000..]);
    assert_eq!(raw.response().status(), 201);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    server.start_again();
    assert!(server.client().blob("app", &digest).expect(200).body == bytes);
}

#[test]
fn stop_waits_no_longer_than_the_drain_timeout() {
    let mut server = Server::with(Options::default().env("REGISTRY_HTTP_DRAINTIMEOUT", "500ms"));
    let client = server.client();
    let location = client.begin_upload("app");
    let location = client.patch(&location, None, b"before").expect(202).location();
    let mut raw = server.raw();
    raw.send_head(&format!("PATCH {location}"), &["Content-Length: 1000"]);
    raw.send("never finished");
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    server.start_again();
    let offset = server.client().get(&location).expect(204).offset();
    assert!((6..=20).contains(&offset), "{offset}");
}

#[test]
fn idle_server_stops_at_once_with_open_connections() {
    let mut server = Server::start();
    let mut idle: Vec<_> = (0..10).map(|_| server.raw()).collect();
    idle[0].send_head("GET /v2/", &[]);
    assert_eq!(idle[0].response().status(), 200);
    let start = Instant::now();
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
