//! `kelson config check [CONFIG]`: the settings in effect and where each comes from.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::config::{self, Config, ConfigError, Loaded, Severity};

/// Why the command ends with 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The settings could not be written.
    #[error("cannot write the settings")]
    Write(#[from] io::Error),
}

/// Checks the configuration as `serve` would read it in this environment; writes one line for
/// each setting, or one JSON object with `settings` and `notices`, to `out`, and what the operator
/// should know to `messages`.
///
/// # Errors
/// A configuration that `serve` would refuse; nothing is written then.
pub fn run(
    path: Option<&Path>,
    json: bool,
    out: &mut dyn Write,
    messages: &mut dyn Write,
) -> Result<(), Error> {
    report(&Config::load(path, config::environment())?, json, out, messages)
}

fn report(
    loaded: &Loaded,
    json: bool,
    out: &mut dyn Write,
    messages: &mut dyn Write,
) -> Result<(), Error> {
    for notice in &loaded.notices {
        writeln!(messages, "{}: {}", severity(notice.severity), notice.text)?;
    }
    if json {
        writeln!(out, "{:#}", as_json(loaded))?;
        return Ok(());
    }
    for setting in &loaded.settings {
        writeln!(out, "{} = {}   # {}", setting.key, shown(&setting.value), setting.origin)?;
    }
    Ok(())
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
    }
}

/// A text without surprises stands bare, everything else as JSON.
fn shown(value: &Value) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-._/:@+()".contains(it);
    match value {
        Value::Null => "(not set)".to_owned(),
        Value::String(text) if !text.is_empty() && text.chars().all(plain) => text.clone(),
        other => other.to_string(),
    }
}

fn as_json(loaded: &Loaded) -> Value {
    let settings = loaded.settings.iter().map(|setting| {
        let origin = setting.origin.to_string();
        (setting.key.clone(), json!({"value": setting.value, "origin": origin}))
    });
    let notices = loaded
        .notices
        .iter()
        .map(|notice| json!({"severity": severity(notice.severity), "text": notice.text}));
    json!({
        "file": loaded.path,
        "settings": settings.collect::<serde_json::Map<String, Value>>(),
        "notices": notices.collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, json: bool) -> Result<(String, String), Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        std::fs::write(&path, text).unwrap();
        let variable = ("REGISTRY_CATALOG_MAXENTRIES".to_owned(), "77".to_owned());
        let loaded = Config::load(Some(&path), [variable].into_iter())?;
        let (mut out, mut messages) = (Vec::new(), Vec::new());
        report(&loaded, json, &mut out, &mut messages)?;
        let folder = format!("{}/", folder.path().display());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&folder, "");
        Ok((text(out), text(messages)))
    }

    const TEXT: &str = "version: 0.1
storage: filesystem
http:
  addr: :5000
  secret: swordfish
  hots: https://r
  headers: {X-Content-Type-Options: [nosniff]}
";

    #[test]
    fn each_setting_is_a_line_with_its_origin_and_secrets_stay_secret() {
        let (out, messages) = checked(TEXT, false).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        for line in [
            "version = 0.1   # config.yml:1",
            "http.addr = :5000   # config.yml:4",
            "http.secret = (set)   # config.yml:5",
            "http.host = (not set)   # default",
            "http.headers = {\"X-Content-Type-Options\":[\"nosniff\"]}   # config.yml:7",
            "catalog.maxentries = 77   # environment variable REGISTRY_CATALOG_MAXENTRIES",
            "storage.filesystem.rootdirectory = /var/lib/registry   # default",
            "storage.delete.enabled = false   # default",
        ] {
            assert!(lines.contains(&line), "{line} is not in\n{out}");
        }
        assert!(!out.contains("swordfish") && !messages.contains("swordfish"));
        assert_eq!(
            messages,
            "warning: config.yml:6: http.hots is not known, so ignored; nearest is http.host\n"
        );
    }

    #[test]
    fn json_holds_the_same() {
        let (out, _) = checked(TEXT, true).unwrap();
        let value: Value = serde_json::from_str(&out).unwrap();
        let expected = json!({
            "value": 77, "origin": "environment variable REGISTRY_CATALOG_MAXENTRIES",
        });
        assert_eq!(value["settings"]["catalog.maxentries"], expected);
        assert_eq!(value["notices"][0]["severity"], "warning");
        assert!(!out.contains("swordfish"));
    }

    #[test]
    fn an_unusable_configuration_is_an_error() {
        assert!(matches!(checked("version: 0.2\n", false), Err(Error::Config(_))));
    }
}
