//! A client that follows nothing, retries nothing and decodes nothing by itself.

use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request as HttpRequest};
use ureq::{Agent, SendBody};

use super::{OCTETS, PATIENCE, sha256};

/// Talks to one server over kept-alive connections; cheap to clone, may be shared by threads.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    base: String,
}

/// A request to be sent.
#[must_use]
pub struct Request<'a> {
    agent: &'a Agent,
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

/// An answer, read to its end.
#[derive(Debug)]
#[must_use]
pub struct Response {
    asked: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    /// `base`: scheme and authority, such as `http://127.0.0.1:5000`.
    pub fn new(base: String) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .max_response_header_size(1 << 20)
            .timeout_global(Some(PATIENCE * 2))
            .build();
        Self { agent: config.into(), base }
    }

    /// Begins a request; `path` is sent as written. An absolute URL goes where it says.
    pub fn request(&self, method: &str, path: &str) -> Request<'_> {
        let url =
            if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let method = method.parse().unwrap();
        Request { agent: &self.agent, method, url, headers: vec![], body: vec![], chunked: false }
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path).send()
    }

    pub fn head(&self, path: &str) -> Response {
        self.request("HEAD", path).send()
    }

    pub fn delete(&self, path: &str) -> Response {
        self.request("DELETE", path).send()
    }

    /// Opens an upload and returns its Location.
    pub fn begin_upload(&self, repo: &str) -> String {
        let answer = self.request("POST", &format!("/v2/{repo}/blobs/uploads/")).send();
        answer.expect(202).location()
    }

    /// PATCH; `range` becomes Content-Range.
    pub fn patch(&self, location: &str, range: Option<&str>, bytes: &[u8]) -> Response {
        let request = self.request("PATCH", location).header("Content-Type", OCTETS).body(bytes);
        match range {
            Some(range) => request.header("Content-Range", range).send(),
            None => request.send(),
        }
    }

    /// PUT that ends an upload.
    pub fn finish(&self, location: &str, digest: &str, bytes: &[u8]) -> Response {
        let url = with_query(location, &format!("digest={}", digest.replace(':', "%3A")));
        self.request("PUT", &url).header("Content-Type", OCTETS).body(bytes).send()
    }

    /// Pushes with POST and PUT; returns the blob's sha256 digest.
    pub fn push_blob(&self, repo: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let location = self.begin_upload(repo);
        let _ = self.finish(&location, &digest, bytes).expect(201);
        digest
    }

    pub fn blob(&self, repo: &str, digest: &str) -> Response {
        self.get(&format!("/v2/{repo}/blobs/{digest}"))
    }

    pub fn manifest(&self, repo: &str, reference: &str) -> Response {
        self.manifest_request("GET", repo, reference).send()
    }

    /// Begins a request for a manifest that takes every type.
    pub fn manifest_request(&self, method: &str, repo: &str, reference: &str) -> Request<'_> {
        let accept =
            [super::OCI_MANIFEST, super::OCI_INDEX, super::DOCKER_MANIFEST, super::DOCKER_LIST];
        let path = format!("/v2/{repo}/manifests/{reference}");
        self.request(method, &path).header("Accept", &accept.join(", "))
    }

    pub fn put_manifest(
        &self,
        repo: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Response {
        let path = format!("/v2/{repo}/manifests/{reference}");
        self.request("PUT", &path).header("Content-Type", media_type).body(bytes).send()
    }

    /// The tags of a repository, following Links.
    pub fn tags(&self, repo: &str) -> Vec<String> {
        self.walk(&format!("/v2/{repo}/tags/list"), "tags").concat()
    }

    /// The pages of a list, following Links.
    pub fn walk(&self, path: &str, key: &str) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let answer = self.get(&path).expect(200);
            pages.push(strings(&answer.json()[key]));
            next = answer.next_link();
            assert!(pages.len() < 100_000, "the Links of {path} do not end");
        }
        pages
    }
}

impl Request<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with its Content-Length.
    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.body = bytes.to_owned();
        self
    }

    /// A body in chunked coding, without a Content-Length.
    pub fn streamed(mut self, bytes: &[u8]) -> Self {
        self.chunked = true;
        self.body(bytes)
    }

    pub fn send(self) -> Response {
        self.try_send().unwrap()
    }

    /// `None`: the connection was cut, and nobody knows what became of it.
    pub fn send_or_cut(self) -> Option<Response> {
        self.try_send().ok()
    }

    /// Errors are those of the connection.
    pub fn try_send(self) -> Result<Response, ureq::Error> {
        let asked = format!("{} {:.200}", self.method, self.url);
        let mut builder = HttpRequest::builder().method(self.method.clone()).uri(&self.url);
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        let plain = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let answer = if self.chunked {
            let mut reader = std::io::Cursor::new(self.body);
            self.agent.run(builder.body(SendBody::from_reader(&mut reader))?)
        } else if self.body.is_empty() && (plain || self.method == Method::DELETE) {
            self.agent.run(builder.body(())?)
        } else {
            self.agent.run(builder.body(self.body)?)
        };
        let (parts, body) = answer?.into_parts();
        let body = body.into_with_config().limit(1 << 30).read_to_vec()?;
        Ok(Response { asked, status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

impl Response {
    /// Panics unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        let Self { asked, status: actual, headers, .. } = &self;
        assert_eq!(*actual, status, "{asked}: {headers:?} {text:.500}");
        self
    }

    /// Panics unless it is this status with an error body of that code.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        let media_type = answer.header("content-type").and_then(|it| it.split(';').next());
        assert_eq!(media_type, Some("application/json"), "{}", answer.asked);
        let body = answer.json();
        assert_eq!(body["errors"][0]["code"].as_str(), Some(code), "{}: {body}", answer.asked);
        answer
    }

    /// The header's value, if it is there exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{}: several {name}", self.asked);
        Some(value.to_str().unwrap())
    }

    #[track_caller]
    pub fn location(&self) -> String {
        self.header("location").expect("a Location").to_owned()
    }

    #[track_caller]
    pub fn digest(&self) -> &str {
        self.header("docker-content-digest").expect("a Docker-Content-Digest")
    }

    #[track_caller]
    pub fn content_length(&self) -> u64 {
        self.header("content-length").expect("a Content-Length").parse().unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{}: {error}: {:.300}", self.asked, String::from_utf8_lossy(&self.body))
        })
    }

    /// The target of `Link: <target>; rel="next"`.
    pub fn next_link(&self) -> Option<String> {
        let link = self.header("link")?;
        let (target, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert!(rest.replace(' ', "").contains("rel=\"next\""), "{link}");
        Some(target.to_owned())
    }

    /// The offset that `Range: 0-<last>` states; `0-0` is ambiguous and taken as nothing.
    #[track_caller]
    pub fn offset(&self) -> u64 {
        let range = self.header("range").expect("a Range");
        let last: u64 = range.strip_prefix("0-").expect("0-<last>").parse().unwrap();
        if last == 0 { 0 } else { last + 1 }
    }
}

/// `url` with one more parameter.
pub fn with_query(url: &str, parameter: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameter}")
}

/// A JSON array of strings.
#[track_caller]
pub fn strings(array: &Value) -> Vec<String> {
    let items = array.as_array().unwrap_or_else(|| panic!("not an array: {array}"));
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}
