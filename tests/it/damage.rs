//! Damage in blob files (D-16): one pass of the scrub finds all of it, no wrong content is ever
//! delivered whole with verify-on-read, and the next push heals.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use kelson::app::Store;
use kelson::meta::redb::Options as DatabaseOptions;
use kelson::ops::clock::SystemClock;
use kelson::ops::random::OsRandom;
use kelson::registry::{Options as RegistryOptions, Registry};
use tokio_util::sync::CancellationToken;

use crate::fsck::blob_path;
use crate::support::{Client, Options, Server, eventually, random_bytes, sha256};

const REPO: &str = "damage/app";
const PAGE_SIZE_BYTES: usize = 4096;

/// `KELSON_IT_BLOBS` sets how many contents are damaged.
fn count() -> usize {
    std::env::var("KELSON_IT_BLOBS").map_or(200, |text| text.parse().unwrap())
}

/// Damages a file in one of four ways; what was done.
fn damage(path: &Path, number: usize) -> &'static str {
    let mut bytes = fs::read(path).unwrap();
    let at = usize::from(random_bytes(1)[0]) * 257 % bytes.len();
    match number % 4 {
        0 => {
            bytes[at] ^= 1 << (number / 4 % 8);
            fs::write(path, bytes).unwrap();
            "a bit flipped"
        }
        1 => {
            let page = at / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
            let end = (page + PAGE_SIZE_BYTES).min(bytes.len());
            bytes[page..end].fill(0);
            fs::write(path, bytes).unwrap();
            "a page zeroed"
        }
        2 => {
            bytes.truncate(at);
            fs::write(path, bytes).unwrap();
            "cut short"
        }
        _ => {
            fs::remove_file(path).unwrap();
            "removed"
        }
    }
}

/// Contents with files of their own: some beyond what is stored inline first, most below.
fn contents() -> Vec<Vec<u8>> {
    (0..count()).map(|n| random_bytes(if n % 8 < 4 { 2000 + n } else { 66_000 + n })).collect()
}

/// Puts every small content into its file: a stop does.
fn spilled(options: Options, contents: &[Vec<u8>]) -> Server {
    let mut server = Server::with(options);
    let client = server.client();
    for content in contents {
        client.push_blob(REPO, content);
    }
    server.restart();
    server
}

/// One pass of the scrub over a store that nobody serves: contents compared, damage found.
fn scrub(root: &Path) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(root, DatabaseOptions::default()).await.unwrap();
        let (clock, random) = (Arc::new(SystemClock::start()), Arc::new(OsRandom));
        let (meta, options) = (Arc::clone(&store.meta), RegistryOptions::default());
        let registry = Registry::open(meta, store.blobs, clock, random, options).await.unwrap();
        let record = registry.scrub_once(None, CancellationToken::new()).await.unwrap();
        store.meta.close().await.unwrap();
        (record.totals.contents, record.totals.damaged)
    })
}

/// Pushes what a client finds missing, in one request or in two.
fn heal(client: &Client, contents: &[Vec<u8>]) -> usize {
    let mut healed = 0;
    for (number, content) in contents.iter().enumerate() {
        let digest = sha256(content);
        if client.head(&format!("/v2/{REPO}/blobs/{digest}")).status == 200 {
            continue;
        }
        healed += 1;
        if number % 2 == 0 {
            client.push_blob(REPO, content);
        } else {
            let location = client.begin_upload(REPO);
            let (first, rest) = content.split_at(content.len() / 2);
            let location = client.patch(&location, None, first).expect(202).location();
            let _ = client.finish(&location, &digest, rest).expect(201);
        }
    }
    for content in contents {
        assert!(client.blob(REPO, &sha256(content)).expect(200).body == *content);
    }
    healed
}

#[test]
fn one_pass_of_the_scrub_finds_all_damage_and_a_push_heals_it() {
    let contents = contents();
    let mut server = spilled(Options::default(), &contents);
    server.stop();
    for (number, content) in contents.iter().enumerate() {
        damage(&blob_path(&server.root(), &sha256(content)), number);
    }
    let expected = contents.len() as u64;
    assert_eq!(scrub(&server.root()), (expected, expected), "all of it");
    assert_eq!(scrub(&server.root()), (expected, 0), "and it is contained");
    server.start_again();
    let client = server.client();
    for content in &contents {
        let _ = client.blob(REPO, &sha256(content)).expect_error(404, "BLOB_UNKNOWN");
    }
    assert_eq!(heal(&client, &contents), contents.len());
    server.stop();
    assert_eq!(scrub(&server.root()), (expected, 0), "sound again");
    server.start_again();
    println!("RESULT D-16-scrub damages={expected} found={expected} healed={expected}");
}

#[test]
fn verify_on_read_never_delivers_a_wrong_content_as_whole() {
    let contents = contents();
    let options = Options::default().env("REGISTRY_KELSON_STORAGE_VERIFYONREAD", "true");
    let server = spilled(options, &contents);
    let client = server.client();
    let (mut cut, mut refused) = (0, 0);
    for (number, content) in contents.iter().enumerate() {
        let digest = sha256(content);
        let what = damage(&blob_path(&server.root(), &digest), number);
        let path = format!("/v2/{REPO}/blobs/{digest}");
        match client.request("GET", &path).try_send() {
            Err(_) => cut += 1,
            Ok(answer) => {
                assert_eq!(answer.status, 404, "{what}: delivered as whole");
                refused += 1;
            }
        }
        eventually("it is contained", || (client.head(&path).status == 404).then_some(()));
    }
    assert!(cut > 0 && refused > 0, "{cut} {refused}");
    assert_eq!(heal(&client, &contents), contents.len());
    let damages = contents.len();
    println!("RESULT D-16-read damages={damages} cut={cut} refused={refused} delivered_wrong=0");
}
