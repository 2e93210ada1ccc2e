//! Parses `multipart/byteranges` (RFC 9110, section 14.6; RFC 2046, section 5.1).

use super::Response;

/// One part.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Its Content-Range.
    pub range: String,
    pub bytes: Vec<u8>,
}

/// The parts of an answer, in order.
#[track_caller]
pub fn parts(answer: &Response) -> Vec<Part> {
    let content_type = answer.header("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let boundary = boundary.trim_matches('"');
    let mut rest = answer.body.as_slice();
    let mut parts = Vec::new();
    let opening = format!("--{boundary}\r\n");
    rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    rest = rest.strip_prefix(opening.as_bytes()).expect("the first boundary");
    loop {
        let head_length = find(rest, b"\r\n\r\n").expect("the end of a part's head");
        let head = std::str::from_utf8(&rest[..head_length]).unwrap();
        let range = head.split("\r\n").find_map(content_range).expect("a Content-Range");
        rest = &rest[head_length + 4..];
        let (bytes, after) = rest.split_at(length(&range));
        parts.push(Part { range, bytes: bytes.to_owned() });
        rest = after.strip_prefix(format!("\r\n--{boundary}").as_bytes()).expect("a boundary");
        if let Some(end) = rest.strip_prefix(b"--") {
            assert!(end.is_empty() || end == b"\r\n", "after the last boundary: {end:?}");
            return parts;
        }
        rest = rest.strip_prefix(b"\r\n").expect("a line end after the boundary");
    }
}

fn content_range(line: &str) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-range").then(|| value.trim().to_owned())
}

/// The length that `bytes a-b/size` states.
fn length(range: &str) -> usize {
    let (bounds, _) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
    let (start, end) = bounds.split_once('-').unwrap();
    end.parse::<usize>().unwrap() + 1 - start.parse::<usize>().unwrap()
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
