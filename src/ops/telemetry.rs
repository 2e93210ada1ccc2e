//! The log: one record is one line on standard error, whatever its values hold.
//!
//! Text is that of logrus, which distribution's operators parse today
//! (`time="..." level=info msg="..." key=value`); JSON has the same names; logstash those of
//! github.com/bshuster-repo/logrus-logstash-hook.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::{Clock, Timestamp};

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `log.level`: the least important records that are written.
    pub level: Level,
    /// `log.formatter`
    pub format: Format,
    /// `log.fields`: on each record.
    pub fields: BTreeMap<String, String>,
    /// `log.reportcaller`: whether each record names its line of source.
    pub report_caller: bool,
}

/// How important a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
}

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `key=value`
    Text,
    /// A JSON object.
    Json,
    /// A JSON object with `@timestamp`, `@version` and `message`.
    Logstash,
}

/// The log of this process is already set up.
#[derive(Debug, thiserror::Error)]
#[error("the log is set up already")]
pub struct AlreadySet(#[from] tracing::subscriber::SetGlobalDefaultError);

/// Sends every record of this process to standard error.
///
/// # Errors
/// When it was called before.
pub fn init(options: &Options, clock: Arc<dyn Clock>) -> Result<(), AlreadySet> {
    Ok(tracing::subscriber::set_global_default(subscriber(options, clock, io::stderr()))?)
}

/// What [`init`] sets up, with another destination. Each record is one call of `write_all`.
pub fn subscriber(
    options: &Options,
    clock: Arc<dyn Clock>,
    destination: impl Write + Send + 'static,
) -> impl Subscriber + Send + Sync {
    let log = Log { options: options.clone(), clock, destination: Mutex::new(destination) };
    tracing_subscriber::registry().with(log)
}

struct Log<W> {
    options: Options,
    clock: Arc<dyn Clock>,
    destination: Mutex<W>,
}

/// Fields in the order in which they were recorded; a later one of the same name counts.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl<W> Log<W> {
    /// Libraries below us log their inner workings at debug, which explains nothing of ours.
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let level = match self.options.level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
        };
        let ours = metadata.target().starts_with(env!("CARGO_PKG_NAME"));
        *metadata.level() <= if ours { level } else { level.min(tracing::Level::INFO) }
    }

    /// All fields of a record but time, level and message: static ones, then those of the spans
    /// from the outermost, then its own.
    fn fields<S>(&self, own: Fields, event: &Event<'_>, context: &Context<'_, S>) -> Line
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut message = String::new();
        let mut fields = BTreeMap::new();
        for (name, value) in &self.options.fields {
            fields.insert(free_name(name), json!(value));
        }
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(inherited) = span.extensions().get::<Fields>() {
                let inherited = inherited.0.iter().cloned();
                fields.extend(inherited.map(|(name, value)| (free_name(name), value)));
            }
        }
        for (name, value) in own.0 {
            match (name, value) {
                ("message", Value::String(text)) => message = text,
                (name, value) => drop(fields.insert(free_name(name), value)),
            }
        }
        let metadata = event.metadata();
        if self.options.report_caller {
            let place = format!(
                "{}:{}",
                metadata.file().unwrap_or("unknown"),
                metadata.line().unwrap_or_default()
            );
            fields.insert("file".to_owned(), json!(place));
            fields.insert("func".to_owned(), json!(metadata.module_path().unwrap_or("unknown")));
        }
        Line { time: self.clock.now(), level: level_name(*metadata.level()), message, fields }
    }
}

/// A name that does not hide time, level or message (logrus renames such fields the same way).
fn free_name(name: &str) -> String {
    match name {
        "time" | "level" | "msg" | "message" | "@timestamp" | "@version" => {
            format!("fields.{name}")
        }
        _ => name.to_owned(),
    }
}

fn level_name(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warning",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG => "debug",
        tracing::Level::TRACE => "trace",
    }
}

impl<S, W> Layer<S> for Log<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().replace(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let record = self.fields(own, event, &context);
        let line = match self.options.format {
            Format::Text => record.text(),
            Format::Json => record.json("time", "msg"),
            Format::Logstash => record.json("@timestamp", "message"),
        };
        let mut destination = self.destination.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not stop the registry, and there is nowhere to say so.
        let _ = destination.write_all(line.as_bytes());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push((field.name(), json!(format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), json!(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), json!(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), json!(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), json!(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.push((field.name(), json!(value)));
    }
}

struct Line {
    time: Timestamp,
    level: &'static str,
    message: String,
    fields: BTreeMap<String, Value>,
}

impl Line {
    fn text(self) -> String {
        let mut line = format!("time=\"{}\" level={} msg=", rfc3339(self.time), self.level);
        push_text(&mut line, &self.message);
        for (name, value) in self.fields {
            line.push(' ');
            line.extend(name.chars().map(|it| if is_bare(it) { it } else { '_' }));
            line.push('=');
            match value {
                Value::String(text) => push_text(&mut line, &text),
                value => push_text(&mut line, &value.to_string()),
            }
        }
        line.push('\n');
        line
    }

    fn json(self, time_name: &str, message_name: &str) -> String {
        let mut object: serde_json::Map<String, Value> = self.fields.into_iter().collect();
        object.insert(time_name.to_owned(), json!(rfc3339(self.time)));
        object.insert("level".to_owned(), json!(self.level));
        object.insert(message_name.to_owned(), json!(self.message));
        if time_name == "@timestamp" {
            object.insert("@version".to_owned(), json!("1"));
        }
        // serde_json escapes every control character below U+0020; some readers of lines also
        // end one at these.
        let mut line = Value::Object(object).to_string();
        for (raw, escaped) in
            [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")]
        {
            line = line.replace(raw, escaped);
        }
        line.push('\n');
        line
    }
}

fn rfc3339(time: Timestamp) -> String {
    let milliseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => milliseconds.to_string(),
    }
}

/// The characters that logrus leaves without quotes (`text_formatter.go`, `needsQuoting`).
fn is_bare(it: char) -> bool {
    it.is_ascii_alphanumeric() || "-._/@^+".contains(it)
}

/// A value of the text format: bare, else in quotes with everything escaped that would end it,
/// the line, or a terminal's good behaviour.
fn push_text(line: &mut String, text: &str) {
    if !text.is_empty() && text.chars().all(is_bare) {
        line.push_str(text);
        return;
    }
    line.push('"');
    for it in text.chars() {
        match it {
            '\'' => line.push(it),
            it if it.is_ascii() => line.extend(it.escape_debug()),
            it if it.escape_debug().len() > 1 => {
                // Infallible: a String takes every write.
                let _ = write!(line, "\\u{:04x}", u32::from(it));
            }
            it => line.push(it),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::time::Duration;

    use proptest::prelude::*;
    use tracing::{debug, error, info, info_span, warn};

    use super::*;

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp(1_700_000_000_000)
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::ready(()))
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn options(format: Format) -> Options {
        let fields = BTreeMap::from([("service".to_owned(), "registry".to_owned())]);
        Options { level: Level::Info, format, fields, report_caller: false }
    }

    fn logged(options: &Options, act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let subscriber = subscriber(options, Arc::new(Noon), lines.clone());
        tracing::subscriber::with_default(subscriber, act);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn json(text: &str) -> Value {
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn text_is_that_of_logrus() {
        let text = logged(&options(Format::Text), || {
            info!(repo.name = "a/b", size_bytes = 7, "it's done");
            warn!(path = ?"x y", "slow");
            error!("failed");
        });
        assert_eq!(
            text,
            "time=\"2023-11-14T22:13:20.000Z\" level=info msg=\"it's done\" repo.name=a/b \
             service=registry size_bytes=7\n\
             time=\"2023-11-14T22:13:20.000Z\" level=warning msg=slow path=\"\\\"x y\\\"\" \
             service=registry\n\
             time=\"2023-11-14T22:13:20.000Z\" level=error msg=failed service=registry\n"
        );
    }

    #[test]
    fn json_keeps_types() {
        let text = logged(&options(Format::Json), || info!(size_bytes = 7, ok = true, "done"));
        let expected = json!({
            "level": "info", "msg": "done", "ok": true, "service": "registry", "size_bytes": 7,
            "time": "2023-11-14T22:13:20.000Z",
        });
        assert_eq!(json(&text), expected);
    }

    #[test]
    fn logstash_has_its_own_names() {
        let text = logged(&options(Format::Logstash), || warn!("done"));
        let expected = json!({
            "@timestamp": "2023-11-14T22:13:20.000Z", "@version": "1", "level": "warning",
            "message": "done", "service": "registry",
        });
        assert_eq!(json(&text), expected);
    }

    #[test]
    fn records_inherit_from_their_spans_and_the_nearest_counts() {
        let text = logged(&options(Format::Json), || {
            let outer = info_span!("request", id = "r1", status = tracing::field::Empty, who = 1);
            outer.record("status", 201);
            outer.in_scope(|| {
                let inner = info_span!("upload", who = 2, service = "own");
                inner.in_scope(|| info!(level = "fake", "done"));
            });
        });
        let value = json(&text);
        let expected = [("id", json!("r1")), ("status", json!(201)), ("who", json!(2))];
        assert!(expected.iter().all(|(name, it)| value[name] == *it), "{value}");
        assert_eq!((&value["service"], &value["level"]), (&json!("own"), &json!("info")));
        assert_eq!(value["fields.level"], "fake");
    }

    #[test]
    fn the_level_decides_what_is_written() {
        let count = |level| {
            let options = Options { level, ..options(Format::Text) };
            let text = logged(&options, || {
                error!("1");
                warn!("2");
                info!("3");
                debug!("4");
                debug!(target: "hyper", "of a library");
                warn!(target: "hyper", "of a library");
            });
            text.lines().count()
        };
        assert_eq!([Level::Error, Level::Warn, Level::Info, Level::Debug].map(count), [1, 3, 4, 5]);
    }

    #[test]
    fn the_caller_is_reported_when_asked_for() {
        let options = Options { report_caller: true, ..options(Format::Json) };
        let value = json(&logged(&options, || info!("done")));
        assert!(value["file"].as_str().unwrap().starts_with("src/ops/telemetry.rs:"), "{value}");
        assert_eq!(value["func"], "kelson::ops::telemetry::tests");
    }

    proptest! {
        #[test]
        fn one_record_is_one_line_whatever_it_holds(
            message in "(?s).{0,40}|[\\x00-\\x20\u{7f}-\u{9f}\u{2028}\u{2029}\u{202e}\"\\\\]{0,20}",
            value in "(?s).{0,40}",
            name in "(?s).{1,10}",
        ) {
            for format in [Format::Text, Format::Json, Format::Logstash] {
                let fields = BTreeMap::from([(name.clone(), value.clone())]);
                let options = Options { fields, ..options(format) };
                let text = logged(&options, || info!(value = value.as_str(), "{message}"));
                let line = text.strip_suffix('\n').unwrap();
                let separators = ['\u{85}', '\u{2028}', '\u{2029}'];
                let breaks = |it: char| it < ' ' || separators.contains(&it);
                prop_assert!(!line.contains(breaks), "{:?}", line);
                if format == Format::Json {
                    prop_assert_eq!(&json(&text)["msg"], &json!(message));
                    prop_assert_eq!(&json(&text)["value"], &json!(value));
                }
            }
        }
    }
}
