//! Settings of the wire, and which values they may have.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::uri::Scheme;
use axum::http::{HeaderName, HeaderValue, Uri};

/// Settings of the HTTP service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `http.addr` and `http.net`.
    pub listen: Listen,
    /// `http.prefix`: the path under which `/v2/` lies; begins and ends with `/`.
    pub prefix: String,
    /// `http.host`: what Locations begin with, without a slash at the end; `None`: they are
    /// relative.
    pub host: Option<String>,
    /// `http.relativeurls`; without [`Self::host`] Locations are relative either way.
    pub relative_urls: bool,
    /// `http.headers`: name and values, in the order of the file, on every answer.
    pub headers: Vec<(String, Vec<String>)>,
    /// `http.draintimeout`: how long a stop waits for running requests.
    pub drain_timeout: Duration,
    /// `log.accesslog.disabled` is not set.
    pub access_log: bool,
    /// `catalog.maxentries`: the longest page of `_catalog`.
    pub catalog_entries_max: usize,
    /// `tags.maxtags`: the longest page of a tag list.
    pub tags_max: usize,
    /// `kelson.manifests.maxsize`
    pub manifest_size_bytes_max: u64,
    /// `kelson.limits`
    pub limits: Limits,
    /// `http.debug`, when it has an address.
    pub debug: Option<Debug>,
}

/// The debug listener (`http.debug`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debug {
    /// `addr`: where it listens.
    pub listen: Listen,
    /// `prometheus.path`, if `prometheus.enabled`: where metrics are.
    pub metrics_path: Option<String>,
}

/// What one client may take (`kelson.limits`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `headertimeout`: from the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// `idletimeout`: between two requests of one connection.
    pub idle_timeout: Duration,
    /// `bodyrate`: the slowest body that is let through, bytes per second.
    pub body_bytes_per_second_min: u64,
    /// `bodywindow`: over which time the rate is looked at.
    pub body_window: Duration,
    /// `connections`: open at one time.
    pub connections_max: usize,
}

/// Where the service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `host:port`; without a host on every address.
    Tcp(String),
    /// A socket file.
    Unix(PathBuf),
}

/// A value that a setting of the wire cannot have; the text says what it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(&'static str);

impl Listen {
    /// `host:port`, `:port` or `[address]:port`.
    ///
    /// # Errors
    /// Anything else, and a port that is no number up to 65535.
    pub fn tcp(text: &str) -> Result<Self, Unusable> {
        let wanted = Unusable("host:port, such as :5000, 127.0.0.1:5000 or [::1]:5000");
        let (host, port) = text.rsplit_once(':').ok_or(wanted)?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wanted);
        }
        port.parse::<u16>().map_err(|_| wanted)?;
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let usable = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
        };
        if !usable {
            return Err(wanted);
        }
        Ok(Self::Tcp(text.to_owned()))
    }
}

/// Checks `http.prefix`.
///
/// # Errors
/// A path that does not begin and end with `/`, or whose segments a URL would not keep.
pub fn prefix(text: &str) -> Result<String, Unusable> {
    let wanted = Unusable("a path that begins and ends with /, such as / or /registry/");
    let inner = match text.strip_prefix('/') {
        Some("") => return Ok(text.to_owned()),
        Some(rest) => rest.strip_suffix('/').ok_or(wanted)?,
        None => return Err(wanted),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
    if inner.split('/').all(segment) { Ok(text.to_owned()) } else { Err(wanted) }
}

/// Checks `http.debug.prometheus.path`.
///
/// # Errors
/// It does not begin with a slash, or has characters that a path of a URL cannot have.
pub fn metrics_path(text: &str) -> Result<String, Unusable> {
    let is_path = text.starts_with('/')
        && text.parse::<axum::http::uri::PathAndQuery>().is_ok_and(|it| it.path() == text);
    if is_path { Ok(text.to_owned()) } else { Err(Unusable("a path, such as /metrics")) }
}

/// Checks `http.host`; the base comes back without a slash at its end.
///
/// # Errors
/// No absolute `http` or `https` URL, or one with a user, query or fragment.
pub fn host(text: &str) -> Result<String, Unusable> {
    let wanted = Unusable("an absolute URL, such as https://registry.example.com:5000");
    let uri: Uri = text.parse().map_err(|_| wanted)?;
    let known = uri.scheme().is_some_and(|it| *it == Scheme::HTTP || *it == Scheme::HTTPS);
    let authority = uri.authority().ok_or(wanted)?;
    let bare = !text.contains(['?', '#', '@']);
    if !known || !bare || authority.host().is_empty() {
        return Err(wanted);
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Checks one header of `http.headers`.
///
/// # Errors
/// A name or value that HTTP does not allow, and a header that decides where a message ends.
pub fn header(name: &str, values: &[String]) -> Result<(), Unusable> {
    let parsed: HeaderName =
        name.parse().map_err(|_| Unusable("a header name: letters, digits and -"))?;
    let framing = ["connection", "content-length", "te", "trailer", "transfer-encoding", "upgrade"];
    if framing.contains(&parsed.as_str()) {
        return Err(Unusable("any header but those that decide where a message ends"));
    }
    if values.iter().any(|value| HeaderValue::from_str(value).is_err()) {
        return Err(Unusable("header values without control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_numeric_port() {
        for good in [":5000", "127.0.0.1:0", "[::1]:80", "registry.local:65535", "0.0.0.0:5000"] {
            assert_eq!(Listen::tcp(good), Ok(Listen::Tcp(good.to_owned())));
        }
        for bad in
            ["", "5000", ":", ":http", ":65536", "::1:80", "[x]:80", "a b:80", ":+5", "[::1]"]
        {
            assert!(Listen::tcp(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_begins_and_ends_with_a_slash() {
        for good in ["/", "/registry/", "/a/b.c/"] {
            assert_eq!(prefix(good).unwrap(), good);
        }
        for bad in ["", "v2", "/v2", "v2/", "//", "/a//b/", "/../", "/a b/", "/a?/"] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_an_absolute_url_and_loses_its_last_slash() {
        assert_eq!(host("https://r.example.com:5000/").unwrap(), "https://r.example.com:5000");
        assert_eq!(host("http://r.example.com/sub").unwrap(), "http://r.example.com/sub");
        for bad in ["", "r.example.com", "//r", "ftp://r", "https://", "https://u@r", "http://r?x"]
        {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_that_frame_a_message_are_refused() {
        assert_eq!(header("X-Content-Type-Options", &["nosniff".to_owned()]), Ok(()));
        assert!(header("Content-Length", &["1".to_owned()]).is_err());
        assert!(header("bad name", &[]).is_err());
        assert!(header("X-A", &["a\r\nX-B: c".to_owned()]).is_err());
    }
}
