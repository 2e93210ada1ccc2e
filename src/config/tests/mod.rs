//! The rules, on configurations that stand in the field.

mod documents;
mod variables;

use super::*;
use crate::http::options::Listen;
use crate::ops::telemetry::{Format, Level};
use crate::registry::{Platform, Sparse};

const MINIMAL: &str = "version: 0.1\nstorage: filesystem\nhttp: {addr: ':5000'}\n";

/// registry:2.6 to 2.8, `/etc/docker/registry/config.yml`; the lab shows this one.
const IMAGE_V2: &str = "version: 0.1
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

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables: Vec<(String, String)> = variables.iter().map(own).collect();
    Config::from_text(text, Some(PathBuf::from("c.yml")), &variables)
}

fn minimal_with(more: &str) -> Loaded {
    load(&format!("{MINIMAL}{more}"), &[]).unwrap()
}

/// The problems of a configuration, each as the operator reads it.
fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load(text, variables) {
        Err(ConfigError::Invalid(problems)) => problems.iter().map(Problem::to_string).collect(),
        other => panic!("expected problems, not {other:?}"),
    }
}

fn warnings(loaded: &Loaded) -> Vec<&str> {
    let warnings = loaded.notices.iter().filter(|it| it.severity == Severity::Warning);
    warnings.map(|it| it.text.as_str()).collect()
}

fn setting<'a>(loaded: &'a Loaded, key: &str) -> &'a Setting {
    loaded.settings.iter().find(|setting| setting.key == key).unwrap()
}

/// Everything that must be equal for two configurations to mean the same.
fn meaning(loaded: &Loaded) -> String {
    let values: Vec<_> = loaded.settings.iter().map(|it| (&it.key, &it.value)).collect();
    format!("{:?} {values:?}", loaded.config)
}

#[test]
fn the_image_configuration_of_version_2_runs_without_a_warning() {
    let loaded = load(IMAGE_V2, &[]).unwrap();
    assert_eq!(warnings(&loaded), Vec::<&str>::new());
    assert_eq!(
        loaded.notices.iter().map(|it| it.text.as_str()).collect::<Vec<_>>(),
        ["accepted without effect: storage.cache (the database has its own cache), \
             health.storagedriver (/readyz watches the store)"]
    );
    let Config { log, root, registry, http, .. } = loaded.config;
    assert_eq!(log.fields.get("service").map(String::as_str), Some("registry"));
    assert_eq!((log.level, log.format), (Level::Info, Format::Text));
    assert_eq!(root, Path::new("/var/lib/registry"));
    assert_eq!(http.listen, Listen::Tcp(":5000".to_owned()));
    let nosniff = ("X-Content-Type-Options".to_owned(), vec!["nosniff".to_owned()]);
    assert_eq!(http.headers, [nosniff]);
    assert!(!registry.delete_enabled, "distribution's default with a file");
    assert_eq!(registry.upload_purging.unwrap().age.as_secs(), 168 * 3600);
}

#[test]
fn the_image_configuration_of_version_3_runs_without_a_warning() {
    let text = IMAGE_V2.replace("  filesystem:", "  tag:\n    concurrencylimit: 8\n  filesystem:");
    assert_eq!(warnings(&load(&text, &[]).unwrap()), Vec::<&str>::new());
}

#[test]
fn the_lab_changes_the_port_with_sed() {
    let loaded = load(&IMAGE_V2.replace("5000", "80"), &[]).unwrap();
    assert_eq!(loaded.config.http.listen, Listen::Tcp(":80".to_owned()));
}

#[test]
fn embedded_defaults_are_for_this_machine_with_deletion() {
    let loaded = Config::load(None, std::iter::empty()).unwrap();
    assert_eq!(loaded.notices, []);
    assert_eq!(loaded.path, None);
    assert_eq!(loaded.config.http.listen, Listen::Tcp("127.0.0.1:5000".to_owned()));
    assert_eq!(loaded.config.root, Path::new("./kelson-data"));
    assert!(loaded.config.registry.delete_enabled);
    assert!(loaded.config.registry.urls_allow.is_empty(), "foreign layers are accepted");
    assert!(loaded.config.http.access_log);
    assert!(loaded.settings.iter().all(|it| it.origin == Origin::Default));
}

#[test]
fn a_variable_names_the_file_and_an_argument_goes_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1.yml"), folder.path().join("2.yml"));
    std::fs::write(&first, MINIMAL).unwrap();
    std::fs::write(&second, MINIMAL).unwrap();
    let variable = || {
        let value = first.to_str().unwrap().to_owned();
        [("REGISTRY_CONFIGURATION_PATH".to_owned(), value)].into_iter()
    };
    let loaded = Config::load(None, variable()).unwrap();
    assert_eq!((loaded.path.as_ref(), loaded.notices.len()), (Some(&first), 0));
    assert_eq!(Config::load(Some(&second), variable()).unwrap().path, Some(second));
    let missing = Config::load(Some(&folder.path().join("3.yml")), std::iter::empty());
    assert!(matches!(missing, Err(ConfigError::Read { .. })));
}

#[test]
fn a_file_larger_than_any_configuration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yml");
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    let loaded = Config::load(Some(&path), std::iter::empty());
    assert!(matches!(loaded, Err(ConfigError::TooLarge { .. })));
}

#[test]
fn every_wrong_value_is_reported_at_once_with_place_value_and_what_is_allowed() {
    let text = "version: 0.2
log: {level: loud, formatter: [x]}
storage:
  filesystem: {rootdirectory: /a}
  delete: {enabled: maybe}
  maintenance:
    uploadpurging: {age: 7d, interval: 0s}
http:
  addr: '5000'
  prefix: v2
  host: registry.example.com
  net: udp
  draintimeout: -1s
  headers: {Content-Length: ['1']}
catalog: {maxentries: 0}
validation: {manifests: {urls: {allow: ['(']}}}
kelson: {storage: {smallcontents: 2MiB}, limits: 7}
";
    let found = problems(text, &[]);
    let expected = [
        "c.yml:1: version is \"0.2\"; allowed: 0.1",
        "c.yml:2: log.level is \"loud\"; allowed: one of error, warn, info, debug",
        "c.yml:2: log.formatter is a list; allowed: one of text, json, logstash",
        "c.yml:5: storage.delete.enabled is \"maybe\"; allowed: true or false",
        "c.yml:7: storage.maintenance.uploadpurging.age is \"7d\"; \
         allowed: a duration above zero such as 10s, 1h30m or 168h",
        "c.yml:7: storage.maintenance.uploadpurging.interval is \"0s\"; \
         allowed: a duration above zero such as 10s, 1h30m or 168h",
        "c.yml:9: http.addr is \"5000\"; \
         allowed: host:port, such as :5000, 127.0.0.1:5000 or [::1]:5000",
        "c.yml:10: http.prefix is \"v2\"; \
         allowed: a path that begins and ends with /, such as / or /registry/",
        "c.yml:11: http.host is \"registry.example.com\"; \
         allowed: an absolute URL, such as https://registry.example.com:5000",
        "c.yml:12: http.net is \"udp\"; allowed: one of tcp, unix",
        "c.yml:13: http.draintimeout is \"-1s\"; allowed: a duration such as 10s, 1h30m or 168h",
        "c.yml:14: http.headers.Content-Length is not usable; \
         allowed: any header but those that decide where a message ends",
        "c.yml:15: catalog.maxentries is \"0\"; allowed: a whole number from 1 to 1000000",
        "c.yml:16: validation.manifests.urls.allow is \"(\"; \
         allowed: regular expressions of Go (RE2)",
        "c.yml:17: kelson.storage.smallcontents is \"2MiB\"; \
         allowed: a size such as 4096, 64KiB or 16MiB, from 0 to 1048576 bytes",
        "c.yml:17: kelson.limits is \"7\"; allowed: a section with the keys headertimeout, \
         idletimeout, bodyrate, bodywindow, connections, uploadsperrepository, uploads",
    ];
    for line in expected {
        assert!(found.iter().any(|it| it == line), "{line}\nis not in\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
}

#[test]
fn required_settings_are_named_when_they_are_missing() {
    let expected = [
        "storage has no driver; required: filesystem with its rootdirectory",
        "version is empty; allowed: 0.1",
        "http.addr is empty; allowed: host:port, such as :5000",
    ];
    assert_eq!(problems("", &[]), expected);
    assert_eq!(problems("# nothing\n---\n", &[]), expected);
}

#[test]
fn text_that_is_no_yaml_names_its_line() {
    let found = problems("version: 0.1\nhttp: [\n", &[]);
    assert!(found[0].starts_with("c.yml:"), "{found:?}");
    assert!(found[0].contains("not valid YAML"), "{found:?}");
    assert!(problems("- a\n- b\n", &[]).iter().any(|it| it.contains("is a list")));
}

#[test]
fn what_would_change_behaviour_and_is_not_there_refuses_to_start() {
    for (more, key) in [
        ("auth: {htpasswd: {realm: r, path: /p}}", "auth"),
        ("auth: token", "auth"),
        ("auth: {silly: {}}", "auth"),
        ("proxy: {remoteurl: 'https://registry-1.docker.io'}", "proxy.remoteurl"),
        ("notifications: {endpoints: [{name: a, url: 'http://a'}]}", "notifications.endpoints"),
        (
            "notifications: {endpoints: [{name: a, disabled: true}, {name: b, url: x}]}",
            "notifications.endpoints",
        ),
        ("middleware: {storage: [{name: cloudfront, options: {a: b}}]}", "middleware.storage"),
        ("middleware: {registry: [{name: x}]}", "middleware.registry"),
        ("middleware: {repository: [{name: x}]}", "middleware.repository"),
        ("policy: {repository: {classes: [image]}}", "policy.repository.classes"),
    ] {
        let found = problems(&format!("{MINIMAL}{more}\n"), &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("c.yml:4: {key} asks for")), "{found:?}");
    }
    for (http, key) in [
        ("tls: {certificate: /c, key: /k}", "http.tls"),
        ("tls: {letsencrypt: {cachefile: /c}}", "http.tls"),
        ("tls: {clientcas: [/c]}", "http.tls"),
        ("h2c: {enabled: true}", "http.h2c.enabled"),
    ] {
        let text = format!("version: 0.1\nstorage: filesystem\nhttp: {{addr: ':5000', {http}}}\n");
        let found = problems(&text, &[]);
        assert!(found.len() == 1 && found[0].contains(&format!("{key} asks for")), "{found:?}");
    }
}

#[test]
fn an_empty_or_disabled_section_asks_for_nothing() {
    for more in [
        "auth: none",
        "auth: {none: {}}",
        "auth: {}",
        "auth:",
        "proxy:",
        "proxy: {remoteurl: ''}",
        "proxy: {ttl: 168h}",
        "notifications: {endpoints: []}",
        "notifications:",
        "notifications: {endpoints: [{name: a, url: x, disabled: true}]}",
        "notifications: {events: {includereferences: true}}",
        "middleware: {storage: [{name: redirect, disabled: true, options: {baseurl: x}}]}",
        "middleware: {registry: []}",
        "policy: {repository: {classes: []}}",
        "redis: {}",
        "reporting:",
        "health:",
        "compatibility: {schema1: {}}",
    ] {
        assert_eq!(minimal_with(&format!("{more}\n")).notices, [], "{more}");
    }
    for http in
        ["tls:", "tls: {}", "tls: {certificate: '', minimumtls: tls1.2}", "h2c: {enabled: no}"]
    {
        let text = format!("version: 0.1\nstorage: filesystem\nhttp: {{addr: ':5000', {http}}}\n");
        assert_eq!(load(&text, &[]).unwrap().notices, [], "{http}");
    }
}

#[test]
fn what_has_no_effect_is_accepted_with_one_warning_each() {
    let loaded = minimal_with(
        "redis: {addr: 'r:6379', db: 0}\nreporting: {newrelic: {licensekey: k}}\n\
         health: {tcp: [{addr: 'a:1', interval: 5s}]}\n\
         log: {hooks: [{type: mail, levels: [panic]}]}\n",
    );
    assert_eq!(
        warnings(&loaded),
        [
            "c.yml:7: log.hooks is accepted without effect: mail on log records is not there yet",
            "c.yml:6: health.tcp is accepted without effect: own health checks are not there yet",
            "c.yml:5: reporting is accepted without effect: Kelson reports to nobody",
            "c.yml:4: redis is accepted without effect: \
             Kelson needs no cache beside its database",
        ]
    );
}

#[test]
fn storage_has_exactly_one_driver_and_it_is_the_file_system() {
    let with = |storage: &str| format!("version: 0.1\nstorage: {storage}\nhttp: {{addr: ':1'}}\n");
    for (storage, expected) in [
        ("{}", "storage has no driver"),
        ("{delete: {enabled: true}}", "storage has no driver"),
        ("inmemory", "storage.inmemory loses every image"),
        ("{s3: {region: a, bucket: b}}", "storage.s3 is not there"),
        ("{gcs: {bucket: b}}", "storage.gcs is not there"),
        ("{azure: }", "storage.azure is not there"),
        ("swift", "storage.swift is not there"),
        ("oss", "storage.oss is not there"),
        ("filesytem", "storage.filesytem is no storage driver, use storage.filesystem; nearest is"),
        ("[a]", "storage is a list; allowed: a section with the keys"),
    ] {
        let found = problems(&with(storage), &[]);
        assert!(found.len() == 1 && found[0].contains(expected), "{storage}: {found:?}");
    }
    let found = problems(&with("{filesystem: {}, s3: {}}"), &[]);
    assert!(found.iter().any(|it| it.contains("storage has filesystem and s3")), "{found:?}");
    let loaded = load(&with("{filesystem: {rootdirectory: /a, maxthreads: 25}}"), &[]).unwrap();
    assert_eq!(loaded.config.root, Path::new("/a"));
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_known_one() {
    for (more, expected) in [
        ("htpp: {}", "c.yml:4: htpp is not known, so ignored; nearest is http"),
        (
            "delete: {enabled: true}",
            "c.yml:4: delete is not known, so ignored; nearest is storage.delete",
        ),
        (
            "kelson: {gc: {Grace: 1h}}",
            "c.yml:4: kelson.gc.Grace is not known, so ignored; nearest is kelson.gc.grace",
        ),
        (
            "log: {hooks: [{tipe: mail}]}",
            "c.yml:4: log.hooks[0].tipe is not known, so ignored; nearest is log.hooks[].type",
        ),
        ("zzzzzzzz: 1", "c.yml:4: zzzzzzzz is not known, so ignored"),
    ] {
        let loaded = minimal_with(&format!("{more}\n"));
        assert!(warnings(&loaded).contains(&expected), "{more}: {:?}", loaded.notices);
    }
}

#[test]
fn a_repeated_key_is_a_warning_and_the_last_one_counts() {
    let loaded = minimal_with("catalog: {maxentries: 5}\ncatalog: {maxentries: 6}\n");
    assert_eq!(loaded.config.http.catalog_entries_max, 6);
    assert_eq!(warnings(&loaded), ["c.yml:5: catalog stands here a second time; this one counts"]);
}

#[test]
fn upload_purging_takes_what_is_there_and_defaults_for_the_rest() {
    let with = |purging: &str| {
        load(
            &format!(
                "version: 0.1\n\
                 storage: {{filesystem: , maintenance: {{uploadpurging: {purging}}}}}\n\
                 http: {{addr: ':1'}}\n"
            ),
            &[],
        )
        .unwrap()
        .config
        .registry
        .upload_purging
    };
    let purging = with("{age: 1h, dryrun: true}").unwrap();
    assert_eq!((purging.age.as_secs(), purging.interval.as_secs()), (3600, 86_400));
    assert!(purging.dry_run);
    assert_eq!(with("{enabled: false}"), None);
    assert!(with("").is_some());
}

#[test]
fn validation_is_that_of_distribution() {
    let options = |more: &str| minimal_with(&format!("{more}\n")).config.registry;
    let open = options("");
    assert_eq!((open.sparse, open.urls_allow.len(), open.platforms), (Sparse::None, 0, None));
    let off = options("validation: {disabled: true, manifests: {urls: {allow: [a]}}}");
    assert_eq!((off.sparse, off.urls_allow.len()), (Sparse::All, 0));
    let both =
        options("validation: {disabled: true, enabled: true, manifests: {urls: {allow: [a]}}}");
    assert_eq!((both.sparse, both.urls_allow.len()), (Sparse::None, 1));
    let own = options("validation: {disabled: true}\nkelson: {manifests: {sparse: indexes}}");
    assert_eq!(own.sparse, Sparse::Indexes);
    let none = options("validation: {enabled: true}");
    assert!(!none.urls_allow[0].is_match("https://a/b"), "no list: no URL");
    let some = options("validation: {manifests: {urls: {allow: ['^https://a/'], deny: ['x$']}}}");
    assert!(
        some.urls_allow[0].is_match("https://a/b") && some.urls_deny[0].is_match("https://a/x")
    );
    let listed = options(
        "validation: {manifests: {indexes: {platforms: List, \
         platformlist: [{architecture: amd64, os: linux}]}}}",
    );
    let amd64 = Platform { architecture: "amd64".to_owned(), os: "linux".to_owned() };
    assert_eq!(listed.platforms, Some(vec![amd64]));
    let no_platform = options("validation: {manifests: {indexes: {platforms: none}}}");
    assert_eq!(no_platform.platforms, Some(Vec::new()));
}

#[test]
fn the_deprecated_level_counts_where_the_new_one_is_not_set() {
    let loaded = minimal_with("loglevel: debug\n");
    assert_eq!(loaded.config.log.level, Level::Debug);
    assert_eq!(setting(&loaded, "log.level").value, "debug");
    assert_eq!(warnings(&loaded), ["c.yml:4: loglevel is deprecated; use log.level"]);
    let loaded = minimal_with("loglevel: debug\nlog: {level: error}\n");
    assert_eq!(loaded.config.log.level, Level::Error);
}

#[test]
fn a_bare_duration_is_nanoseconds_and_said_to_be() {
    let loaded = minimal_with("kelson: {gc: {unsafe: true, grace: 60, lease: 0s}}\n");
    assert_eq!(loaded.config.registry.gc_grace.as_nanos(), 60);
    assert_eq!(
        warnings(&loaded),
        ["c.yml:4: kelson.gc.grace is 60 nanoseconds, as in distribution; 60s is seconds"]
    );
}

#[test]
fn the_collector_waits_an_hour_at_least_unless_it_is_told_to_be_unsafe() {
    let problems = |gc: &str| {
        let text = format!("{MINIMAL}kelson: {{gc: {{{gc}}}}}\n");
        load(&text, &[]).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(problems("grace: 1h, lease: 1h, untagged: 1h"), Ok(()));
    assert_eq!(problems("grace: 0s, lease: 1s, unsafe: true"), Ok(()));
    for (gc, expected) in [
        ("grace: 59m", "kelson.gc.grace is \"59m\"; allowed: 1h or longer, unless"),
        ("lease: 1s", "kelson.gc.lease is \"1s\"; allowed: 1h or longer, unless"),
        ("untagged: 23h", "kelson.gc.untagged is \"23h\"; allowed: a duration not below"),
    ] {
        let error = problems(gc).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_unix_socket_takes_a_path() {
    let text = "version: 0.1\nstorage: filesystem\nhttp: {net: unix, addr: /run/kelson.sock}\n";
    let listen = load(text, &[]).unwrap().config.http.listen;
    assert_eq!(listen, Listen::Unix("/run/kelson.sock".into()));
}

fn tree_of(text: &str) -> Node {
    tree::parse(text, |_| Origin::Default).unwrap().root
}
