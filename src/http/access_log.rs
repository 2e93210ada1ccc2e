//! The access log: one line per request in Combined Log Format, after the answer is finished.
//!
//! A request never waits for it: lines go into a bounded queue, one task writes them, and what
//! the queue has no room for is counted and reported.

use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, Request, header};
use tokio::sync::mpsc;

use crate::ops::{Blocking, Timestamp};

/// Lines that wait at most.
const QUEUE_LINES_MAX: usize = 4096;
/// Lines that are written at once at most.
const BATCH_LINES_MAX: usize = 256;
/// Longest text of a client that goes into a line whole: the request target, then the others.
const TARGET_SIZE_BYTES_MAX: usize = 2048;
const FIELD_SIZE_BYTES_MAX: usize = 256;

/// Where requests leave their lines; cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    lines: mpsc::Sender<String>,
    dropped: Arc<AtomicU64>,
}

/// The other end: writes the lines.
#[derive(Debug)]
pub struct Writer {
    lines: mpsc::Receiver<String>,
    dropped: Arc<AtomicU64>,
}

/// A log and its writer, whose [`Writer::run`] somebody must run.
pub fn channel() -> (AccessLog, Writer) {
    let (sender, receiver) = mpsc::channel(QUEUE_LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    (
        AccessLog { lines: sender, dropped: Arc::clone(&dropped) },
        Writer { lines: receiver, dropped },
    )
}

impl AccessLog {
    /// Leaves a line, or counts it as dropped; never waits.
    pub fn write(&self, line: String) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Writes lines until every [`AccessLog`] is gone. A write that fails loses its lines, and is
    /// reported.
    pub async fn run<W: Write + Send + 'static>(mut self, mut out: W, blocking: Blocking) {
        let mut batch = Vec::with_capacity(BATCH_LINES_MAX);
        while self.lines.recv_many(&mut batch, BATCH_LINES_MAX).await > 0 {
            let text = batch.concat();
            batch.clear();
            let written = blocking.run(move || {
                let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                (out, written)
            });
            let (returned, written) = written.await;
            out = returned;
            if let Err(error) = written {
                tracing::warn!(%error, "the access log cannot be written");
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(dropped, "the access log could not keep up");
            }
        }
    }
}

/// What a request says of itself, kept until its answer is finished.
#[derive(Debug)]
pub struct Entry {
    peer: Option<IpAddr>,
    request: String,
    referer: String,
    user_agent: String,
}

impl Entry {
    /// Of this request; `None` for one that could not be read.
    pub fn new<B>(peer: Option<IpAddr>, request: Option<&Request<B>>) -> Self {
        let Some(request) = request else {
            let nothing = String::new;
            let line = "-".to_owned();
            return Self { peer, request: line, referer: nothing(), user_agent: nothing() };
        };
        let mut line = String::new();
        escape(&mut line, request.method().as_str().as_bytes(), FIELD_SIZE_BYTES_MAX);
        line.push(' ');
        escape(&mut line, request.uri().to_string().as_bytes(), TARGET_SIZE_BYTES_MAX);
        // Writing to a string cannot fail.
        let _ = write!(line, " {:?}", request.version());
        Self {
            peer,
            request: line,
            referer: field(request.headers(), &header::REFERER),
            user_agent: field(request.headers(), &header::USER_AGENT),
        }
    }

    /// The line, with what became of the request: its status and the bytes of the body sent.
    pub fn line(&self, time: Timestamp, status: u16, size_bytes: u64) -> String {
        let host = self.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
        let Self { request, referer, user_agent, .. } = self;
        format!(
            "{host} - - [{}] \"{request}\" {status} {size_bytes} \"{referer}\" \"{user_agent}\"\n",
            common_time(time)
        )
    }
}

fn common_time(time: Timestamp) -> String {
    let milliseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
        Err(_) => "-".to_owned(),
    }
}

fn field(headers: &HeaderMap, name: &HeaderName) -> String {
    let mut text = String::new();
    if let Some(value) = headers.get(name) {
        escape(&mut text, value.as_bytes(), FIELD_SIZE_BYTES_MAX);
    }
    text
}

/// Adds text of a client so that it can neither end a line or a quotation nor reach a terminal:
/// quotes, backslashes and everything but visible ASCII and spaces are escaped.
fn escape(line: &mut String, text: &[u8], size_bytes_max: usize) {
    for byte in text.iter().take(size_bytes_max) {
        match byte {
            b'"' | b'\\' => line.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => line.push(char::from(*byte)),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
    if text.len() > size_bytes_max {
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn entry(agent: &[u8]) -> Entry {
        let request = Request::get("/v2/a/tags/list?n=%22").header(header::USER_AGENT, agent);
        let peer = Some(IpAddr::from([192, 0, 2, 1]));
        Entry::new(peer, Some(&request.body(()).unwrap()))
    }

    #[test]
    fn a_line_is_in_combined_log_format() {
        let line = entry(b"docker/29").line(Timestamp(1_478_136_280_123), 200, 2);
        let expected = "192.0.2.1 - - [03/Nov/2016:01:24:40 +0000] \
            \"GET /v2/a/tags/list?n=%22 HTTP/1.1\" 200 2 \"\" \"docker/29\"\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_client_cannot_forge_a_line_or_reach_a_terminal() {
        let line = entry(b"x\t\" 200 \\\xff").line(Timestamp(0), 400, 0);
        assert!(line.ends_with("\"x\\x09\\\" 200 \\\\\\xff\"\n"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_request_that_could_not_be_read_has_a_line_too() {
        let line = Entry::new(None, None::<&Request<()>>).line(Timestamp(0), 400, 12);
        assert_eq!(line, "- - - [01/Jan/1970:00:00:00 +0000] \"-\" 400 12 \"\" \"\"\n");
    }

    #[test]
    fn long_texts_are_cut() {
        let line = entry(&[b'a'; 5000]).line(Timestamp(0), 200, 0);
        assert!(line.len() < 1000);
        assert!(line.ends_with("a...\"\n"));
    }

    #[tokio::test]
    async fn every_line_is_written_in_order_and_a_full_queue_drops() {
        let (log, writer) = channel();
        for number in 0..QUEUE_LINES_MAX + 3 {
            log.write(format!("{number}\n"));
        }
        assert_eq!(log.dropped.load(Ordering::Relaxed), 3);
        drop(log);
        let out = Shared::default();
        writer.run(out.clone(), Blocking::Inline).await;
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let expected: String = (0..QUEUE_LINES_MAX).map(|number| format!("{number}\n")).collect();
        assert_eq!(text, expected);
    }
}
