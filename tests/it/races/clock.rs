//! the collector goes by time that the store was open, whatever the wall clock says.
//!
//! `KELSON_RACES_FAKETIME` names libfaketime, which `.ci/races` installs: then the wall clock is
//! also ten years ahead, ten years behind, and stands still.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use super::result;
use crate::support::{Image, Options, Server, eventually, sha256};

/// What libfaketime is told; empty: the machine's clock.
const CLOCKS: [&str; 4] = ["", "+10y", "-10y", "2026-11-26 12:00:00"];

fn library() -> Option<String> {
    std::env::var("KELSON_RACES_FAKETIME").ok()
}

fn clocks() -> &'static [&'static str] {
    if library().is_some() { &CLOCKS } else { &CLOCKS[..1] }
}

/// A collector with a lease of a second. The wall clock of the server goes by the file.
fn options(grace: &str, clock_file: &std::path::Path) -> Options {
    let options = Options::default()
        .env("REGISTRY_KELSON_GC_UNSAFE", "true")
        .env("REGISTRY_KELSON_GC_GRACE", grace)
        .env("REGISTRY_KELSON_GC_LEASE", "1s");
    let Some(library) = library() else { return options };
    options
        .env("LD_PRELOAD", &library)
        .env("FAKETIME_TIMESTAMP_FILE", clock_file.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

fn set_clock(file: &std::path::Path, clock: &str) {
    std::fs::write(file, if clock.is_empty() { "+0" } else { clock }).unwrap();
}

fn file_of(server: &Server, bytes: &[u8]) -> PathBuf {
    let digest = sha256(bytes);
    let hex = digest.split_once(':').unwrap().1;
    let blobs = server.root().join("docker/registry/v2/blobs/sha256");
    blobs.join(&hex[..2]).join(hex).join("data")
}

/// Pushes two images, and deletes one of them: its layer waits for the collector.
fn kept_and_deleted(server: &Server) -> (Image, Image) {
    let client = server.client();
    let (kept, deleted) = (Image::random(&[70_000]), Image::random(&[70_000]));
    kept.push(&client, "app", "kept");
    deleted.push(&client, "app", "deleted");
    let _ = client.delete(&format!("/v2/app/manifests/{}", deleted.digest())).expect(202);
    (kept, deleted)
}

#[test]
fn no_wall_clock_makes_anything_old() {
    for clock in clocks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        set_clock(&file, "");
        let mut server = Server::with(options("1h", &file));
        let (kept, deleted) = kept_and_deleted(&server);
        set_clock(&file, clock);
        // Once as it jumps, and once from the start on: each time the collector looks.
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(2500));
            assert!(file_of(&server, &deleted.layers[0]).exists(), "clock {clock:?}");
            kept.assert_pullable(&server.client(), "app", "kept");
            server.restart();
        }
    }
    result("R-8-nothing", &format!("clocks={}", clocks().len()));
}

#[test]
fn no_wall_clock_keeps_garbage_for_ever() {
    for clock in clocks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        set_clock(&file, clock);
        let server = Server::with(options("0s", &file));
        let (kept, deleted) = kept_and_deleted(&server);
        let layer = file_of(&server, &deleted.layers[0]);
        eventually("the layer is collected", || (!layer.exists()).then_some(()));
        assert!(file_of(&server, &kept.layers[0]).exists());
        kept.assert_pullable(&server.client(), "app", "kept");
    }
    result("R-8-garbage", &format!("clocks={}", clocks().len()));
}

#[test]
fn process_that_was_stopped_for_a_while_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clock");
    set_clock(&file, "");
    let server = Server::with(options("0s", &file));
    let client = server.client();
    let (kept, deleted) = kept_and_deleted(&server);
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(3));
    server.signal(Signal::CONT);
    // A client that asks now may rely on the answer for as long as ever, or uploads again.
    let layer = &deleted.layers[0];
    if client.head(&format!("/v2/app/blobs/{}", sha256(layer))).status == 404 {
        client.push_blob("app", layer);
    }
    let config = &deleted.config;
    if client.head(&format!("/v2/app/blobs/{}", sha256(config))).status == 404 {
        client.push_blob("app", config);
    }
    let put = client.put_manifest("app", "again", deleted.media_type, &deleted.manifest);
    let _ = put.expect(201);
    deleted.assert_pullable(&client, "app", "again");
    kept.assert_pullable(&client, "app", "kept");
    result("R-8-stopped", "seconds=3");
}
