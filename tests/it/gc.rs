//! Garbage collection, beside a running server and without one.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::image::{index, random_bytes, sha256};
use crate::support::sound::{blob_files, staged};
use crate::support::{Image, OCI_INDEX, Options, Server, eventually};

/// Nothing is kept for longer than a second after its last use.
fn hasty() -> Options {
    Options::default()
        .env("REGISTRY_KELSON_GC_UNSAFE", "true")
        .env("REGISTRY_KELSON_GC_GRACE", "0s")
        .env("REGISTRY_KELSON_GC_LEASE", "0s")
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    server.command().arg("garbage-collect").args(arguments).output().unwrap()
}

#[track_caller]
fn collect(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The report of a pass.
#[track_caller]
fn report(server: &Server, arguments: &[&str]) -> Value {
    let text = collect(server, &[arguments, &["--json", "--quiet"]].concat());
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn delete(server: &Server, repo: &str, reference: &str) {
    let _ = server.client().delete(&format!("/v2/{repo}/manifests/{reference}")).expect(202);
}

#[test]
fn the_bytes_of_a_deleted_image_leave_the_disk_and_shared_layers_stay() {
    let server = Server::with(hasty());
    let client = server.client();
    let gone = Image::random(&[10, 100_000, 200_000]);
    let kept = Image::random(&[10]).with_layer(gone.layers[1].clone());
    gone.push(&client, "app", "gone");
    kept.push(&client, "app", "kept");
    delete(&server, "app", &gone.digest());
    let shared = sha256(&gone.layers[1]);
    let doomed: Vec<_> = [gone.digest(), sha256(&gone.config), sha256(&gone.layers[0])]
        .into_iter()
        .chain([sha256(&gone.layers[2])])
        .collect();
    eventually("the files go", || {
        let files = blob_files(&server.root());
        doomed.iter().all(|digest| !files.contains(digest)).then_some(())
    });
    assert!(blob_files(&server.root()).contains(&shared));
    for digest in &doomed[1..] {
        let _ = client.blob("app", digest).expect_error(404, "BLOB_UNKNOWN");
    }
    kept.assert_pullable(&client, "app", "kept");
}

#[test]
fn what_belongs_to_a_living_image_stays() {
    let mut server = Server::with(hasty());
    let client = server.client();
    let children = [Image::random(&[10, 70_000]), Image::docker(&[20])];
    for child in &children {
        child.push(&client, "app", &child.digest());
    }
    let list = index(&[children[0].descriptor(), children[1].descriptor()]);
    let _ = client.put_manifest("app", "latest", OCI_INDEX, &list).expect(201);
    let subject = json!({
        "mediaType": OCI_INDEX, "digest": sha256(&list), "size": list.len()
    });
    let signature = Image::attached(&subject, "application/vnd.example", json!({}));
    signature.push(&client, "app", &signature.digest());
    let fallback = Image::random(&[30]);
    fallback.push(&client, "app", &format!("{}.sig", sha256(&list).replace(':', "-")));
    server.stop();
    let found = report(&server, &["--grace", "0", "--delete-untagged"]);
    let gone = [&found["links"], &found["manifests"], &found["contents"]["count"]];
    assert_eq!(gone, [&json!(0); 3], "{found}");
    server.start_again();
    let client = server.client();
    for image in children.iter().chain([&signature, &fallback]) {
        image.assert_pullable(&client, "app", &image.digest());
    }
    let referrers = client.get(&format!("/v2/app/referrers/{}", sha256(&list))).expect(200);
    assert_eq!(referrers.json()["manifests"].as_array().unwrap().len(), 1);
    // When the subject goes, its referrer follows, and the signature under a tag stays.
    delete(&server, "app", &sha256(&list));
    eventually("the referrer goes", || {
        let answer = client.manifest("app", &signature.digest());
        (answer.status == 404).then_some(())
    });
    fallback.assert_pullable(&client, "app", &fallback.digest());
    children[0].assert_pullable(&client, "app", &children[0].digest());
}

#[test]
fn untagged_manifests_are_kept_unless_they_are_asked_for() {
    let server = Server::with(hasty());
    let client = server.client();
    let image = Image::random(&[100]);
    image.push(&client, "app", "latest");
    delete(&server, "app", "latest");
    std::thread::sleep(Duration::from_secs(2));
    let kept = report(&server, &[]);
    assert_eq!((&kept["manifests"], &kept["untagged_kept"]), (&json!(0), &json!(1)), "{kept}");
    let text = collect(&server, &[]);
    assert!(text.contains("1 untagged manifests are kept; --delete-untagged"), "{text}");
    image.assert_pullable(&client, "app", &image.digest());
    let dry = collect(&server, &["--dry-run", "--delete-untagged"]);
    let line = format!("manifest eligible for deletion: {}", image.digest());
    assert!(dry.contains(&line) && dry.contains("and 1 manifests eligible for deletion"), "{dry}");
    image.assert_pullable(&client, "app", &image.digest());
    // The pull took a lease, which here lasts no time at all.
    let done = report(&server, &["-m"]);
    assert_eq!(done["manifests"], json!(1), "{done}");
    let _ = client.manifest("app", &image.digest()).expect_error(404, "MANIFEST_UNKNOWN");
    eventually("its layers follow", || blob_files(&server.root()).is_empty().then_some(()));
}

#[test]
fn a_dry_run_changes_nothing_and_tells_all() {
    let mut server = Server::start();
    let client = server.client();
    let (used, unused) = (Image::random(&[50]), random_bytes(80_000));
    used.push(&client, "app", "latest");
    let digest = client.push_blob("app", &unused);
    let waiting = report(&server, &["-d"]);
    assert_eq!(waiting["waiting"]["links"], json!({ "count": 1, "size_bytes": 80_000 }));
    let seconds = waiting["waiting_seconds"].as_u64().unwrap();
    assert!((24 * 3600 - 60..=24 * 3600 + 1).contains(&seconds), "{waiting}");
    assert!(waiting["resting_seconds"].as_u64().unwrap() > 5 * 3600, "{waiting}");
    let text = collect(&server, &["-d"]);
    let line = text.lines().find(|line| line.starts_with("waiting: ")).unwrap();
    let rest = "waiting: 1 blobs and 0 manifests, at most 78.1 KiB, the last for ";
    let last = line.strip_prefix(rest).unwrap_or_else(|| panic!("{text}"));
    assert!(["1d", "1d 1s", "23h 59m"].contains(&last), "{text}");
    server.stop();
    let text = collect(&server, &["--dry-run", "--grace", "0"]);
    assert!(text.contains(&format!("app: layer link eligible for deletion: {digest}")), "{text}");
    assert!(text.contains("1 blobs and 0 manifests eligible for deletion"), "{text}");
    assert_eq!(collect(&server, &["-d", "-q", "--grace", "0"]), "");
    assert_eq!(report(&server, &[])["links"], json!(0), "the stored grace counts");
    assert!(blob_files(&server.root()).contains(&digest));
    let output = run(&server, &["--grace", "0"]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(warning.starts_with("warning: with a grace of 0s"), "{warning}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("1 blobs and 0 manifests deleted, 78.1 KiB freed"), "{text}");
    assert!(!blob_files(&server.root()).contains(&digest));
    server.start_again();
    used.assert_pullable(&server.client(), "app", "latest");
}

#[test]
fn abandoned_uploads_go_beside_a_server_and_without_one() {
    const AGE: Duration = Duration::from_secs(2);
    let options = Options::default().env("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE", "2s");
    let mut server = Server::with(options);
    for is_served in [true, false] {
        let client = server.client();
        let begun = Instant::now();
        let location = client.begin_upload("app");
        let location = client.patch(&location, None, &[7; 100_000]).expect(202).location();
        let uploads = staged(&server.root());
        assert_eq!(uploads.len(), 1);
        let early = report(&server, &["-d"]);
        assert!(early["uploads"] == 0 || begun.elapsed() > AGE, "it is young: {early}");
        eventually("it is old", || (report(&server, &["-d"])["uploads"] == 1).then_some(()));
        if !is_served {
            server.stop();
        }
        let text = collect(&server, &["-d"]);
        assert!(text.contains("1 abandoned uploads would be removed"), "{text}");
        assert_eq!(staged(&server.root()), uploads, "a dry run");
        if is_served {
            let _ = client.get(&location).expect(204);
        }
        let text = collect(&server, &[]);
        assert!(text.contains("1 abandoned uploads were removed"), "{text}");
        assert!(staged(&server.root()).is_empty());
        assert_eq!(report(&server, &[])["uploads"], json!(0), "no second time");
        if !is_served {
            server.start_again();
        }
        let answer = server.client().get(&location);
        let _ = answer.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn a_running_server_keeps_its_grace() {
    let server = Server::start();
    let output = run(&server, &["--grace", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("stop it first, or leave --grace out"), "{error}");
    assert_eq!(run(&server, &["--grace", "soon"]).status.code(), Some(2));
}

#[test]
fn what_is_pushed_again_while_it_goes_is_there() {
    let server = Server::with(hasty());
    let images: Vec<_> = (0..12).map(|_| Image::random(&[1000, 80_000])).collect();
    std::thread::scope(|scope| {
        for (number, image) in images.iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let client = server.client();
                let repo = format!("app{}", number % 3);
                for round in 0..3_u64 {
                    image.push(&client, &repo, &format!("v{number}"));
                    delete(server, &repo, &image.digest());
                    let pause = 800 + 60 * number as u64 + 40 * round;
                    std::thread::sleep(Duration::from_millis(pause));
                    image.push(&client, &repo, &format!("v{number}"));
                    image.assert_pullable(&client, &repo, &image.digest());
                }
            });
        }
    });
    for (number, image) in images.iter().enumerate() {
        let repo = format!("app{}", number % 3);
        image.assert_pullable(&server.client(), &repo, &format!("v{number}"));
    }
}

#[test]
fn a_collector_that_is_killed_goes_on_after_the_next_start() {
    let mut server = Server::with(hasty());
    let client = server.client();
    let kept = Image::random(&[70_000]);
    kept.push(&client, "app", "kept");
    let doomed: Vec<_> =
        (0..300).map(|n| random_bytes(if n % 3 == 0 { 70_000 } else { 10 })).collect();
    let doomed: Vec<_> = doomed.iter().map(|bytes| client.push_blob("doomed", bytes)).collect();
    for pause_ms in [900, 200, 50] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        server.kill();
        server.start_again();
    }
    eventually("all files go", || {
        let files = blob_files(&server.root());
        doomed.iter().all(|digest| !files.contains(digest)).then_some(())
    });
    kept.assert_pullable(&server.client(), "app", "kept");
}
