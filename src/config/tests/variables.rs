//! `REGISTRY_*` variables, and what no file and no variable may do.

use proptest::prelude::*;

use super::*;
use crate::config::keys::{EFFECTIVE, Key};
use crate::config::schema::Kind;

#[test]
fn variables_go_before_the_file_by_field_or_by_key() {
    let loaded = load(
        IMAGE_V2,
        &[
            ("REGISTRY_HTTP_ADDR", ":80"),
            ("REGISTRY_LOG_LEVEL", "debug"),
            ("REGISTRY_LOG_FIELDS_ENVIRONMENT", "staging"),
            ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/data"),
            ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
            ("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{\"enabled\":true}"),
            ("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE", "1h"),
            ("REGISTRY_HTTP_HEADERS_X-CONTENT-TYPE-OPTIONS", "[sniff]"),
            ("REGISTRY_HTTP_HEADERS_X-OWN", "[a, b]"),
            ("REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW", "['^https://a/']"),
            ("REGISTRY_KELSON_MANIFESTS_SPARSE", "all"),
            ("REGISTRY_HTTP_SECRET", "0123"),
        ],
    )
    .unwrap();
    assert_eq!(warnings(&loaded), Vec::<&str>::new());
    let Config { log, root, registry, http, .. } = &loaded.config;
    assert_eq!(http.listen, Listen::Tcp(":80".to_owned()));
    assert_eq!(log.level, Level::Debug);
    assert_eq!(log.fields.get("environment").map(String::as_str), Some("staging"));
    assert_eq!(log.fields.get("service").map(String::as_str), Some("registry"));
    assert_eq!(root, Path::new("/data"));
    assert!(registry.delete_enabled && registry.read_only);
    assert_eq!(registry.upload_purging.unwrap().age.as_secs(), 3600);
    assert_eq!(registry.sparse, Sparse::All);
    assert!(registry.urls_allow[0].is_match("https://a/"));
    let header = |name: &str, values: &[&str]| {
        (name.to_owned(), values.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(
        http.headers,
        [header("X-Content-Type-Options", &["sniff"]), header("x-own", &["a", "b"])]
    );
    assert_eq!(
        setting(&loaded, "http.addr").origin.to_string(),
        "environment variable REGISTRY_HTTP_ADDR"
    );
    assert_eq!(setting(&loaded, "http.secret").value, "(set)");
}

#[test]
fn variables_apply_in_the_order_of_their_names() {
    let text = "version: 0.1
storage: {s3: {bucket: b}, delete: {enabled: true}}
http: {addr: ':1'}
";
    let inner = ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/b");
    let outer = ("REGISTRY_STORAGE", "filesystem");
    for variables in [[inner, outer], [outer, inner]] {
        let loaded = load(text, &variables).unwrap();
        assert_eq!(loaded.config.root, Path::new("/b"));
        assert!(!loaded.config.registry.delete_enabled, "the whole section was replaced");
    }
    let whole = [("REGISTRY_STORAGE", "{filesystem: {rootdirectory: /c}, delete: {enabled: yes}}")];
    let loaded = load(MINIMAL, &whole).unwrap();
    assert_eq!(loaded.config.root, Path::new("/c"));
    assert!(loaded.config.registry.delete_enabled);
}

#[test]
fn the_nested_form_of_read_only_works_too() {
    let variable = [("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")];
    assert!(load(MINIMAL, &variable).unwrap().config.registry.read_only);
}

#[test]
fn segments_are_go_fields() {
    let loaded = load(
        MINIMAL,
        &[
            ("REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES", "true"),
            ("REGISTRY_NOTIFICATIONS_EVENTS_INCLUDEREFERENCES", "true"),
            ("REGISTRY_HEALTH_FILECHECKERS_0_FILE", "/a"),
            ("REGISTRY_COMPATIBILITY_SCHEMA1_TRUSTKEY", "/k"),
            ("REGISTRY_LOG_HOOKS_0_MAILOPTIONS_SMTP_ADDR", "m:25"),
        ],
    )
    .unwrap();
    let texts = warnings(&loaded).join("\n");
    assert!(!texts.contains("ignored"), "{texts}");
    for key in ["health.file", "compatibility", "log.hooks"] {
        assert!(texts.contains(&format!("{key} is accepted without effect")), "{texts}");
    }
}

#[test]
fn lists_take_an_index_and_the_next_one_appends() {
    let name = "REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW";
    let indexed = |index: &str| format!("{name}_{index}");
    let text = format!("{MINIMAL}validation: {{manifests: {{urls: {{allow: [a, b]}}}}}}\n");
    let loaded = load(&text, &[(&indexed("1"), "c"), (&indexed("2"), "d")]).unwrap();
    let patterns: Vec<_> = loaded.config.registry.urls_allow.iter().map(|it| it.as_str()).collect();
    assert_eq!(patterns, ["a", "c", "d"]);
    for wrong in ["4", "x", "-1"] {
        let variable = indexed(wrong);
        let found = problems(&text, &[(&variable, "e")]);
        assert_eq!(
            found,
            [format!(
                "environment variable {variable}: undefined index {wrong:?}; allowed: 0 to 2"
            )]
        );
    }
    let fields = [("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://a")];
    assert!(problems(MINIMAL, &fields)[0].contains("notifications.endpoints asks for"));
}

#[test]
fn a_variable_that_leads_nowhere_is_a_warning() {
    for (name, expected) in [
        ("REGISTRY_HTTP_ADR", "there is no key http.adr; nearest is http.addr"),
        ("REGISTRY_FOO_BAR", "there is no key foo"),
        ("REGISTRY_HTTP_ADDR_X", "its name goes on after a single value"),
        ("REGISTRY_VERSION", "the version is that of the file"),
        ("REGISTRY_", "there is no key"),
    ] {
        let loaded = load(MINIMAL, &[(name, "0.2")]).unwrap();
        let texts = warnings(&loaded);
        let start = format!("environment variable {name}: ignored, {expected}");
        assert!(texts.len() == 1 && texts[0].starts_with(&start), "{texts:?}");
    }
    assert_eq!(load(MINIMAL, &[("REGISTRYHTTP", "x"), ("PATH", "y")]).unwrap().notices, []);
}

#[test]
fn service_links_of_kubernetes_are_one_warning() {
    let links = [
        ("REGISTRY_PORT", "tcp://10.0.0.1:5000"),
        ("REGISTRY_PORT_5000_TCP", "tcp://10.0.0.1:5000"),
        ("REGISTRY_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("REGISTRY_PORT_5000_TCP_PORT", "5000"),
        ("REGISTRY_PORT_5000_TCP_PROTO", "tcp"),
        ("REGISTRY_SERVICE_HOST", "10.0.0.1"),
        ("REGISTRY_SERVICE_PORT", "5000"),
        ("REGISTRY_SERVICE_PORT_HTTP", "5000"),
        ("REGISTRY_STORAGE_PORT", "tcp://10.0.0.2:1"),
        ("REGISTRY_AUTH_SERVICE_HOST", "10.0.0.3"),
    ];
    let loaded = load(MINIMAL, &links).unwrap();
    let texts = warnings(&loaded);
    assert_eq!(texts.len(), 1);
    assert!(links.iter().all(|(name, _)| texts[0].contains(name)), "{texts:?}");
}

#[test]
fn a_variable_that_is_no_yaml_is_a_problem_without_its_value() {
    let found = problems(MINIMAL, &[("REGISTRY_HTTP_SECRET", "@swordfish: [")]);
    let start = "environment variable REGISTRY_HTTP_SECRET: not valid YAML";
    assert!(found.len() == 1 && found[0].starts_with(start), "{found:?}");
    assert!(!found[0].contains("swordfish"));
    let found = problems(MINIMAL, &[("REGISTRY_HTTP_SECRET", "[swordfish]")]);
    assert!(found.len() == 1 && !found[0].contains("swordfish"), "{found:?}");
}

#[test]
fn an_empty_variable_unsets() {
    let text = format!("{MINIMAL}catalog: {{maxentries: 5}}\n");
    let loaded = load(&text, &[("REGISTRY_CATALOG_MAXENTRIES", "")]).unwrap();
    assert_eq!(loaded.config.http.catalog_entries_max, 1000);
}

/// A value other than the default for each key with an effect.
fn other_value(key: &Key) -> String {
    match key.kind {
        Kind::Bool if key.default == "true" => "false".to_owned(),
        Kind::Bool => "true".to_owned(),
        Kind::Count { .. } => "17".to_owned(),
        Kind::Size { .. } => "1MiB".to_owned(),
        Kind::Duration { .. } => "25h7m".to_owned(),
        Kind::Choice(words) => words.iter().find(|word| **word != key.default).unwrap().to_string(),
        Kind::Patterns => "['^a', 'b$']".to_owned(),
        Kind::TextMap => "{a: b, c: '1.10'}".to_owned(),
        Kind::Headers => "{X-A: [b, c]}".to_owned(),
        Kind::Watermark => "3%".to_owned(),
        _ => match key.path {
            "http.addr" | "http.debug.addr" => "127.0.0.1:81",
            "http.prefix" => "/a/",
            "http.host" => "https://a",
            _ => "/some/text",
        }
        .to_owned(),
    }
}

#[test]
fn metrics_are_served_where_they_are_enabled() {
    let debug = |variables: &[(&str, &str)]| load(MINIMAL, variables).unwrap().config.http.debug;
    let (addr, enabled, path) = (
        ("REGISTRY_HTTP_DEBUG_ADDR", ":5001"),
        ("REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED", "true"),
        ("REGISTRY_HTTP_DEBUG_PROMETHEUS_PATH", "/m"),
    );
    assert_eq!(debug(&[enabled, path]), None);
    assert_eq!(debug(&[addr, path]).unwrap().metrics_path, None);
    let served = |variables: &[(&str, &str)]| debug(variables).unwrap().metrics_path;
    assert_eq!(served(&[addr, enabled]).as_deref(), Some("/metrics"));
    assert_eq!(served(&[addr, enabled, path]).as_deref(), Some("/m"));
    let found = problems(MINIMAL, &[addr, ("REGISTRY_HTTP_DEBUG_PROMETHEUS_PATH", "metrics")]);
    assert!(found[0].contains("\"metrics\"; allowed: a path, such as /metrics"), "{found:?}");
}

#[test]
fn a_variable_means_what_the_same_key_means_in_the_file() {
    let before = meaning(&load(MINIMAL, &[]).unwrap());
    for key in EFFECTIVE.iter().filter(|key| key.path != "version" && !key.path.contains("[]")) {
        let value = other_value(key);
        let mut text = format!("{{{}: {value}", key.path.replace('.', ": {"));
        text.push_str(&"}".repeat(key.path.matches('.').count() + 1));
        let mut file = tree_of(MINIMAL);
        graft(&mut file, tree_of(&text));
        let name = format!("REGISTRY_{}", key.path.to_uppercase().replace('.', "_"));
        let by_variable = load(MINIMAL, &[(&name, &value)]).unwrap();
        let by_file = load(&render(&file), &[]).unwrap();
        assert_eq!(meaning(&by_variable), meaning(&by_file), "{}", key.path);
        // They only change what others do.
        if key.path != "kelson.gc.unsafe" && !key.path.starts_with("http.debug.prometheus") {
            assert_ne!(meaning(&by_file), before, "{} has an effect", key.path);
        }
    }
}

/// Puts every value of `from` into `into`.
fn graft(into: &mut Node, from: Node) {
    use crate::config::tree::Value;
    environment::spread_drivers(into);
    match (&mut into.value, from.value) {
        (Value::Map(entries), Value::Map(more)) => {
            for (name, node) in more {
                match entries.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => graft(known, node),
                    None => entries.push((name, node)),
                }
            }
        }
        (value, other) => *value = other,
    }
}

fn render(node: &Node) -> String {
    Kind::Free.shown(node).to_string()
}

proptest! {
    #[test]
    fn arbitrary_files_and_variables_never_panic(
        pieces in prop::collection::vec(prop::sample::select(pieces()), 0..40),
        variables in prop::collection::vec(
            (
                prop::collection::vec(prop::sample::select(segments()), 0..6),
                ".{0,12}|[0-9a-z:{}\\[\\], ]{0,12}",
            ),
            0..5,
        ),
    ) {
        let variables: Vec<(String, String)> = variables
            .into_iter()
            .map(|(segments, value)| (format!("REGISTRY_{}", segments.join("_")), value))
            .collect();
        let text = pieces.concat();
        for text in [text.clone(), format!("{MINIMAL}{text}")] {
            if let Err(error) = Config::from_text(&text, Some("c.yml".into()), &variables) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn a_number_of_the_file_and_of_a_variable_are_read_alike(
        value in "[0-9]{1,9}|[a-zµ0-9.]{0,6}",
    ) {
        let keys =
            [("catalog", "maxentries"), ("kelson.gc", "grace"), ("kelson.database", "cachesize")];
        for (section, key) in keys {
            let quoted = format!("{value:?}");
            let depth = section.matches('.').count();
            let file = format!(
                "{MINIMAL}{}: {{{key}: {quoted}}}{}\n",
                section.replace('.', ": {"), "}".repeat(depth),
            );
            let name = format!("REGISTRY_{}_{}", section.replace('.', "_"), key).to_uppercase();
            let variable = [(name.as_str(), quoted.as_str())];
            let (file, variable) = (load(&file, &[]), load(MINIMAL, &variable));
            match (file, variable) {
                (Ok(a), Ok(b)) => prop_assert_eq!(meaning(&a), meaning(&b)),
                (a, b) => prop_assert!(a.is_err() && b.is_err(), "{value}"),
            }
        }
    }
}

fn pieces() -> Vec<&'static str> {
    vec![
        "version",
        "0.1",
        "storage",
        "filesystem",
        "http",
        "addr",
        "headers",
        "log",
        "hooks",
        "auth",
        "kelson",
        "validation",
        "health",
        "notifications",
        "endpoints",
        "disabled",
        "true",
        ": ",
        "\n",
        "  ",
        "    ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ":5000",
        "~",
        "''",
        "\"",
        "&a ",
        "*a",
        "<<: ",
        "|",
    ]
}

fn segments() -> Vec<&'static str> {
    vec![
        "HTTP",
        "ADDR",
        "HEADERS",
        "STORAGE",
        "FILESYSTEM",
        "AUTH",
        "LOG",
        "HOOKS",
        "FIELDS",
        "0",
        "1",
        "NOTIFICATIONS",
        "ENDPOINTS",
        "HEALTH",
        "KELSON",
        "GC",
        "GRACE",
        "",
        "X-A",
        "S3",
        "MIDDLEWARE",
        "OPTIONS",
        "VALIDATION",
        "MANIFESTS",
        "URLS",
        "ALLOW",
    ]
}
