//! Damage in `metadata.redb` and `store.json` (D-17): a store is refused or served right, never
//! as an older one, never as an empty one.

use std::fs;
use std::path::{Path, PathBuf};

use kelson::app::Store;
use kelson::meta::redb::Options as DatabaseOptions;
use tempfile::TempDir;

use crate::support::{Image, Server, random_bytes};

/// What stands in every refusal of a damaged or wrong database.
const WAY_OUT: &str = "kelson restore";
const PAGE_SIZE_BYTES: usize = 4096;

/// The two files that are damaged, and what an undamaged store says.
#[derive(Clone)]
struct Base {
    database: Vec<u8>,
    identity: Vec<u8>,
    dump: String,
}

/// Choices that follow from a seed alone.
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn own(root: &Path) -> PathBuf {
    root.join("kelson")
}

/// Copies the files of a store that nobody writes to.
fn copy(root: &Path) -> (Vec<u8>, Vec<u8>) {
    let read = |name: &str| fs::read(own(root).join(name)).unwrap();
    (read("metadata.redb"), read("store.json"))
}

fn place(root: &Path, database: &[u8], identity: &[u8]) {
    fs::create_dir_all(own(root)).unwrap();
    fs::write(own(root).join("metadata.redb"), database).unwrap();
    fs::write(own(root).join("store.json"), identity).unwrap();
}

/// Opens the store as every command does, and says everything that is in it.
pub fn open(root: &Path) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let opened = Store::open(root, DatabaseOptions::default()).await;
        let store = opened.map_err(|error| format!("{error:#}"))?;
        let mut text = Vec::new();
        let dumped = store.meta.dump(&mut text);
        store.meta.close().await.map_err(|error| format!("closing: {error}"))?;
        dumped.map_err(|error| format!("reading: {error}"))?;
        Ok(String::from_utf8(text).unwrap())
    })
}

fn base(root: &Path) -> Base {
    let (database, identity) = copy(root);
    let folder = tempfile::tempdir().unwrap();
    place(folder.path(), &database, &identity);
    Base { database, identity, dump: open(folder.path()).unwrap() }
}

/// A store with history: its states after clean stops, oldest first, and one after a kill.
fn history() -> (Vec<Base>, Base) {
    let mut server = Server::start();
    let mut stopped = Vec::new();
    for round in 0..3 {
        let client = server.client();
        for number in 0..12 {
            let image = Image::random(&[500, 3000 + number]);
            let repo = format!("team-{}/app-{}", number % 3, number % 5);
            let digest = image.push(&client, &repo, &format!("v{round}.{number}"));
            image.push(&client, &repo, "latest");
            if number % 4 == 3 {
                let _ = client.delete(&format!("/v2/{repo}/manifests/{digest}")).expect(202);
            }
        }
        let (status, log) = server.stop();
        assert!(status.success(), "{log}");
        stopped.push(base(&server.root()));
        server.start_again();
    }
    Image::random(&[100]).push(&server.client(), "team-0/app-0", "latest");
    server.kill();
    let killed = base(&server.root());
    server.start_again();
    (stopped, killed)
}

/// One damage of a database file; what was done.
fn damage(bytes: &mut Vec<u8>, choices: &mut Choices) -> String {
    let length = bytes.len();
    let at = choices.below(length);
    match choices.below(8) {
        0 | 1 => {
            let bit = choices.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        2 => {
            // Redb's header, where its two commit slots are.
            let (at, bit) = (choices.below(320), choices.below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} of the header flipped")
        }
        3 | 4 => {
            let page = at / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
            bytes[page..(page + PAGE_SIZE_BYTES).min(length)].fill(0);
            format!("page at {page} zeroed")
        }
        5 => {
            bytes.truncate(at);
            format!("cut to {at} bytes")
        }
        6 => {
            let pages = length / PAGE_SIZE_BYTES;
            let [from, to] = [0, 0].map(|_| choices.below(pages) * PAGE_SIZE_BYTES);
            bytes.copy_within(from..from + PAGE_SIZE_BYTES, to);
            format!("page at {to} overwritten by the one at {from}")
        }
        _ => {
            let count = 1 + choices.below(512);
            let end = (at + count).min(length);
            bytes[at..end].copy_from_slice(&random_bytes(end - at));
            format!("bytes {at} to {end} overwritten")
        }
    }
}

/// Opens a damaged copy; whether it was refused.
#[track_caller]
fn is_refused(folder: &TempDir, base: &Base, what: &str) -> bool {
    match open(folder.path()) {
        Err(reason) => {
            assert!(reason.contains(WAY_OUT), "{what}: {reason}");
            true
        }
        Ok(dump) => {
            assert!(dump == base.dump, "{what}: another store was opened");
            false
        }
    }
}

/// `KELSON_IT_DAMAGES` sets how many, `KELSON_IT_SEED` the first.
#[test]
fn a_damaged_database_is_refused_or_served_right() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (count, first) = (number("KELSON_IT_DAMAGES").unwrap_or(300), number("KELSON_IT_SEED"));
    let (stopped, killed) = history();
    let newest = &stopped[2];
    let folder = tempfile::tempdir().unwrap();
    let (mut refused, mut served) = (0_u64, 0_u64);
    for seed in (first.unwrap_or(0)..).take(count as usize) {
        let mut choices = Choices(seed);
        let base = if choices.below(4) == 0 { &killed } else { newest };
        let mut database = base.database.clone();
        let what = damage(&mut database, &mut choices);
        place(folder.path(), &database, &base.identity);
        let outcome = is_refused(&folder, base, &format!("seed {seed}: {what}"));
        *if outcome { &mut refused } else { &mut served } += 1;
    }
    println!("RESULT D-17 damages={count} refused={refused} served_right={served}");
    assert!(refused > 0);
}

#[test]
fn an_older_empty_foreign_or_missing_database_is_refused_with_the_way_out() {
    let (stopped, killed) = history();
    let [oldest, older, newest] = &stopped[..] else { panic!("three states") };
    let mut other = Server::start();
    Image::random(&[10]).push(&other.client(), "other", "latest");
    other.stop();
    let (foreign, _) = copy(&other.root());
    let fresh = tempfile::tempdir().unwrap();
    open(fresh.path()).unwrap();
    let (empty_store, _) = copy(fresh.path());
    let zeros = vec![0; newest.database.len()];
    let nothing = Vec::new();
    let databases = [&oldest.database, &older.database, &foreign, &empty_store, &zeros, &nothing];
    for (number, database) in databases.into_iter().enumerate() {
        for identity in [&newest.identity, &killed.identity] {
            let folder = tempfile::tempdir().unwrap();
            place(folder.path(), database, identity);
            let what = format!("database {number}");
            assert!(is_refused(&folder, newest, &what), "{what} was opened");
            let (after, _) = copy(folder.path());
            if let Some(own) = stopped.iter().find(|base| base.database == *database) {
                place(folder.path(), &after, &own.identity);
                assert!(open(folder.path()).unwrap() == own.dump, "{what} was changed");
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    place(folder.path(), &[], &newest.identity);
    fs::remove_file(own(folder.path()).join("metadata.redb")).unwrap();
    assert!(is_refused(&folder, newest, "missing"));
    assert!(!own(folder.path()).join("metadata.redb").exists());
}

#[test]
fn a_damaged_or_missing_identity_is_refused_or_changes_nothing() {
    let (stopped, _) = history();
    let newest = &stopped[2];
    let folder = tempfile::tempdir().unwrap();
    let store = own(folder.path()).join("store.json");
    for bit in 0..newest.identity.len() * 8 {
        let mut identity = newest.identity.clone();
        identity[bit / 8] ^= 1 << (bit % 8);
        place(folder.path(), &newest.database, &identity);
        match open(folder.path()) {
            Err(reason) => {
                let text = ["store.json", WAY_OUT, "this release knows"];
                assert!(text.iter().any(|text| reason.contains(text)), "bit {bit}: {reason}");
            }
            Ok(dump) => assert!(dump == newest.dump, "bit {bit}: another store was opened"),
        }
    }
    for identity in [&b""[..], &newest.identity[..40], &[0; 120]] {
        place(folder.path(), &newest.database, identity);
        assert!(open(folder.path()).unwrap_err().contains("store.json"));
    }
    fs::remove_file(&store).unwrap();
    assert!(open(folder.path()).unwrap_err().contains("store.json is missing"));
    assert!(!store.exists());
}
