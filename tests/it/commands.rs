//! Commands as operators give them: scripts made for distribution, other users, impatient ones.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::fsck::{blob_path, flip_a_bit};
use crate::support::{Options, Server, eventually, random_bytes};

const NOBODY: u32 = 65534;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether it went well, and what it wrote on both outputs.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

/// A stopped server whose store holds a content of that length.
fn stopped_with_a_blob(size_bytes: usize) -> Server {
    let mut server = Server::start();
    server.client().push_blob("app", &random_bytes(size_bytes));
    server.stop();
    server
}

#[test]
fn garbage_collection_takes_the_flags_of_distribution() {
    let server = stopped_with_a_blob(10);
    for flags in [
        &["-m", "-d"][..],
        &["-m=true", "--dry-run=true"],
        &["--delete-untagged=true", "-d"],
        &["-m", "--delete-untagged=true", "-d", "-d"],
        &["-q=false", "-d"],
    ] {
        let (code, out, error) = run(server.command().arg("garbage-collect").args(flags));
        assert_eq!(code, Some(0), "{flags:?}: {error}");
        assert!(out.contains("eligible for deletion"), "{flags:?}: {out}");
    }
    let (_, out, _) = run(server.command().args(["garbage-collect", "--dry-run=false"]));
    assert!(out.contains("deleted"), "{out}");
    let (code, _, error) = run(server.command().args(["garbage-collect", "-m=perhaps"]));
    assert_eq!(code, Some(2), "{error}");
}

#[test]
fn a_grace_without_a_unit_is_refused() {
    let server = stopped_with_a_blob(10);
    for wrong in ["24", "500ms", "1ns", "soon"] {
        let command = &mut server.command();
        let (code, out, error) = run(command.args(["garbage-collect", "-d", "--grace", wrong]));
        assert_eq!((code, out), (Some(2), String::new()), "{wrong}: {error}");
        assert!(error.contains("24h"), "{wrong}: {error}");
    }
    for right in ["0", "0s", "30m", "2h"] {
        let command = &mut server.command();
        let (code, _, error) = run(command.args(["garbage-collect", "-d", "--grace", right]));
        assert_eq!(code, Some(0), "{right}: {error}");
    }
}

#[test]
fn a_quiet_collection_says_all_the_same_that_it_waits() {
    let server = Server::start();
    let (code, out, error) = run(server.command().args(["garbage-collect", "-q", "-m"]));
    assert_eq!((code, out), (Some(0), String::new()), "{error}");
    assert!(error.contains("nothing was collected: the server has just started"), "{error}");
}

#[test]
fn a_command_of_another_user_leaves_the_store_alone() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let server = stopped_with_a_blob(10);
    let own = server.root().join("kelson");
    let owned = [own.clone(), own.join("store.json"), own.join("metadata.redb")];
    owned.iter().for_each(|path| chown(path, Some(NOBODY), None).unwrap());
    for command in [&["ls"][..], &["fsck"], &["garbage-collect"], &["migrate"]] {
        let (code, _, error) = run(server.command().args(command));
        assert_eq!(code, Some(1), "{command:?}: {error}");
        assert!(error.contains("belongs to the user 65534"), "{command:?}: {error}");
    }
    for path in &owned {
        assert_eq!(fs::metadata(path).unwrap().uid(), NOBODY, "{}", path.display());
        chown(path, Some(0), None).unwrap();
    }
}

#[test]
fn a_signal_ends_a_command_and_the_store_is_closed() {
    let server = stopped_with_a_blob(9_000_000);
    for (signal, expected) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut command = server.command();
        command.args(["fsck", "--read-data", "--budget", "1kB/s"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let begun = server.root().join("kelson/store.json");
        let before = fs::metadata(&begun).unwrap().ino();
        // It is replaced when the store is open.
        eventually("the store is open", || {
            (fs::metadata(&begun).unwrap().ino() != before).then_some(())
        });
        kill_process(Pid::from_child(&child), signal).unwrap();
        let since = Instant::now();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(expected));
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
}

#[test]
fn health_does_not_wait_for_a_server_that_hangs() {
    let server = stopped_with_a_blob(10);
    let (code, _, error) = run(server.command().arg("health"));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("no server runs on the store"), "{error}");
    let socket = server.root().join("kelson/admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let since = Instant::now();
    let (code, _, error) = run(server.command().arg("health"));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("does not answer within 3 s"), "{error}");
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    drop(listener);
    fs::remove_file(&socket).unwrap();
}

#[test]
fn a_read_only_registry_does_not_go_on_serving_what_is_damaged() {
    let mut server = Server::start();
    let content = random_bytes(100_000);
    let digest = server.client().push_blob("app", &content);
    server.stop();
    let options = Options::default()
        .env("REGISTRY_STORAGE_MAINTENANCE_READONLY", r#"{"enabled":true}"#)
        .env("REGISTRY_KELSON_STORAGE_VERIFYONREAD", "true");
    let mut server = Server::in_folder(options, server.take_folder());
    let client = server.client();
    flip_a_bit(&blob_path(&server.root(), &digest));
    let path = format!("/v2/app/blobs/{digest}");
    assert!(client.request("GET", &path).try_send().is_err(), "cut before its end");
    eventually("it is contained", || (client.head(&path).status == 404).then_some(()));
    let (code, _, error) = run(server.command().args(["fsck", "--repair"]));
    assert_eq!(code, Some(3), "what is gone is still to be pushed: {error}");
    server.stop();
    let server = Server::in_folder(Options::default(), server.take_folder());
    assert_eq!(server.client().push_blob("app", &content), digest);
    assert_eq!(server.client().head(&path).status, 200);
}
