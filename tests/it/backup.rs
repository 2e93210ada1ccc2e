//! Backups beside pushes, restores, and the way back from a lost database (D-19, D-20).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kelson::disk::OsVfs;
use kelson::meta::redb::RedbMeta;
use serde_json::{Value, json};

use crate::fsck::blob_path;
use crate::support::server::{command, root};
use crate::support::{Client, Image, Options, Server, eventually, sha256, sound};

/// Runs the program beside a server, or without one.
fn run(folder: &Path, options: &Options, arguments: &[&str]) -> Output {
    command(folder, options).args(arguments).output().unwrap()
}

#[track_caller]
fn done(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Ran to its end and found damage; what it told.
#[track_caller]
fn damaged(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The report: the last line of `--json`.
fn report(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Restores a generation into a folder of its own and serves it.
fn restored(backups: &Path, generation: u64) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let number = generation.to_string();
    let arguments = ["restore", backups.to_str().unwrap(), "--generation", &number];
    done(run(folder.path(), &Options::default(), &arguments));
    sound::assert_sound(&folder.path().join("registry"));
    Server::in_folder(Options::default(), folder)
}

type Pushed = Vec<(String, Image)>;

/// Pushes, retags and deletes until told to stop; notes what was acknowledged and stays.
fn load(client: &Client, repo: &str, stop: &AtomicBool, pushed: &Mutex<Pushed>) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let image = Image::random(&[if number % 3 == 0 { 90_000 } else { 500 }]);
        let tag = format!("t{number}");
        image.push(client, repo, &tag);
        pushed.lock().unwrap().push((tag, image));
        let moving = Image::random(&[700]);
        moving.push(client, repo, "moving");
        if number % 2 == 0 {
            let _ = client.delete(&format!("/v2/{repo}/manifests/{}", moving.digest())).expect(202);
        }
    }
}

/// `KELSON_IT_BACKUPS` sets how often.
#[test]
fn every_backup_under_load_holds_what_was_acknowledged_before_it() {
    let count = std::env::var("KELSON_IT_BACKUPS").map_or(4, |text| text.parse().unwrap());
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let (stop, pushed) = (AtomicBool::new(false), Mutex::new(Pushed::new()));
    let mut expected = Vec::new();
    std::thread::scope(|scope| {
        for repo in ["load/a", "load/b"] {
            let (client, stop, pushed) = (server.client(), &stop, &pushed);
            scope.spawn(move || load(&client, repo, stop, pushed));
        }
        for _ in 0..count {
            eventually("more is pushed", || {
                let known: usize = expected.last().copied().unwrap_or(0);
                (pushed.lock().unwrap().len() >= known + 4).then_some(())
            });
            expected.push(pushed.lock().unwrap().len());
            let arguments = ["backup", backups.to_str().unwrap(), "--json"];
            let text = done(server.command().args(arguments).output().unwrap());
            assert_eq!(report(&text)["generation"], expected.len(), "{text}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let path = backups.to_str().unwrap();
    let verified =
        done(run(folder.path(), &Options::default(), &["backup", "verify", path, "--read-data"]));
    assert!(verified.contains("0 damaged"), "{verified}");
    let listed = done(run(folder.path(), &Options::default(), &["backup", "list", path]));
    assert_eq!(listed.lines().count(), expected.len(), "{listed}");
    let pushed = pushed.into_inner().unwrap();
    for (generation, count) in (1..).zip(expected) {
        let server = restored(&backups, generation);
        let client = server.client();
        for (tag, image) in &pushed[..count] {
            let repo = ["load/a", "load/b"].into_iter().find(|repo| {
                let found = client.manifest(repo, tag);
                found.status == 200 && found.body == image.manifest
            });
            image.assert_pullable(&client, repo.unwrap_or("load/a"), tag);
        }
        Image::random(&[10, 90_000]).push(&client, "after", "restore");
    }
}

#[test]
fn a_killed_backup_leaves_no_generation_and_the_next_goes_on() {
    let mut server = Server::start();
    let client = server.client();
    let images: Vec<_> = (0..20).map(|_| Image::random(&[300_000])).collect();
    for (number, image) in images.iter().enumerate() {
        image.push(&client, "kept", &format!("t{number}"));
    }
    let backups = server.folder().join("backups");
    for attempt in 0..4 {
        let mut backup = server.command().arg("backup").arg(&backups).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 * attempt));
        server.kill();
        backup.wait().unwrap();
        server.start_again();
    }
    let before = fs::read_dir(backups.join("generations")).map_or(0, |found| {
        found
            .filter(|entry| entry.as_ref().unwrap().path().extension().unwrap() == "export")
            .count()
    });
    // With no server the command opens the store itself.
    server.stop();
    let path = backups.to_str().unwrap().to_owned();
    let text = done(server.command().args(["backup", &path, "--json"]).output().unwrap());
    assert_eq!(report(&text)["generation"], before + 1, "{text}");
    let verify = ["backup", "verify", &path, "--read-data"];
    assert!(done(server.command().args(verify).output().unwrap()).contains("0 damaged"));
    let restored = restored(&backups, before as u64 + 1);
    for (number, image) in images.iter().enumerate() {
        image.assert_pullable(&restored.client(), "kept", &format!("t{number}"));
    }
}

#[test]
fn damage_in_a_backup_is_found_and_not_restored() {
    let server = Server::start();
    Image::random(&[100_000]).push(&server.client(), "a", "t");
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let path = backups.to_str().unwrap();
    done(server.command().args(["backup", path]).output().unwrap());
    let file = largest(&backups.join("docker"));
    let mut bytes = fs::read(&file).unwrap();
    bytes[50_000] ^= 1;
    fs::write(&file, bytes).unwrap();
    let options = Options::default();
    done(run(folder.path(), &options, &["backup", "verify", path]));
    let verify = ["backup", "verify", path, "--read-data"];
    let found = damaged(run(folder.path(), &options, &verify));
    assert!(found.contains("make a new one elsewhere"), "{found}");
    assert!(refused(run(folder.path(), &options, &["restore", path])).contains("no sound file"));
    let refusal = crate::support::server::refusal(&options, folder.path());
    assert!(refusal.contains("is being restored"), "{refusal}");
    let export = backups.join("generations/000001.export");
    let mut bytes = fs::read(&export).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&export, bytes).unwrap();
    assert!(refused(run(folder.path(), &options, &["restore", path])).contains("is damaged"));
    done(run(folder.path(), &options, &["backup", "list", path]));
    damaged(run(folder.path(), &options, &["backup", "verify", path]));
    fs::remove_file(&export).unwrap();
    let none = refused(run(folder.path(), &options, &["backup", "verify", path]));
    assert!(none.contains("there is no finished backup"), "{none}");
}

#[test]
fn what_is_told_as_json_has_every_number() {
    let mut server = Server::start();
    let client = server.client();
    let image = Image::random(&[100_000]);
    image.push(&client, "a", "t");
    server.restart();
    let contents = sound::blob_files(&server.root());
    let size_bytes: usize = image.blobs().map(Vec::len).sum::<usize>() + image.manifest.len();
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let path = backups.to_str().unwrap();
    done(server.command().args(["backup", path]).output().unwrap());
    let options = Options::default();
    let json =
        |arguments: &[&str]| run(folder.path(), &options, &[arguments, &[path, "--json"]].concat());
    let identity = fs::read(server.root().join("kelson/store.json")).unwrap();
    let identity: Value = serde_json::from_slice(&identity).unwrap();
    let export = backups.join("generations/000001.export");
    let listed = report(&done(json(&["backup", "list"])));
    let created_at_ms = listed["created_at_ms"].as_u64().unwrap();
    assert!(created_at_ms > 1_700_000_000_000, "{listed}");
    assert!(listed["transactions"].as_u64().unwrap() > 1, "{listed}");
    let expected = json!({
        "kind": "generation", "generation": 1, "created_at_ms": created_at_ms,
        "export_size_bytes": fs::metadata(&export).unwrap().len(), "store": identity["uuid"],
        "schema": listed["schema"], "release": env!("CARGO_PKG_VERSION"),
        "transactions": listed["transactions"],
    });
    assert_eq!(listed, expected);
    let mut expected = json!({
        "generations": 1, "contents": contents.len(), "read": 0, "read_size_bytes": 0,
        "damaged": 0,
    });
    assert_eq!(report(&done(json(&["backup", "verify"]))), expected);
    expected["read"] = contents.len().into();
    expected["read_size_bytes"] = size_bytes.into();
    assert_eq!(report(&done(json(&["backup", "verify", "--read-data"]))), expected);
    let restored = json!({
        "generation": 1, "created_at_ms": created_at_ms, "store": identity["uuid"],
        "contents": contents.len(), "size_bytes": size_bytes, "missing": 0, "uploads": 0,
    });
    assert_eq!(report(&done(json(&["restore"]))), restored);
    sound::assert_sound(&folder.path().join("registry"));
    let layer = sha256(&image.layers[0]);
    fs::remove_file(blob_path(&backups, &layer)).unwrap();
    let found = damaged(json(&["backup", "verify"]));
    let item: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    let reason = "its file is missing";
    let expected = json!({ "kind": "damaged", "generation": 1, "digest": layer, "reason": reason });
    assert_eq!(item, expected);
    assert_eq!(report(&found)["damaged"], 1, "{found}");
}

#[test]
fn a_restore_into_a_store_is_refused() {
    let server = Server::start();
    Image::random(&[]).push(&server.client(), "a", "t");
    let backups = tempfile::tempdir().unwrap();
    let path = backups.path().to_str().unwrap();
    done(server.command().args(["backup", path]).output().unwrap());
    let text = refused(server.command().args(["restore", path]).output().unwrap());
    assert!(text.contains("is not empty"), "{text}");
    let none =
        refused(server.command().args(["restore", path, "--generation", "7"]).output().unwrap());
    assert!(none.contains("has no generation 7"), "{none}");
}

#[test]
fn a_lost_database_comes_back_from_the_newest_export() {
    let options = Options::default().env("REGISTRY_KELSON_BACKUP_INTERVAL", "1s");
    let mut server = Server::with(options);
    let client = server.client();
    let kept = Image::random(&[100_000, 300]);
    kept.push(&client, "app", "kept");
    let exports = server.root().join("kelson/exports");
    let of_push = newest(&exports);
    eventually("the push is exported", || (newest(&exports) > of_push).then_some(()));
    server.stop();
    // Later exports are as good as gone: the push below is in none of them.
    let saved = tempfile::tempdir().unwrap();
    let newest = exports.join(newest(&exports).unwrap());
    fs::copy(&newest, saved.path().join("export")).unwrap();
    server.start_again();
    let lost = Image::random(&[200_000]);
    lost.push(&server.client(), "app", "lost");
    let parts: Vec<_> = lost.blobs().map(|blob| sha256(blob)).chain([lost.digest()]).collect();
    eventually("each has its file", || {
        let files = sound::blob_files(&server.root());
        parts.iter().all(|part| files.contains(part)).then_some(())
    });
    let running =
        refused(server.command().args(["restore", "--metadata", "latest"]).output().unwrap());
    assert!(running.contains("in use by another process"), "{running}");
    server.kill();
    let database = server.root().join("kelson/metadata.redb");
    fs::remove_file(&database).unwrap();
    let export = saved.path().join("export");
    let arguments = ["restore", "--json", "--metadata", export.to_str().unwrap()];
    let text = done(server.command().args(arguments).output().unwrap());
    let told = report(&text);
    assert_eq!((&told["missing"], &told["unknown"]), (&0.into(), &3.into()), "{text}");
    let items: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let digest = lost.digest();
    let manifest = items.iter().find(|item| item["digest"] == digest.as_str()).unwrap();
    assert_eq!(manifest["media_type"], lost.media_type, "{text}");
    server.start_again();
    let client = server.client();
    kept.assert_pullable(&client, "app", "kept");
    assert_eq!(client.manifest("app", "lost").status, 404, "nothing is invented");
    lost.push(&client, "app", "lost");
    lost.assert_pullable(&client, "app", "lost");
    server.stop();
    let sound =
        refused(server.command().args(["restore", "--metadata", "latest"]).output().unwrap());
    assert!(sound.contains("nothing to restore"), "{sound}");
}

#[test]
fn the_schema_is_told_beside_a_server_and_without_one() {
    let mut server = Server::start();
    let status = |server: &Server, option: &str| {
        done(server.command().args(["migrate", option]).output().unwrap())
    };
    assert!(status(&server, "--status").contains("a server runs"));
    let refusal = refused(server.command().arg("migrate").output().unwrap());
    assert!(refusal.contains("stop it"), "{refusal}");
    server.stop();
    assert!(status(&server, "--status").contains("the store has schema"));
    assert!(status(&server, "--dry-run").contains("nothing is to be done"));
    let text = done(server.command().arg("migrate").output().unwrap());
    assert!(text.contains("already"), "{text}");
}

/// Every file of a store, with its bytes.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    sound::files(root).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_store_of_the_first_release_is_told_about_and_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(folder.path());
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/meta/v0001.redb");
    let old = fs::read(old).unwrap();
    fs::create_dir_all(root.join("kelson")).unwrap();
    fs::create_dir_all(root.join("docker/registry/v2/blobs")).unwrap();
    fs::write(root.join("kelson/metadata.redb"), &old).unwrap();
    let identity = json!({
        "uuid": "09090909-0909-0909-0909-090909090909", "format": 1, "origin": "created",
        "transactions": 1,
    });
    fs::write(root.join("kelson/store.json"), identity.to_string()).unwrap();
    let before = files(&root);
    let options = Options::default();
    let migrate = |arguments: &[&str]| {
        let text = done(run(folder.path(), &options, &[&["migrate"], arguments].concat()));
        (files(&root) == before, text)
    };
    let what = "fill the queues of the collector";
    let first = json!({ "to": 2, "name": "collector", "what": what });
    let mut newest = 0;
    for option in ["--status", "--dry-run"] {
        let (is_unchanged, text) = migrate(&[option]);
        assert!(is_unchanged, "{option}: {text}");
        assert!(text.contains("the store has schema 1, this release "), "{text}");
        let step = format!("step 2: {what} (collector)");
        assert_eq!(text.contains(&step), option == "--dry-run", "{text}");
        let (is_unchanged, text) = migrate(&[option, "--json"]);
        assert!(is_unchanged, "{option}: {text}");
        let told = report(&text);
        newest = told["supported"].as_u64().unwrap();
        let steps = told["steps"].as_array().unwrap();
        assert_eq!((steps.len() as u64, &steps[0]), (newest - 1, &first), "{text}");
        assert!(told["free_bytes"].as_u64().unwrap() > 0, "{text}");
        let expected = json!({
            "schema": 1, "supported": newest, "steps": steps, "copy_size_bytes": old.len(),
            "free_bytes": told["free_bytes"], "served": false,
        });
        assert_eq!(told, expected);
    }
    let (is_unchanged, text) = migrate(&["--json"]);
    assert!(!is_unchanged);
    assert_eq!(report(&text), json!({ "from": 1, "schema": newest }));
    let kept = root.join("kelson/metadata.redb.v1");
    let kept = RedbMeta::inspect(Arc::new(OsVfs), &kept, Default::default()).unwrap();
    assert_eq!(kept.schema, 1, "the way back");
    let told = report(&migrate(&["--status", "--json"]).1);
    assert_eq!((&told["schema"], &told["steps"]), (&json!(newest), &json!([])));
    let server = Server::in_folder(options, folder);
    let client = server.client();
    let tags = client.get("/v2/library/app/tags/list").expect(200).json();
    assert_eq!(tags["tags"], json!(["index", "latest", "v1"]));
    assert_eq!(client.manifest("library/app", "latest").expect(200).body, [0x14; 7]);
    let image = Image::random(&[100_000]);
    image.push(&client, "library/app", "latest");
    image.assert_pullable(&client, "library/app", "latest");
    // No content of the fixture is what its digest says, and that is no fault of the migration.
    let repair = ["fsck", "--read-data", "--repair"];
    damaged(server.command().args(repair).output().unwrap());
}

/// The newest export's name.
fn newest(exports: &Path) -> Option<String> {
    let names = fs::read_dir(exports).ok()?;
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".export")).max()
}

fn largest(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    let mut largest = (0, PathBuf::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                largest = largest.max((path.metadata().unwrap().len(), path));
            }
        }
    }
    largest.1
}
