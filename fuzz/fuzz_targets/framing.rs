//! F-9 and the pure half of F-11: the framing guard, which also judges `Host`. The first byte is
//! the size of the pieces in which the stream arrives, the rest is the stream. What passes does
//! not depend on the pieces, is a beginning of the stream, and an independent strict reader finds
//! the same heads and ends of bodies in it.
#![no_main]

use std::sync::LazyLock;

use kelson::http::fuzzing::guard;
use kelson_fuzz::whole;
use libfuzzer_sys::fuzz_target;
use regex::Regex;

static REQUEST_LINE: LazyLock<Regex> =
    LazyLock::new(|| whole("([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ ]+) HTTP/1\\.([01])"));
static FIELD: LazyLock<Regex> =
    LazyLock::new(|| whole("([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\\x00-\\x08\\x0a-\\x1f\\x7f]*)"));
static HOST: LazyLock<Regex> = LazyLock::new(|| {
    let name = "[0-9A-Za-z._~%!$&'()*+,;=-]";
    whole(&format!("(?:{name}*|\\[(?:{name}|:)+\\])(?::[0-9]{{0,5}})?"))
});
static NUMBER: LazyLock<Regex> = LazyLock::new(|| whole("[0-9]+"));

fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else { return };
    let at_once = guard(stream, stream.len());
    assert_eq!(guard(stream, usize::from(*size)), at_once);
    assert!(stream.starts_with(&at_once.bytes));
    let mut rest = at_once.bytes.as_slice();
    let mut heads = 0;
    let mut in_body = false;
    while !rest.is_empty() {
        // Some empty lines may stand before a request line.
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        let (head, body) = rest.split_at(end.expect("only whole heads pass"));
        heads += 1;
        let size = match framing(head) {
            Framing::Length(size) => Some(size).filter(|size| *size <= body.len() as u64),
            Framing::Chunked => chunked_size(body),
        };
        in_body = size.is_none();
        rest = size.map_or(&[], |size| &body[size as usize..]);
    }
    assert_eq!((heads, in_body && at_once.refusal.is_none()), (at_once.heads, at_once.in_body));
});

enum Framing {
    Length(u64),
    Chunked,
}

/// How the body behind a head is framed; the head follows the grammar to the letter.
fn framing(head: &[u8]) -> Framing {
    // Latin 1, as field values may hold it: one character a byte.
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let lines: Vec<&str> = text.trim_end_matches("\r\n").split("\r\n").collect();
    let request = REQUEST_LINE.captures(lines[0]).expect("a request line");
    assert!(request[2].chars().all(|c| !c.is_ascii_control()));
    let fields: Vec<(String, String)> = lines[1..]
        .iter()
        .map(|line| FIELD.captures(line).unwrap_or_else(|| panic!("{line:?} is no field")))
        .map(|found| (found[1].to_ascii_lowercase(), found[2].trim_matches([' ', '\t']).to_owned()))
        .collect();
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect()
    };
    let (hosts, lengths) = (values("host"), values("content-length"));
    let codings = values("transfer-encoding");
    assert!(hosts.len() <= 1 && (hosts.len() == 1 || &request[3] == "0"), "{hosts:?}");
    assert!(hosts.iter().all(|host| HOST.is_match(host)), "{hosts:?}");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Framing::Length(0),
        ([length], []) => {
            assert!(NUMBER.is_match(length));
            Framing::Length(length.parse().expect("a length that fits"))
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case("chunked") && &request[3] == "1");
            Framing::Chunked
        }
        both => panic!("{both:?} frame one body"),
    }
}

/// Length of the whole chunked body that `bytes` begin with; `None` when its end is not there.
fn chunked_size(bytes: &[u8]) -> Option<u64> {
    let line_end =
        |at: usize| bytes[at..].windows(2).position(|two| two == b"\r\n").map(|n| at + n);
    let mut at = 0;
    loop {
        let end = line_end(at)?;
        let digits = bytes[at..end].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let digits = std::str::from_utf8(&bytes[at..at + digits]).ok()?;
        let size = u64::from_str_radix(digits, 16).expect("a chunk has a size");
        at = end + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if at + 2 > bytes.len() {
            return None;
        }
        assert_eq!(&bytes[at..at + 2], b"\r\n", "a chunk ends with a line end");
        at += 2;
    }
    loop {
        let end = line_end(at)?;
        let is_last = end == at;
        at = end + 2;
        if is_last {
            return Some(at as u64);
        }
    }
}
