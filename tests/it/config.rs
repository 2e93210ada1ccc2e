//! Settings: what they change, and what the server does with wrong ones.

use std::fs;

use crate::support::server::{refusal, root};
use crate::support::{Image, OCI_MANIFEST, Options, Server, sha256};

/// The configuration of the published images of `registry:2`.
const LAB: &str = "\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

/// What the server says when it refuses this file.
fn refused(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let text = refusal(&Options::default().config(config), folder.path());
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn configuration_of_the_published_image_works_and_does_not_delete() {
    let server = Server::with(Options::default().config(LAB));
    let client = server.client();
    let image = Image::random(&[100]);
    image.push(&client, "app", "v1");
    image.assert_pullable(&client, "app", "v1");
    for path in [
        format!("/v2/app/manifests/{}", image.digest()),
        "/v2/app/manifests/v1".to_owned(),
        format!("/v2/app/blobs/{}", sha256(&image.config)),
    ] {
        let _ = client.delete(&path).expect_error(405, "UNSUPPORTED");
    }
    image.assert_pullable(&client, "app", "v1");
}

#[test]
fn read_only_registry_is_read_and_not_written() {
    let mut server = Server::start();
    let image = Image::random(&[100]);
    image.push(&server.client(), "app", "v1");
    server.stop();
    let folder = server.take_folder();
    let readonly = r#"{"enabled":true}"#;
    let options = Options::default().env("REGISTRY_STORAGE_MAINTENANCE_READONLY", readonly);
    let server = Server::in_folder(options, folder);
    let client = server.client();
    image.assert_pullable(&client, "app", "v1");
    let digest = image.digest();
    let writes = [
        client.request("POST", "/v2/app/blobs/uploads/").send(),
        client.put_manifest("app", "v2", OCI_MANIFEST, &image.manifest),
        client.delete(&format!("/v2/app/manifests/{digest}")),
        client.delete(&format!("/v2/app/blobs/{}", sha256(&image.config))),
    ];
    for answer in writes {
        let answer = answer.expect(405);
        let allow = answer.header("allow").expect("an Allow");
        assert!(["POST", "PUT", "PATCH", "DELETE"].iter().all(|it| !allow.contains(it)), "{allow}");
    }
    assert_eq!(client.tags("app"), ["v1"]);
}

#[test]
fn configured_headers_are_on_every_answer() {
    let config = "\
version: 0.1
storage: filesystem
http:
  headers:
    X-Content-Type-Options: [nosniff]
    Strict-Transport-Security: [max-age=63072000]
    Access-Control-Allow-Origin: ['https://ui.test', 'https://other.test']
";
    let server = Server::with(Options::default().config(config));
    let client = server.client();
    let asked =
        [("GET", "/v2/"), ("GET", "/v2/app/tags/list"), ("PUT", "/v2/"), ("OPTIONS", "/v2/")];
    for (method, path) in asked {
        let answer = client.request(method, path).send();
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=63072000"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let origins: Vec<_> =
            answer.headers.get_all("access-control-allow-origin").iter().collect();
        assert_eq!(origins, ["https://ui.test", "https://other.test"]);
    }
}

#[test]
fn prefix_moves_the_whole_service() {
    let options = Options::default().env("REGISTRY_HTTP_PREFIX", "/registry/");
    let server = Server::with_probe(options, "/registry/v2/");
    let client = server.client();
    let _ = client.get("/registry/v2/").expect(200);
    let _ = client.get("/v2/").expect(404);
    let begun = client.request("POST", "/registry/v2/app/blobs/uploads/").send().expect(202);
    assert!(begun.location().starts_with("/registry/v2/app/blobs/uploads/"));
    let put = client.finish(&begun.location(), &sha256(b"x"), b"x").expect(201);
    assert_eq!(put.location(), format!("/registry/v2/app/blobs/{}", sha256(b"x")));
    assert_eq!(client.get(&put.location()).expect(200).body, b"x");
}

#[test]
fn host_makes_locations_absolute() {
    let host = "https://registry.test:8443";
    let server = Server::with(Options::default().env("REGISTRY_HTTP_HOST", host));
    let client = server.client();
    let location = client.request("POST", "/v2/app/blobs/uploads/").send().expect(202).location();
    let path = location.strip_prefix(host).expect("an absolute Location");
    let put = client.finish(path, &sha256(b"x"), b"x").expect(201);
    assert_eq!(put.location(), format!("{host}/v2/app/blobs/{}", sha256(b"x")));
}

#[test]
fn manifest_limit_is_a_setting() {
    let options = Options::default().env("REGISTRY_KELSON_MANIFESTS_MAXSIZE", "2KiB");
    let server = Server::with(options);
    let client = server.client();
    let image = Image::random(&[]);
    image.push(&client, "app", "v1");
    let put = client.put_manifest("app", "v2", OCI_MANIFEST, &[b' '; 2049]);
    let _ = put.expect_error(413, "MANIFEST_INVALID");
}

#[test]
fn environment_wins_over_the_file() {
    let config = format!("{LAB}catalog:\n  maxentries: 3\n");
    let options = Options::default()
        .config(&config)
        .env("REGISTRY_CATALOG_MAXENTRIES", "4")
        .env("REGISTRY_STORAGE_DELETE_ENABLED", "true");
    let server = Server::with(options);
    let client = server.client();
    let _ = client.get("/v2/_catalog?n=4").expect(200);
    let _ = client.get("/v2/_catalog?n=5").expect(400);
    let digest = client.push_blob("app", b"x");
    let _ = client.delete(&format!("/v2/app/blobs/{digest}")).expect(202);
}

#[test]
fn variables_of_kubernetes_do_not_hurt() {
    let options = Options::default()
        .env("REGISTRY_PORT", "tcp://10.0.0.1:5000")
        .env("REGISTRY_SERVICE_HOST", "10.0.0.1")
        .env("REGISTRY_PORT_5000_TCP_ADDR", "10.0.0.1");
    let server = Server::with(options);
    let _ = server.client().get("/v2/").expect(200);
}

#[test]
fn unknown_key_is_a_warning_with_the_nearest_known_one() {
    let config = LAB.replace("  addr: :5000", "  addr: :5000\n  relativeurl: true");
    let server = Server::with(Options::default().config(&config));
    let log = server.log();
    assert!(log.contains("http.relativeurl") && log.contains("relativeurls"), "{log}");
}

#[test]
fn keys_without_meaning_here_are_accepted_with_a_warning() {
    let config = format!("{LAB}redis:\n  addrs: [localhost:6379]\n");
    let server = Server::with(Options::default().config(&config));
    let log = server.log();
    assert!(log.contains("redis") && log.contains("storage.cache"), "{log}");
}

#[test]
fn settings_that_would_change_behaviour_refuse_to_start() {
    let cases = [
        ("auth:\n  htpasswd:\n    realm: r\n    path: /x\n", "auth"),
        ("proxy:\n  remoteurl: https://registry-1.docker.io\n", "proxy"),
        (
            "notifications:\n  endpoints:\n    - name: a\n      url: http://localhost\n",
            "notifications",
        ),
        ("middleware:\n  storage:\n    - name: redirect\n", "middleware"),
    ];
    for (more, key) in cases {
        let text = refused(&format!("{LAB}{more}"));
        assert!(text.contains(key), "{key}: {text}");
    }
    let tls = LAB.replace("  addr: :5000", "  tls:\n    certificate: /a\n    key: /b");
    assert!(refused(&tls).contains("http.tls"));
    let cloud =
        LAB.replace("  filesystem:\n    rootdirectory: /var/lib/registry", "  s3:\n    bucket: b");
    assert!(refused(&cloud).contains("s3"));
}

#[test]
fn wrong_value_names_file_key_value_and_what_is_allowed() {
    let cases = [
        (LAB.replace("version: 0.1", "version: 7"), "version", "7"),
        (LAB.replace("log:\n", "log:\n  level: loud\n"), "log.level", "loud"),
        (LAB.replace("addr: :5000", "addr: nowhere"), "http.addr", "nowhere"),
        (format!("{LAB}catalog:\n  maxentries: many\n"), "catalog.maxentries", "many"),
        (
            format!("{LAB}kelson:\n  manifests:\n    sparse: most\n"),
            "kelson.manifests.sparse",
            "most",
        ),
        (LAB.replace("addr: :5000", "draintimeout: soon"), "http.draintimeout", "soon"),
        (LAB.replace("addr: :5000", "prefix: registry"), "http.prefix", "registry"),
    ];
    for (config, key, value) in cases {
        let options = Options::default().config(&config).without_env("REGISTRY_HTTP_ADDR");
        let folder = tempfile::tempdir().unwrap();
        let text = refusal(&options, folder.path());
        for part in ["config.yml", key, value] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
    assert!(refused("version: 0.1\n  storage: [").contains("config.yml"));
}

#[test]
fn store_of_distribution_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let link = root(folder.path()).join("docker/registry/v2/repositories/app/_manifests/tags");
    fs::create_dir_all(link).unwrap();
    let text = refusal(&Options::default(), folder.path());
    assert!(text.contains("distribution"), "{text}");
    assert!(!root(folder.path()).join("kelson").exists());
}

#[test]
fn store_without_its_database_is_refused() {
    let mut server = Server::start();
    Image::random(&[100]).push(&server.client(), "app", "v1");
    server.stop();
    let folder = server.take_folder();
    fs::remove_file(root(folder.path()).join("kelson/metadata.redb")).unwrap();
    let text = refusal(&Options::default(), folder.path());
    assert!(text.contains("metadata.redb"), "{text}");
}

#[test]
fn access_log_is_combined_log_format() {
    let mut server = Server::start();
    let client = server.client();
    let request = client.request("GET", "/v2/app/tags/list?n=1");
    let _ = request.header("User-Agent", "agent \"quoted\"").header("Referer", "r").send();
    let (_, log) = server.stop();
    let line = log.lines().find(|line| line.contains("/v2/app/tags/list")).unwrap().to_owned();
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("] \"GET /v2/app/tags/list?n=1 HTTP/1.1\" 404 "), "{line}");
    assert!(line.contains("\"r\" \"agent \\\"quoted\\\"\""), "{line}");

    let mut quiet = Server::with(Options::default().env("REGISTRY_LOG_ACCESSLOG_DISABLED", "true"));
    let _ = quiet.client().get("/v2/app/tags/list");
    let (_, log) = quiet.stop();
    assert!(!log.contains("GET /v2/app/tags/list"), "{log}");
}

#[test]
fn log_is_json_when_asked_for_with_its_fields() {
    let config = LAB
        .replace("log:\n", "log:\n  formatter: json\n  accesslog:\n    disabled: true\n")
        .replace("service: registry", "service: registry\n    environment: staging");
    let mut server = Server::with(Options::default().config(&config));
    let request = server.client();
    let request =
        request.request("GET", "/v2/").header("User-Agent", "x\t\"}\t{\"level\":\"error\"");
    let _ = request.send().expect(200);
    let (_, log) = server.stop();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_eq!(line["environment"], "staging", "{line}");
        assert_eq!(line["service"], "registry", "{line}");
    }
}
