//! `kelson fsck`, beside a server and without one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use redb::ReadableTable;
use serde_json::Value;

use crate::database_damage;
use crate::support::server::refusal;
use crate::support::{Client, Image, Options, Server, at_once, random_bytes, sha256};

/// Not sound.
const FINDINGS: i32 = 3;

fn fsck(server: &Server, arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = server.command().arg("fsck").arg("--json").args(arguments).output().unwrap();
    (code(&output), lines(&output))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was found, as (what, about).
fn findings(lines: &[Value]) -> Vec<(String, String)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let findings = lines.iter().filter(|line| line["kind"] == "finding");
    findings.map(|line| (text(line, "what"), text(line, "about"))).collect()
}

pub fn blob_path(root: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap();
    let blobs = root.join("docker/registry/v2/blobs").join(algorithm);
    blobs.join(&hex[..2]).join(hex).join("data")
}

pub fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn push(client: &Client, images: usize) -> Vec<Image> {
    let images: Vec<_> = (0..images).map(|_| Image::random(&[80_000, 300])).collect();
    for (number, image) in images.iter().enumerate() {
        image.push(client, &format!("app-{}", number % 3), &format!("v{number}"));
    }
    images
}

#[test]
fn a_sound_store_is_sound_with_and_without_a_server() {
    let mut server = Server::start();
    push(&server.client(), 4);
    for _ in 0..2 {
        for arguments in [&[][..], &["--read-data"], &["--read-data", "--subset", "1/2"]] {
            let (code, lines) = fsck(&server, arguments);
            assert_eq!((code, findings(&lines)), (0, vec![]), "{lines:?}");
            assert_eq!(lines.last().unwrap()["sound"], true);
        }
        if server.is_running() {
            server.stop();
        }
    }
    let whole = fsck(&server, &["--read-data"]).1.last().unwrap()["report"]["read_bytes"].clone();
    let parts: u64 = (1..=3)
        .map(|part| {
            let subset = format!("{part}/3");
            let (_, lines) = fsck(&server, &["--read-data", "--subset", &subset]);
            lines.last().unwrap()["report"]["read_bytes"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(whole.as_u64().unwrap(), parts, "every content is in one part");
    server.start_again();
}

/// Whether the database was closed, and the next start need not repair it: byte 9 of redb's header
/// (its docs/design.md).
fn is_closed(server: &Server) -> bool {
    const RECOVERY_REQUIRED: u8 = 2;
    let database = fs::read(server.root().join("kelson/metadata.redb")).unwrap();
    database[9] & RECOVERY_REQUIRED == 0
}

#[test]
fn a_command_that_opens_the_store_closes_it() {
    let mut server = Server::start();
    let image = Image::random(&[300]);
    image.push(&server.client(), "app", "latest");
    assert!(!is_closed(&server), "it is in use");
    server.stop();
    assert!(is_closed(&server));
    let digest = image.digest();
    let commands: [&[&str]; 5] = [
        &["fsck"],
        &["garbage-collect"],
        &["ls"],
        &["explain", &digest],
        &["explain", "sha256:0000000000000000000000000000000000000000000000000000000000000000"],
    ];
    for arguments in commands {
        let output = server.command().args(arguments).output().unwrap();
        assert!(is_closed(&server), "{arguments:?}: {output:?}");
    }
    server.start_again();
}

#[test]
fn without_a_server_the_check_keeps_the_store_to_itself() {
    let mut server = Server::start();
    let client = server.client();
    Image::random(&[2_000_000]).push(&client, "app", "latest");
    server.stop();
    // The first thing that is found tells that the check is under way.
    let foreign = server.root().join("docker/registry/v2/blobs/foreign");
    fs::write(&foreign, b"").unwrap();
    let arguments = ["fsck", "--json", "--read-data", "--budget", "1MB/s"];
    let mut check =
        server.command().args(arguments).stdout(Stdio::piped()).spawn().expect("a process");
    let mut output = BufReader::new(check.stdout.take().expect("a pipe"));
    let mut first = String::new();
    output.read_line(&mut first).expect("what it found");
    assert!(first.contains("foreign"), "{first}");
    let refusal = refusal(&Options::default(), server.folder());
    assert!(check.try_wait().expect("its state").is_none(), "it was still at work");
    assert!(refusal.contains("in use"), "{refusal}");
    std::io::copy(&mut output, &mut std::io::sink()).expect("the rest");
    assert_eq!(check.wait().expect("its end").code(), Some(FINDINGS));
    fs::remove_file(&foreign).unwrap();
    server.start_again();
}

#[test]
fn without_a_reader_work_that_was_cut_short_is_no_success() {
    let server = Server::start();
    push(&server.client(), 1);
    let foreign = server.root().join("docker/registry/v2/blobs/foreign");
    fs::write(&foreign, b"").unwrap();
    let unread = |arguments: &[&str]| {
        let mut command = server.command();
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        child.wait().unwrap().code()
    };
    assert_eq!(unread(&["fsck", "--json"]), Some(1));
    assert_eq!(unread(&["ls"]), Some(0), "it has shown what was wanted");
    fs::remove_file(&foreign).unwrap();
}

#[test]
fn findings_are_told_beside_a_server_and_repaired() {
    let server = Server::start();
    let client = server.client();
    let images = push(&client, 6);
    let layer = |image: &Image| sha256(&image.layers[0]);
    let path = |image: &Image| blob_path(&server.root(), &layer(image));
    flip_a_bit(&path(&images[0]));
    fs::remove_file(path(&images[1])).unwrap();
    fs::write(path(&images[2]), b"short").unwrap();
    let orphan = sha256(b"orphan");
    let orphan_path = blob_path(&server.root(), &orphan);
    fs::create_dir_all(orphan_path.parent().unwrap()).unwrap();
    fs::write(&orphan_path, b"orphan").unwrap();
    let (code, lines) = fsck(&server, &[]);
    let mut expected = vec![
        ("missing_file".to_owned(), layer(&images[1])),
        ("orphan".to_owned(), orphan.clone()),
        ("wrong_size".to_owned(), layer(&images[2])),
    ];
    let mut found = findings(&lines);
    found.sort();
    assert_eq!((code, found), (FINDINGS, expected.clone()), "a flipped bit takes reading to see");
    let (code, lines) = fsck(&server, &["--read-data", "--repair"]);
    expected.insert(2, ("wrong_bytes".to_owned(), layer(&images[0])));
    let mut found = findings(&lines);
    found.sort();
    assert_eq!((code, found), (FINDINGS, expected), "damage is contained, not undone");
    assert!(!orphan_path.exists());
    let quarantined = fs::read_dir(server.root().join("kelson/quarantine")).unwrap().count();
    assert_eq!(quarantined, 3, "two damaged files and the orphan");
    for image in &images[..3] {
        let answer = client.blob("app-0", &layer(image));
        let _ = answer.expect_error(404, "BLOB_UNKNOWN");
    }
    for (number, image) in images.iter().enumerate() {
        image.push(&client, &format!("app-{}", number % 3), &format!("v{number}"));
        image.assert_pullable(&client, &format!("app-{}", number % 3), &format!("v{number}"));
    }
    let (code, lines) = fsck(&server, &["--read-data"]);
    assert_eq!((code, findings(&lines)), (0, vec![]), "healed");
}

#[test]
fn an_upload_without_a_session_is_told_and_removed() {
    let server = Server::start();
    let client = server.client();
    let location = client.begin_upload("app");
    let location = client.patch(&location, None, b"still wanted").expect(202).location();
    let lost = format!("kelson/staging/{}", uuid::Uuid::from_u128(7));
    let data = server.root().join(&lost).join("data");
    fs::create_dir(data.parent().unwrap()).unwrap();
    fs::write(&data, b"nobody's").unwrap();
    let expected = vec![("staging".to_owned(), lost)];
    for _ in 0..2 {
        let (code, lines) = fsck(&server, &[]);
        assert_eq!((code, findings(&lines)), (FINDINGS, expected.clone()), "told, and no more");
        assert_eq!(fs::read(&data).unwrap(), b"nobody's");
    }
    let (code, lines) = fsck(&server, &["--repair"]);
    assert_eq!((code, findings(&lines)), (0, expected), "repaired");
    assert_eq!(lines[0]["action"], "removed");
    assert!(!data.parent().unwrap().exists());
    let (code, lines) = fsck(&server, &[]);
    assert_eq!((code, findings(&lines)), (0, vec![]));
    let digest = sha256(b"still wanted");
    let _ = client.finish(&location, &digest, b"").expect(201);
}

/// Every fact of a store that nobody serves.
fn facts(server: &Server) -> String {
    let dump = database_damage::open(&server.root()).unwrap();
    // Whoever opens a store to change it counts, whether anything is to be changed or not.
    let is_fact = |line: &&str| !line.starts_with("transactions") && !line.starts_with("uptime");
    dump.lines().filter(is_fact).collect::<Vec<_>>().join("\n")
}

type Rows<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;
type Damage = fn(&mut Rows<'_>);

/// Changes a table of a store that nobody serves.
fn change(server: &Server, table: &str, damage: Damage) {
    let path = server.root().join("kelson/metadata.redb");
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    damage(&mut transaction.open_table(redb::TableDefinition::new(table)).unwrap());
    transaction.commit().unwrap();
}

fn empty(rows: &mut Rows<'_>) {
    rows.retain(|_, _| false).unwrap();
}

/// The last number of a repository's row is that of its bytes.
fn miscount(rows: &mut Rows<'_>) {
    let first =
        rows.first().unwrap().map(|(key, row)| (key.value().to_vec(), row.value().to_vec()));
    let (key, mut row) = first.unwrap();
    *row.last_mut().unwrap() ^= 1;
    rows.insert(key.as_slice(), row.as_slice()).unwrap();
}

#[test]
fn rows_that_follow_from_others_are_told_and_rebuilt() {
    let mut server = Server::start();
    let images = push(&server.client(), 4);
    server.stop();
    let whole = facts(&server);
    let damages: [(&str, Damage); 4] = [
        ("edges-1", empty),
        ("tags_by_manifest-1", empty),
        ("blob_repositories-1", empty),
        ("repositories-1", miscount),
    ];
    for (table, damage) in damages {
        change(&server, table, damage);
        let broken = facts(&server);
        assert_ne!(broken, whole, "{table}");
        let (code, lines) = fsck(&server, &[]);
        let found = findings(&lines);
        let is_fact = |found: &(String, String)| found.0 == "facts" && found.1 == "metadata.redb";
        assert!(code == FINDINGS && !found.is_empty(), "{table}: {lines:?}");
        assert!(found.iter().all(is_fact), "{table}: {lines:?}");
        assert_eq!(facts(&server), broken, "{table}: told, and no more");
        let (code, lines) = fsck(&server, &["--repair"]);
        assert_eq!((code, findings(&lines)), (0, found), "{table}: repaired");
        assert_eq!(facts(&server), whole, "{table}: as it was");
        let (code, lines) = fsck(&server, &[]);
        assert_eq!((code, findings(&lines)), (0, vec![]), "{table}");
    }
    server.start_again();
    for (number, image) in images.iter().enumerate() {
        image.assert_pullable(
            &server.client(),
            &format!("app-{}", number % 3),
            &format!("v{number}"),
        );
    }
}

#[test]
fn pushes_beside_it_are_no_findings() {
    let server = Server::start();
    let finished = std::sync::atomic::AtomicUsize::new(0);
    at_once(5, |number| {
        use std::sync::atomic::Ordering;
        if number > 0 {
            let client = server.client();
            for round in 0..25 {
                let image = Image::random(&[70_000, 200]);
                let (repo, tag) = (format!("app-{number}"), format!("v{round}"));
                let digest = image.push(&client, &repo, &tag);
                if round % 3 == 0 {
                    let path = format!("/v2/{repo}/manifests/{digest}");
                    let _ = client.delete(&path).expect(202);
                }
            }
            finished.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut rounds = 0;
        while finished.load(Ordering::Relaxed) < 4 || rounds == 0 {
            let (code, lines) = fsck(&server, &["--read-data", "--repair"]);
            assert_eq!((code, findings(&lines)), (0, vec![]));
            rounds += 1;
        }
    });
}

#[test]
fn what_it_cannot_do_is_an_error_with_a_reason() {
    let mut server = Server::start();
    push(&server.client(), 1);
    server.stop();
    let run = |arguments: &[&str]| server.command().arg("fsck").args(arguments).output().unwrap();
    for arguments in [&["--budget", "1MB/s"][..], &["--read-data", "--budget", "fast"]] {
        assert_eq!(code(&run(arguments)), 2, "{arguments:?}");
    }
    let database = server.root().join("kelson/metadata.redb");
    let sound = fs::read(&database).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 20_000].copy_from_slice(&random_bytes(20_000));
    fs::write(&database, damaged).unwrap();
    let output = run(&[]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), 1);
    assert!(message.contains("kelson restore"), "{message}");
    fs::remove_file(&database).unwrap();
    let output = run(&[]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), 1);
    assert!(message.contains("is missing") && message.contains("kelson restore"), "{message}");
    fs::write(&database, sound).unwrap();
    let output = run(&[]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("the store is sound"));
    server.start_again();
}
