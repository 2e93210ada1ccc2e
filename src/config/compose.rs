//! The options of each component out of a checked tree.

use std::path::PathBuf;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde_json::{Value as Json, json};

use super::check::{Findings, find};
use super::error::Origin;
use super::keys::{EFFECTIVE, Key};
use super::schema;
use super::tree::{Node, Value};
use super::{Config, Setting, value};
use crate::http::options::{self as wire, Debug, Limits, Listen};
use crate::ops::telemetry::{self, Format, Level};
use crate::registry::{self, Platform, ScrubOptions, Sparse, UploadPurging};

/// The shortest grace and lease: a push takes its time.
const COLLECTOR_MIN: Duration = Duration::from_secs(3600);

/// The largest compiled pattern of `validation.manifests.urls`.
const PATTERN_SIZE_BYTES_MAX: usize = 1 << 20;

/// Reads keys of a tree; a wrong value, reported before, reads as the default.
struct Reader<'a> {
    root: &'a Node,
    findings: &'a mut Findings,
}

/// Composes everything; what is not usable goes to `findings`.
pub(super) fn compose(root: &Node, findings: &mut Findings) -> Config {
    let mut reader = Reader { root, findings };
    reader.version();
    Config {
        log: reader.log(),
        root: PathBuf::from(reader.text("storage.filesystem.rootdirectory").unwrap_or_default()),
        database_cache_size_bytes: reader.size("kelson.database.cachesize"),
        registry: reader.registry(),
        http: reader.http(),
    }
}

impl Reader<'_> {
    fn node(&self, path: &str) -> Option<&Node> {
        find(self.root, path).filter(|node| !node.is_empty())
    }

    /// The value as `parse` reads it, else the default as `parse` reads it.
    fn parsed<T: Default>(&self, path: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        let set = self.node(path).and_then(Node::text).and_then(&parse);
        let default = || schema::key(path).and_then(|key| parse(key.default));
        set.or_else(default).unwrap_or_default()
    }

    fn boolean(&self, path: &str) -> bool {
        self.parsed(path, value::boolean)
    }

    fn size(&self, path: &str) -> u64 {
        self.parsed(path, value::size)
    }

    fn count(&self, path: &str) -> usize {
        self.parsed(path, |text| value::number(text).and_then(|it| usize::try_from(it).ok()))
    }

    fn duration(&self, path: &str) -> Duration {
        self.parsed(path, value::duration)
    }

    fn text(&self, path: &str) -> Option<String> {
        let text = self.parsed(path, |text| Some(text.to_owned()));
        if text.is_empty() { None } else { Some(text) }
    }

    /// A word of a list of choices, in lower case.
    fn choice(&self, path: &str) -> String {
        self.parsed(path, |text| Some(text.to_ascii_lowercase()))
    }

    fn wrong(&mut self, path: &str, allowed: &str) {
        let missing = Node::null(Origin::Default);
        let node = find(self.root, path).unwrap_or(&missing);
        self.findings.wrong(node, path, allowed);
    }

    fn version(&mut self) {
        if self.text("version").as_deref() != Some("0.1") {
            self.wrong("version", "0.1");
        }
    }

    fn log(&mut self) -> telemetry::Options {
        let level = if self.node("log.level").is_none() && self.node("loglevel").is_some() {
            if let Some(node) = find(self.root, "loglevel") {
                self.findings.warn(node, "loglevel", "is deprecated; use log.level");
            }
            self.choice("loglevel")
        } else {
            self.choice("log.level")
        };
        let fields = find(self.root, "log.fields").map(Node::entries).unwrap_or_default();
        telemetry::Options {
            level: match level.as_str() {
                "error" => Level::Error,
                "warn" => Level::Warn,
                "debug" => Level::Debug,
                _ => Level::Info,
            },
            format: match self.choice("log.formatter").as_str() {
                "json" => Format::Json,
                "logstash" => Format::Logstash,
                _ => Format::Text,
            },
            fields: fields
                .iter()
                .map(|(name, node)| (name.clone(), node.text().unwrap_or_default().to_owned()))
                .collect(),
            report_caller: self.boolean("log.reportcaller"),
        }
    }

    fn registry(&mut self) -> registry::Options {
        let (urls_allow, urls_deny) = self.urls();
        let (gc_grace, gc_lease, gc_untagged) = self.collector();
        registry::Options {
            delete_enabled: self.boolean("storage.delete.enabled"),
            read_only: self.boolean("storage.maintenance.readonly.enabled"),
            sparse: sparse(self.root),
            watermark: self.parsed("kelson.storage.watermark", value::watermark),
            small_content_size_bytes_max: self.size("kelson.storage.smallcontents"),
            uploads_per_repository_max: self.count("kelson.limits.uploadsperrepository"),
            uploads_max: self.count("kelson.limits.uploads"),
            gc_grace,
            gc_lease,
            gc_untagged,
            scrub: self.scrub(),
            verify_on_read: self.boolean("kelson.storage.verifyonread"),
            export_interval: self.duration("kelson.backup.interval"),
            urls_allow,
            urls_deny,
            platforms: self.platforms(),
            upload_purging: self.upload_purging(),
            ..registry::Options::default()
        }
    }

    /// The grace, the lease, and the age of untagged manifests that go.
    fn collector(&mut self) -> (Duration, Duration, Option<Duration>) {
        let (grace, lease) = (self.duration("kelson.gc.grace"), self.duration("kelson.gc.lease"));
        if !self.boolean("kelson.gc.unsafe") {
            for (path, value) in [("kelson.gc.grace", grace), ("kelson.gc.lease", lease)] {
                if value < COLLECTOR_MIN {
                    self.wrong(path, "1h or longer, unless kelson.gc.unsafe is true");
                }
            }
        }
        let untagged = self.node("kelson.gc.untagged").is_some();
        let untagged = untagged.then(|| self.duration("kelson.gc.untagged"));
        if untagged.is_some_and(|age| age < grace.max(lease)) {
            let allowed = "a duration not below kelson.gc.grace and kelson.gc.lease";
            self.wrong("kelson.gc.untagged", allowed);
        }
        (grace, lease, untagged)
    }

    /// The patterns for layer URLs. With a `validation` section that lists none, distribution
    /// lets no URL through; without a section Kelson lets all through.
    fn urls(&mut self) -> (Vec<Regex>, Vec<Regex>) {
        let allow = self.patterns("validation.manifests.urls.allow");
        let deny = self.patterns("validation.manifests.urls.deny");
        let section = find(self.root, "validation").is_some_and(|node| !node.is_null());
        if !section || validation_off(self.root).is_some() {
            return (Vec::new(), Vec::new());
        }
        if allow.is_empty() && deny.is_empty() {
            return (Regex::new("^$").into_iter().collect(), Vec::new());
        }
        (allow, deny)
    }

    fn patterns(&mut self, path: &str) -> Vec<Regex> {
        let Some(node) = find(self.root, path) else { return Vec::new() };
        let mut patterns = Vec::new();
        for item in node.items() {
            let Some(text) = item.text() else { continue };
            let built = RegexBuilder::new(text).size_limit(PATTERN_SIZE_BYTES_MAX).build();
            match built {
                Ok(pattern) => patterns.push(pattern),
                Err(_) => self.findings.wrong(item, path, "regular expressions of Go (RE2)"),
            }
        }
        patterns
    }

    fn platforms(&self) -> Option<Vec<Platform>> {
        match self.choice("validation.manifests.indexes.platforms").as_str() {
            "none" => Some(Vec::new()),
            "list" => {
                let list = find(self.root, "validation.manifests.indexes.platformlist");
                Some(list.map(Node::items).unwrap_or_default().iter().map(platform).collect())
            }
            _ => None,
        }
    }

    fn scrub(&self) -> Option<ScrubOptions> {
        let bytes_per_second = self.size("kelson.scrub.rate");
        let period = self.duration("kelson.scrub.period");
        (bytes_per_second > 0).then_some(ScrubOptions { period, bytes_per_second })
    }

    fn upload_purging(&self) -> Option<UploadPurging> {
        let section = "storage.maintenance.uploadpurging";
        let path = |name: &str| format!("{section}.{name}");
        self.boolean(&path("enabled")).then(|| UploadPurging {
            age: self.duration(&path("age")),
            interval: self.duration(&path("interval")),
            dry_run: self.boolean(&path("dryrun")),
        })
    }

    fn http(&mut self) -> wire::Options {
        wire::Options {
            listen: self.listen(),
            prefix: self.usable("http.prefix", wire::prefix).unwrap_or_else(|| "/".to_owned()),
            host: self.usable("http.host", wire::host),
            relative_urls: self.boolean("http.relativeurls"),
            headers: self.headers(),
            drain_timeout: self.duration("http.draintimeout"),
            access_log: !self.boolean("log.accesslog.disabled"),
            catalog_entries_max: self.count("catalog.maxentries"),
            tags_max: self.count("tags.maxtags"),
            manifest_size_bytes_max: self.size("kelson.manifests.maxsize"),
            limits: Limits {
                header_timeout: self.duration("kelson.limits.headertimeout"),
                idle_timeout: self.duration("kelson.limits.idletimeout"),
                body_bytes_per_second_min: self.size("kelson.limits.bodyrate"),
                body_window: self.duration("kelson.limits.bodywindow"),
                connections_max: self.count("kelson.limits.connections"),
            },
            debug: self.debug(),
        }
    }

    fn debug(&mut self) -> Option<Debug> {
        let path = self.usable("http.debug.prometheus.path", wire::metrics_path);
        self.node("http.debug.addr")?;
        let listen = self.usable("http.debug.addr", Listen::tcp)?;
        let metrics_path = path.filter(|_| self.boolean("http.debug.prometheus.enabled"));
        Some(Debug { listen, metrics_path })
    }

    fn listen(&mut self) -> Listen {
        if self.choice("http.net") != "unix" {
            let listen = self.usable("http.addr", Listen::tcp);
            if listen.is_none() && self.node("http.addr").is_none() {
                self.wrong("http.addr", "host:port, such as :5000");
            }
            return listen.unwrap_or_else(|| Listen::Tcp(String::new()));
        }
        let Some(path) = self.text("http.addr") else {
            self.wrong("http.addr", "the path of a socket, as http.net is unix");
            return Listen::Tcp(String::new());
        };
        Listen::Unix(PathBuf::from(path))
    }

    /// The value as the component takes it; reports one that it does not.
    fn usable<T>(
        &mut self,
        path: &str,
        check: impl Fn(&str) -> Result<T, wire::Unusable>,
    ) -> Option<T> {
        let text = self.text(path)?;
        match check(&text) {
            Ok(value) => Some(value),
            Err(allowed) => {
                self.wrong(path, &allowed.to_string());
                None
            }
        }
    }

    fn headers(&mut self) -> Vec<(String, Vec<String>)> {
        let Some(node) = find(self.root, "http.headers") else { return Vec::new() };
        let mut headers = Vec::new();
        for (name, node) in node.entries() {
            let values = schema::texts(node).unwrap_or_default();
            match wire::header(name, &values) {
                Ok(()) => headers.push((name.clone(), values)),
                Err(allowed) => {
                    let key = format!("http.headers.{name}");
                    self.findings.problem(node, &key, format!("is not usable; allowed: {allowed}"));
                }
            }
        }
        headers
    }
}

fn platform(node: &Node) -> Platform {
    let text = |key| node.child(key).and_then(Node::text).unwrap_or_default().to_owned();
    Platform { architecture: text("architecture"), os: text("os") }
}

/// What manifests may leave out. distribution checks no reference at all when validation is off.
fn sparse(root: &Node) -> Sparse {
    match sparse_setting(root).0.as_str() {
        "images" => Sparse::Images,
        "indexes" => Sparse::Indexes,
        "all" => Sparse::All,
        _ => Sparse::None,
    }
}

/// The effective word for `kelson.manifests.sparse` and where it comes from.
fn sparse_setting(root: &Node) -> (String, Origin) {
    let set = find(root, "kelson.manifests.sparse").and_then(|it| Some((it.text()?, it)));
    match (set, validation_off(root)) {
        (Some((word, node)), _) => (word.to_ascii_lowercase(), node.origin.clone()),
        (None, Some(off)) => ("all".to_owned(), off.origin.clone()),
        (None, None) => ("none".to_owned(), Origin::Default),
    }
}

/// What turns validation off. From 2.7 on it is on unless `disabled` says otherwise and `enabled`
/// does not (`registry/handlers/app.go`).
fn validation_off(root: &Node) -> Option<&Node> {
    let on = |path| find(root, path).filter(|it| it.text().and_then(value::boolean) == Some(true));
    on("validation.disabled").filter(|_| on("validation.enabled").is_none())
}

/// Every setting that has an effect, with its value and where it comes from.
pub(super) fn settings(root: &Node) -> Vec<Setting> {
    let mut settings = Vec::new();
    for key in EFFECTIVE.iter().filter(|key| !key.path.contains("[]")) {
        match key.path {
            "loglevel" => {}
            "log.level" => settings.push(level_setting(root, key)),
            "kelson.manifests.sparse" => {
                let (word, origin) = sparse_setting(root);
                settings.push(Setting { key: key.path.to_owned(), value: json!(word), origin });
            }
            path => settings.push(setting(root, path, key)),
        }
        if key.path == "validation.manifests.indexes.platforms" {
            settings.push(platform_list(root));
        }
    }
    settings
}

fn level_setting(root: &Node, key: &Key) -> Setting {
    let old = find(root, "log.level").is_none_or(Node::is_empty)
        && find(root, "loglevel").is_some_and(|node| !node.is_empty());
    let found = setting(root, if old { "loglevel" } else { key.path }, key);
    Setting { key: key.path.to_owned(), ..found }
}

fn setting(root: &Node, path: &str, key: &Key) -> Setting {
    let name = path.to_owned();
    if let Some(node) = find(root, path).filter(|node| !node.is_empty()) {
        let origin = node.origin.clone();
        return Setting { key: name, value: key.kind.shown(node), origin };
    }
    let value = Value::Scalar(key.default.to_owned());
    let node = Node { value, origin: Origin::Default };
    let shown = if node.is_empty() { Json::Null } else { key.kind.shown(&node) };
    Setting { key: name, value: shown, origin: Origin::Default }
}

fn platform_list(root: &Node) -> Setting {
    let key = "validation.manifests.indexes.platformlist".to_owned();
    match find(root, &key).filter(|node| !node.is_empty()) {
        Some(node) => {
            let origin = node.origin.clone();
            Setting { key, value: schema::Kind::Free.shown(node), origin }
        }
        None => Setting { key, value: Json::Null, origin: Origin::Default },
    }
}
