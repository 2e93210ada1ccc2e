//! A connection written to byte by byte, for framing that no client library would send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// The head of an answer, as it came, and its body.
#[derive(Debug)]
pub struct RawResponse {
    /// Without the line end.
    pub status_line: String,
    /// Names in their own case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the server may refuse to take; `false` when the connection is gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a request head: `line` and a Host, then `headers`, each without its line end.
    pub fn send_head(&mut self, line: &str, headers: &[&str]) {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        self.send(format!("{line} HTTP/1.1\r\nHost: registry.test\r\n{headers}\r\n"));
    }

    /// Waits for the first byte of an answer.
    pub fn await_answer(&mut self) {
        assert!(!self.reader.fill_buf().unwrap().is_empty(), "the connection ended");
    }

    /// Reads one answer; `None` when the connection ended before its first byte.
    pub fn try_response(&mut self) -> Option<RawResponse> {
        let status_line = self.line()?;
        let mut headers = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut response = RawResponse { status_line, headers, body: vec![] };
        if let Some(length) = response.header("content-length") {
            response.body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut response.body).unwrap();
        }
        Some(response)
    }

    /// Reads one answer with a body, or one without Content-Length.
    #[track_caller]
    pub fn response(&mut self) -> RawResponse {
        self.try_response().expect("an answer")
    }

    /// Whether the server ends the connection, whatever it still says.
    pub fn is_closed(&mut self) -> bool {
        let waits = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
        match self.reader.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => !waits.contains(&error.kind()),
        }
    }

    /// Whatever comes until the connection ends.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset ends it too.
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(count) if count > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

impl RawResponse {
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_it).map(|(_, value)| value.as_str())
    }

    pub fn status(&self) -> u16 {
        self.status_line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}
