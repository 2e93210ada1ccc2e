//! The head of a request: request line and header fields (RFC 9112, sections 2 to 6).

use axum::http::Uri;

use super::{Framing, Reason, Rejection};

/// Longest head. Room for the longest credentials and `Accept` lists seen, far from a burden.
pub const HEAD_SIZE_BYTES_MAX: usize = 256 * 1024;
/// Most header fields; the HTTP library's own limit.
pub const FIELDS_MAX: usize = 100;
/// Longest request target; the HTTP library's own limit is one below 2^16 - 1.
const TARGET_SIZE_BYTES_MAX: usize = 65_500;
/// Empty lines that may stand before a request line (RFC 9112, section 2.2).
const LEADING_LINES_MAX: usize = 4;
/// First byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// A head on its way in. Each line is judged as soon as it is whole.
#[derive(Debug, Default)]
pub struct Head {
    /// Where the first line that was not judged yet begins.
    line_start: usize,
    /// Up to here there is no line end beyond `line_start`.
    scanned: usize,
    leading_lines: usize,
    request: Option<Request>,
    fields: usize,
    hosts: usize,
    content_length: Option<u64>,
    chunked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    is_head: bool,
    is_version_11: bool,
}

impl Head {
    /// Before its first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges the head's bytes so far, always from its first on. Its length and the framing of
    /// its body when it is whole.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<(usize, Framing)>, Rejection> {
        self.judge(bytes).map_err(|reason| Rejection {
            reason,
            is_head: match self.request {
                Some(request) => request.is_head,
                None => bytes.starts_with(b"HEAD "),
            },
        })
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<Option<(usize, Framing)>, Reason> {
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Err(Reason::Tls);
        }
        while let Some(found) = bytes[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let end = self.scanned + found;
            if end >= HEAD_SIZE_BYTES_MAX {
                return Err(Reason::TooLarge);
            }
            let line = bytes[self.line_start..end].strip_suffix(b"\r");
            let line = line.ok_or(Reason::ControlCharacter)?;
            self.line_start = end + 1;
            self.scanned = end + 1;
            if self.judge_line(line)? {
                return Ok(Some((end + 1, self.framing()?)));
            }
        }
        self.scanned = bytes.len();
        if bytes.len() >= HEAD_SIZE_BYTES_MAX {
            return Err(Reason::TooLarge);
        }
        Ok(None)
    }

    /// Whether this line ends the head.
    fn judge_line(&mut self, line: &[u8]) -> Result<bool, Reason> {
        match (self.request.is_some(), line.is_empty()) {
            (true, true) => return Ok(true),
            (true, false) => self.judge_field(line)?,
            (false, false) => self.request = Some(Request::parse(line)?),
            (false, true) => {
                self.leading_lines += 1;
                if self.leading_lines > LEADING_LINES_MAX {
                    return Err(Reason::RequestLine);
                }
            }
        }
        Ok(false)
    }

    fn judge_field(&mut self, line: &[u8]) -> Result<(), Reason> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Reason::TooLarge);
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Reason::Folded);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Reason::Field)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !is_token(name) {
            return Err(Reason::Field);
        }
        if !value.iter().all(|byte| is_value_byte(*byte)) {
            return Err(Reason::ControlCharacter);
        }
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"host") {
            self.judge_host(value)
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.judge_content_length(value)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.judge_transfer_encoding(value)
        } else {
            Ok(())
        }
    }

    fn judge_host(&mut self, value: &[u8]) -> Result<(), Reason> {
        self.hosts += 1;
        if self.hosts == 1 && is_authority(value) { Ok(()) } else { Err(Reason::Host) }
    }

    fn judge_content_length(&mut self, value: &[u8]) -> Result<(), Reason> {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if self.content_length.is_some() || !is_number {
            return Err(Reason::ContentLength);
        }
        let text = str::from_utf8(value).map_err(|_| Reason::ContentLength)?;
        // Signed: no file is longer, and every parser behind this one can hold it.
        let length: i64 = text.parse().map_err(|_| Reason::ContentLength)?;
        self.content_length = Some(length.unsigned_abs());
        Ok(())
    }

    fn judge_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Reason> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Reason::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Reason> {
        let is_version_11 = self.request.is_some_and(|request| request.is_version_11);
        match (self.chunked, self.content_length) {
            _ if is_version_11 && self.hosts == 0 => Err(Reason::Host),
            (true, Some(_)) => Err(Reason::BothFramings),
            (true, None) if is_version_11 => Ok(Framing::Chunked),
            (true, None) => Err(Reason::TransferEncoding),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

impl Request {
    fn parse(line: &[u8]) -> Result<Self, Reason> {
        if line.iter().any(|byte| byte.is_ascii_control()) {
            return Err(Reason::ControlCharacter);
        }
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target)) = (parts.next(), parts.next()) else {
            return Err(Reason::RequestLine);
        };
        let version = parts.next();
        if !is_token(method) || target.is_empty() || parts.next().is_some() {
            return Err(Reason::RequestLine);
        }
        // Without a version it is HTTP/0.9.
        let is_version_11 = match version.ok_or(Reason::Version)? {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(Reason::Version),
        };
        if method == b"CONNECT" {
            return Err(Reason::Connect);
        }
        judge_target(method, target)?;
        Ok(Self { is_head: method == b"HEAD", is_version_11 })
    }
}

/// Origin, absolute or asterisk form (RFC 9112, section 3.2).
fn judge_target(method: &[u8], target: &[u8]) -> Result<(), Reason> {
    if target.len() > TARGET_SIZE_BYTES_MAX {
        return Err(Reason::TargetTooLong);
    }
    let has_form = match target {
        b"*" => method == b"OPTIONS",
        [b'/', ..] => true,
        _ => [&b"http://"[..], b"https://"].iter().any(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        }),
    };
    // The very parser that the HTTP library uses: what it cannot read must not get there.
    if has_form && Uri::try_from(target).is_ok() { Ok(()) } else { Err(Reason::Target) }
}

/// `token` of RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a field value (RFC 9110, section 5.5): visible, space, tab, or above ASCII.
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// `host [":" port]`, or nothing (RFC 9110, section 7.2). Brackets only around an address.
fn is_authority(value: &[u8]) -> bool {
    let host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte);
    let address_byte = |byte: &u8| host_byte(byte) || *byte == b':';
    let (host_is_valid, rest) = if let [b'[', inner @ ..] = value {
        let Some(end) = inner.iter().position(|byte| *byte == b']') else { return false };
        (end > 0 && inner[..end].iter().all(address_byte), &inner[end + 1..])
    } else {
        let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
        (value[..end].iter().all(host_byte), &value[end..])
    };
    let port_is_valid = match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_is_valid && port_is_valid
}
