//! Every known key: distribution's (2.6 to 3.1, `configuration/configuration.go`) and our own.
//!
//! A path names maps by their key, lists by `[]`. A key whose value may hold keys of any name
//! (driver parameters, for example) is one [`Kind::Free`] entry.

use super::schema::Kind::{
    self, Bool, Choice, Count, Duration, Free, Headers, Patterns, Scalar, Secret, Signed, Size,
    Text, TextMap, Texts,
};

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Where it stands.
    pub path: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Its value where a file says nothing, as the file would write it; empty: none.
    pub default: &'static str,
}

const fn key(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, default: "" }
}

const fn with(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, kind, default }
}

const ANY: Kind = Count { min: 0, max: u64::MAX };
const LEVELS: Kind = Choice(&["error", "warn", "info", "debug"]);
const MIB: u64 = 1 << 20;

/// The keys that have an effect, in the order in which they are shown.
pub(super) const EFFECTIVE: &[Key] = &[
    key("version", Text),
    with("log.level", LEVELS, "info"),
    with("log.formatter", Choice(&["text", "json", "logstash"]), "text"),
    key("log.fields", TextMap),
    with("log.accesslog.disabled", Bool, "false"),
    with("log.reportcaller", Bool, "false"),
    key("loglevel", LEVELS),
    with("storage.filesystem.rootdirectory", Text, "/var/lib/registry"),
    with("storage.delete.enabled", Bool, "false"),
    with("storage.maintenance.uploadpurging.enabled", Bool, "true"),
    with("storage.maintenance.uploadpurging.age", Duration { min_seconds: 1 }, "168h"),
    with("storage.maintenance.uploadpurging.interval", Duration { min_seconds: 1 }, "24h"),
    with("storage.maintenance.uploadpurging.dryrun", Bool, "false"),
    with("storage.maintenance.readonly.enabled", Bool, "false"),
    key("http.addr", Text),
    with("http.net", Choice(&["tcp", "unix"]), "tcp"),
    with("http.prefix", Text, "/"),
    key("http.host", Text),
    with("http.relativeurls", Bool, "false"),
    with("http.draintimeout", Duration { min_seconds: 0 }, "8s"),
    key("http.secret", Secret),
    key("http.headers", Headers),
    with("catalog.maxentries", Count { min: 1, max: 1_000_000 }, "1000"),
    with("tags.maxtags", Count { min: 0, max: 1_000_000 }, "1000"),
    with("validation.enabled", Bool, "false"),
    with("validation.disabled", Bool, "false"),
    key("validation.manifests.urls.allow", Patterns),
    key("validation.manifests.urls.deny", Patterns),
    with("validation.manifests.indexes.platforms", Choice(&["all", "none", "list"]), "all"),
    key("validation.manifests.indexes.platformlist.[].architecture", Text),
    key("validation.manifests.indexes.platformlist.[].os", Text),
    with("kelson.database.cachesize", Size { min: MIB, max: 1 << 40 }, "16MiB"),
    with("kelson.storage.watermark", Kind::Watermark, "1GiB, 5%"),
    with("kelson.storage.smallcontents", Size { min: 0, max: MIB }, "64KiB"),
    with("kelson.manifests.sparse", Choice(&["none", "images", "indexes", "all"]), "none"),
    with("kelson.manifests.maxsize", Size { min: 1024, max: 64 * MIB }, "4MiB"),
    with("kelson.gc.grace", Duration { min_seconds: 0 }, "24h"),
    with("kelson.limits.headertimeout", Duration { min_seconds: 1 }, "30s"),
    with("kelson.limits.idletimeout", Duration { min_seconds: 1 }, "5m"),
    with("kelson.limits.bodyrate", Size { min: 0, max: 1 << 40 }, "256"),
    with("kelson.limits.bodywindow", Duration { min_seconds: 1 }, "30s"),
    with("kelson.limits.connections", Count { min: 1, max: 1_000_000 }, "16384"),
    with("kelson.limits.uploadsperrepository", Count { min: 1, max: 1_000_000 }, "1000"),
    with("kelson.limits.uploads", Count { min: 1, max: 1_000_000 }, "10000"),
];

/// The keys that are accepted without an effect; `schema::IGNORED` says why.
pub(super) const ACCEPTED: &[Key] = &[
    key("log.hooks.[].type", Text),
    key("log.hooks.[].disabled", Bool),
    key("log.hooks.[].levels", Texts),
    key("log.hooks.[].options.smtp.addr", Text),
    key("log.hooks.[].options.smtp.username", Text),
    key("log.hooks.[].options.smtp.password", Secret),
    key("log.hooks.[].options.smtp.insecure", Bool),
    key("log.hooks.[].options.from", Text),
    key("log.hooks.[].options.to", Texts),
    key("storage.filesystem.maxthreads", ANY),
    key("storage.cache.blobdescriptor", Text),
    key("storage.cache.blobdescriptorsize", Signed),
    key("storage.cache.layerinfo", Text),
    key("storage.redirect.disable", Bool),
    key("storage.tag.concurrencylimit", ANY),
    key("http.debug.addr", Text),
    key("http.debug.prometheus.enabled", Bool),
    key("http.debug.prometheus.path", Text),
    key("http.http2.disabled", Bool),
    key("health.storagedriver.enabled", Bool),
    key("health.storagedriver.interval", Duration { min_seconds: 0 }),
    key("health.storagedriver.threshold", Signed),
    key("health.file.[].file", Text),
    key("health.file.[].interval", Duration { min_seconds: 0 }),
    key("health.file.[].threshold", Signed),
    key("health.http.[].uri", Text),
    key("health.http.[].headers", Headers),
    key("health.http.[].statuscode", Signed),
    key("health.http.[].timeout", Duration { min_seconds: 0 }),
    key("health.http.[].interval", Duration { min_seconds: 0 }),
    key("health.http.[].threshold", Signed),
    key("health.tcp.[].addr", Text),
    key("health.tcp.[].timeout", Duration { min_seconds: 0 }),
    key("health.tcp.[].interval", Duration { min_seconds: 0 }),
    key("health.tcp.[].threshold", Signed),
    key("reporting.bugsnag.apikey", Secret),
    key("reporting.bugsnag.releasestage", Text),
    key("reporting.bugsnag.endpoint", Text),
    key("reporting.newrelic.licensekey", Secret),
    key("reporting.newrelic.name", Text),
    key("reporting.newrelic.verbose", Bool),
    key("compatibility.schema1.signingkeyfile", Text),
    key("compatibility.schema1.enabled", Bool),
    key("redis.addr", Text),
    key("redis.addrs", Texts),
    key("redis.clientname", Text),
    key("redis.username", Text),
    key("redis.password", Secret),
    key("redis.sentinelusername", Text),
    key("redis.sentinelpassword", Secret),
    key("redis.mastername", Text),
    key("redis.identitysuffix", Text),
    key("redis.db", Signed),
    key("redis.protocol", Signed),
    key("redis.maxretries", Signed),
    key("redis.minretrybackoff", Scalar),
    key("redis.maxretrybackoff", Scalar),
    key("redis.dialtimeout", Scalar),
    key("redis.readtimeout", Scalar),
    key("redis.writetimeout", Scalar),
    key("redis.contexttimeoutenabled", Bool),
    key("redis.pool.maxidle", Signed),
    key("redis.pool.maxactive", Signed),
    key("redis.pool.idletimeout", Scalar),
    key("redis.poolfifo", Bool),
    key("redis.poolsize", Signed),
    key("redis.pooltimeout", Scalar),
    key("redis.minidleconns", Signed),
    key("redis.maxidleconns", Signed),
    key("redis.maxactiveconns", Signed),
    key("redis.connmaxidletime", Scalar),
    key("redis.connmaxlifetime", Scalar),
    key("redis.maxredirects", Signed),
    key("redis.readonly", Bool),
    key("redis.routebylatency", Bool),
    key("redis.routerandomly", Bool),
    key("redis.disableidentity", Bool),
    key("redis.unstableresp3", Bool),
    key("redis.tls.certificate", Text),
    key("redis.tls.key", Text),
    key("redis.tls.rootcas", Texts),
    key("redis.tls.clientcas", Texts),
];

/// The keys that ask for what does not exist yet; `schema::REFUSED` says when Kelson refuses.
pub(super) const UNSUPPORTED: &[Key] = &[
    key("storage.inmemory", Free),
    key("storage.s3", Free),
    key("storage.s3aws", Free),
    key("storage.gcs", Free),
    key("storage.azure", Free),
    key("storage.swift", Free),
    key("storage.oss", Free),
    key("auth.none", Free),
    key("auth.silly", Free),
    key("auth.htpasswd", Free),
    key("auth.token", Free),
    key("middleware.registry.[].name", Text),
    key("middleware.registry.[].disabled", Bool),
    key("middleware.registry.[].options", Free),
    key("middleware.repository.[].name", Text),
    key("middleware.repository.[].disabled", Bool),
    key("middleware.repository.[].options", Free),
    key("middleware.storage.[].name", Text),
    key("middleware.storage.[].disabled", Bool),
    key("middleware.storage.[].options", Free),
    key("http.tls.certificate", Text),
    key("http.tls.key", Text),
    key("http.tls.clientcas", Texts),
    key("http.tls.clientauth", Text),
    key("http.tls.minimumtls", Text),
    key("http.tls.ciphersuites", Texts),
    key("http.tls.letsencrypt.cachefile", Text),
    key("http.tls.letsencrypt.email", Text),
    key("http.tls.letsencrypt.hosts", Texts),
    key("http.tls.letsencrypt.directoryurl", Text),
    key("http.h2c.enabled", Bool),
    key("notifications.events.includereferences", Bool),
    key("notifications.endpoints.[].name", Text),
    key("notifications.endpoints.[].disabled", Bool),
    key("notifications.endpoints.[].url", Text),
    key("notifications.endpoints.[].headers", Headers),
    key("notifications.endpoints.[].timeout", Duration { min_seconds: 0 }),
    key("notifications.endpoints.[].threshold", Signed),
    key("notifications.endpoints.[].backoff", Duration { min_seconds: 0 }),
    key("notifications.endpoints.[].ignoredmediatypes", Texts),
    key("notifications.endpoints.[].ignore.mediatypes", Texts),
    key("notifications.endpoints.[].ignore.actions", Texts),
    key("proxy.remoteurl", Text),
    key("proxy.username", Text),
    key("proxy.password", Secret),
    key("proxy.exec.command", Text),
    key("proxy.exec.lifetime", Duration { min_seconds: 0 }),
    key("proxy.ttl", Duration { min_seconds: 0 }),
    key("proxy.cachewritetimeout", Duration { min_seconds: 0 }),
    key("policy.repository.classes", Texts),
];

/// Keys whose Go field, and so whose segment in a variable, is not the key in capitals.
pub(super) const FIELDS: &[(&str, &str)] = &[
    ("notifications.events", "EVENTCONFIG"),
    ("health.file", "FILECHECKERS"),
    ("health.http", "HTTPCHECKERS"),
    ("health.tcp", "TCPCHECKERS"),
    ("compatibility.schema1.signingkeyfile", "TRUSTKEY"),
    ("log.hooks.[].options", "MAILOPTIONS"),
];

/// Sections whose keys name drivers: one of any other name is refused, as distribution does.
pub(super) const DRIVERS: &[&str] = &["storage", "auth"];
