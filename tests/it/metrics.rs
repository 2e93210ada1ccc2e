//! What monitoring is told, on the debug listener and on the admin socket.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kelson::app::Store;
use kelson::meta::MetaStore;
use kelson::meta::redb::Options as DatabaseOptions;

use crate::fsck::blob_path;
use crate::support::server::refusal;
use crate::support::sound::blob_files;
use crate::support::{Client, Image, Options, Server, eventually, sha256};

const ANNOUNCEMENT: &str = "metrics and health on ";

fn with_debug_listener(enabled: &str) -> Server {
    let options = Options::default()
        .env("REGISTRY_HTTP_DEBUG_ADDR", "127.0.0.1:0")
        .env("REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED", enabled);
    Server::with(options)
}

fn debug_address(server: &Server) -> String {
    let log = eventually("it says where", || {
        let log = server.log();
        log.contains(ANNOUNCEMENT).then_some(log)
    });
    let (_, after) = log.split_once(ANNOUNCEMENT).unwrap();
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ':');
    after.chars().take_while(|c| is_part(*c)).collect()
}

fn debug_client(server: &Server) -> Client {
    Client::new(format!("http://{}", debug_address(server)))
}

fn value(text: &str, metric: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

#[test]
fn damage_is_counted() {
    let server = with_debug_listener("true");
    let (client, debug) = (server.client(), debug_client(&server));
    let image = Image::random(&[100_000]);
    image.push(&client, "app", "latest");
    let answer = debug.get("/metrics").expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(value(&text, "kelson_ready"), Some(1), "{text}");
    assert_eq!(value(&text, "kelson_quarantined_contents_total"), Some(0), "{text}");
    let layer = sha256(&image.layers[0]);
    fs::write(blob_path(&server.root(), &layer), b"short").unwrap();
    let output = server.command().args(["fsck", "--repair"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(debug.get("/metrics").expect(200).body).unwrap();
    assert_eq!(value(&text, "kelson_quarantined_contents_total"), Some(1), "{text}");
    let damaged = "kelson_damaged_contents_total{damage=\"wrong_size\"}";
    assert_eq!(value(&text, damaged), Some(1), "{text}");
    image.push(&client, "app", "latest");
}

/// Makes a store that nobody serves older, as if it had been open.
fn age(root: &Path, seconds: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(root, DatabaseOptions::default()).await.unwrap();
        store.meta.advance_uptime(seconds).await.unwrap();
        store.meta.close().await.unwrap();
    });
}

#[test]
fn what_the_scrub_found_is_told() {
    let mut server = with_debug_listener("true");
    let image = Image::random(&[100_000, 200_000]);
    image.push(&server.client(), "app", "latest");
    let text = server.ask_admin("GET", "/metrics", "");
    assert_eq!(value(&text, "kelson_scrub_passes"), Some(0), "{text}");
    assert_eq!(value(&text, "kelson_scrub_finished_timestamp_seconds"), Some(0), "{text}");
    server.stop();
    let contents = blob_files(&server.root()).len() as u64;
    let [damaged, missing] = [&image.layers[0], &image.layers[1]].map(|layer| sha256(layer));
    fs::write(blob_path(&server.root(), &damaged), [0; 100_000]).unwrap();
    fs::remove_file(blob_path(&server.root(), &missing)).unwrap();
    let orphan = blob_path(&server.root(), &sha256(b"orphan"));
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, b"orphan").unwrap();
    // An hour after it was made a store is scrubbed for the first time.
    age(&server.root(), 3600);
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    server.start_again();
    let text = eventually("a pass is over", || {
        let text = server.ask_admin("GET", "/metrics", "");
        (value(&text, "kelson_scrub_passes")? == 1).then_some(text)
    });
    let expected = [
        ("done_percent", 100),
        ("contents", contents),
        ("damaged", 2),
        ("unreadable", 0),
        ("orphans", 1),
    ];
    for (name, expected) in expected {
        assert_eq!(value(&text, &format!("kelson_scrub_{name}")), Some(expected), "{name}");
    }
    let finished = value(&text, "kelson_scrub_finished_timestamp_seconds").unwrap();
    assert!((began..began + 60).contains(&finished), "{began} {finished}");
    for what in ["wrong_bytes", "missing_file"] {
        let metric = format!("kelson_damaged_contents_total{{damage=\"{what}\"}}");
        assert_eq!(value(&text, &metric), Some(1), "{text}");
    }
    let log = server.log();
    for digest in [&damaged, &missing] {
        let line = log.lines().find(|line| {
            line.contains("a damaged content was found") && line.contains(digest.as_str())
        });
        let line = line.unwrap_or_else(|| panic!("nothing of {digest} in\n{log}"));
        assert!(line.contains("level=error"), "{line}");
    }
    image.push(&server.client(), "app", "latest");
    image.assert_pullable(&server.client(), "app", "latest");
}

#[test]
fn what_the_collector_removed_is_counted() {
    let options = Options::default()
        .env("REGISTRY_STORAGE_DELETE_ENABLED", "true")
        .env("REGISTRY_KELSON_GC_GRACE", "1s")
        .env("REGISTRY_KELSON_GC_LEASE", "1s")
        .env("REGISTRY_KELSON_GC_UNSAFE", "true");
    let server = Server::with(options);
    let client = server.client();
    let image = Image::random(&[100_000]);
    let digest = image.push(&client, "app", "latest");
    let _ = client.delete(&format!("/v2/app/manifests/{digest}")).expect(202);
    let text = eventually("the collector has been there", || {
        let text = server.ask_admin("GET", "/metrics", "");
        (value(&text, "kelson_collected_contents_total")? == 3).then_some(text)
    });
    assert!(value(&text, "kelson_collected_bytes_total").unwrap() > 100_000, "{text}");
    assert_eq!(value(&text, "kelson_collector_failures_total"), Some(0), "{text}");
}

#[test]
fn the_debug_listener_has_nothing_else() {
    let server = with_debug_listener("false");
    let debug = debug_client(&server);
    let _ = debug.get("/metrics").expect(404);
    let _ = debug.get("/v2/").expect(404);
    let _ = debug.request("POST", "/debug/health").send().expect(405);
    assert_eq!(debug.get("/debug/health").expect(200).body, b"{}");
    let _ = server.client().get("/metrics").expect(404);
}

#[test]
fn an_address_that_is_taken_is_named_at_start() {
    let server = with_debug_listener("true");
    let taken = debug_address(&server);
    let other = tempfile::tempdir().unwrap();
    let options = Options::default().env("REGISTRY_HTTP_DEBUG_ADDR", &taken);
    let text = refusal(&options, other.path());
    assert!(text.contains(&taken), "{text}");
}
