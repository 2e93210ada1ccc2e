//! The guard against an independent reading of the same bytes, and case by case.

use proptest::prelude::*;

use super::head::{FIELDS_MAX, HEAD_SIZE_BYTES_MAX};
use super::*;

fn reason(stream: &[u8]) -> Option<Reason> {
    match Guard::new().offer(stream).refusal {
        Some(Refusal::Head(rejection)) => Some(rejection.reason),
        Some(Refusal::Body) | None => None,
    }
}

fn head_with(fields: &str) -> Vec<u8> {
    format!("POST /v2/ HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n").into_bytes()
}

#[test]
fn heads_of_real_clients_pass() {
    let heads: [&[u8]; 9] = [
        b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost:[::1]:5000\r\nUser-Agent: x\t\"}\r\n\r\n",
        b"HEAD /v2/a/blobs/sha256:0 HTTP/1.0\r\n\r\n",
        b"\r\nGET /v2/?n=1&last=%00 HTTP/1.1\r\nHost:\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http://evil.example/v2/ HTTP/1.1\r\nHost: other\r\n\r\n",
        b"FOO /v2/ HTTP/1.1\r\nHost: r.example.com\r\nX-Latin: \xe9\r\n\r\n",
        b"PUT /v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: \t 0 \r\n\r\n",
        b"GET /v2/{x}|\"y\" HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    for head in heads {
        let mut guard = Guard::new();
        let verdict = guard.offer(head);
        let text = String::from_utf8_lossy(head);
        assert_eq!(verdict, Verdict { passed: head.len(), refusal: None }, "{text}");
        assert_eq!(guard.heads(), 1);
    }
}

#[test]
fn malformed_heads_are_refused_for_what_is_wrong_with_them() {
    let cases: [(&[u8], Reason); 30] = [
        (b"\x16\x03\x01", Reason::Tls),
        (b"GET /v2/ HTTP/1.1\nHost: h\n\n", Reason::ControlCharacter),
        (b"GET /v2/ HTTP/1.1\r\nX: a\x00b\r\n", Reason::ControlCharacter),
        (b"GET /v2/ HTTP/1.1\r\nX: a\rb\r\n", Reason::ControlCharacter),
        (b"GET /v2/ HTTP/1.1\r\nX: \x1b[2J\r\n", Reason::ControlCharacter),
        (b"GET\t/v2/ HTTP/1.1\r\n", Reason::ControlCharacter),
        (b"\nGET /v2/ HTTP/1.1\r\n", Reason::ControlCharacter),
        (b"GET /v2/\r\n", Reason::Version),
        (b"GET /v2/ HTTP/9.9\r\n", Reason::Version),
        (b"GET /v2/ http/1.1\r\n", Reason::Version),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::Version),
        (b"GET  /v2/ HTTP/1.1\r\n", Reason::RequestLine),
        (b"GET /v2/ HTTP/1.1 \r\n", Reason::RequestLine),
        (b" GET /v2/ HTTP/1.1\r\n", Reason::RequestLine),
        (b"G(T /v2/ HTTP/1.1\r\n", Reason::RequestLine),
        (b"\r\n\r\n\r\n\r\n\r\n", Reason::RequestLine),
        (b"GET v2 HTTP/1.1\r\n", Reason::Target),
        (b"GET * HTTP/1.1\r\n", Reason::Target),
        (b"GET /v2/<x> HTTP/1.1\r\n", Reason::Target),
        (b"GET ftp://h/ HTTP/1.1\r\n", Reason::Target),
        (b"GET /\xff HTTP/1.1\r\n", Reason::Target),
        (b"CONNECT h:80 HTTP/1.1\r\n", Reason::Connect),
        (b"GET /v2/ HTTP/1.1\r\nX : a\r\n", Reason::Field),
        (b"GET /v2/ HTTP/1.1\r\n: a\r\n", Reason::Field),
        (b"GET /v2/ HTTP/1.1\r\nX\r\n", Reason::Field),
        (b"GET /v2/ HTTP/1.1\r\nX: a\r\n b\r\n", Reason::Folded),
        (b"GET /v2/ HTTP/1.1\r\n\r\n", Reason::Host),
        (b"GET /v2/ HTTP/1.1\r\nHost: a b\r\n", Reason::Host),
        (b"GET /v2/ HTTP/1.1\r\nHost: h\r\nHost: h\r\n", Reason::Host),
        (b"GET /v2/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Reason::TransferEncoding),
    ];
    for (stream, expected) in cases {
        assert_eq!(reason(stream), Some(expected), "{}", String::from_utf8_lossy(stream));
    }
}

#[test]
fn ambiguous_framing_is_refused() {
    let lengths = ["+5", "-5", "0x5", "5, 5", "5,6", "", "5 5", "5.0", "99999999999999999999"];
    for length in lengths {
        let head = head_with(&format!("Content-Length: {length}"));
        assert_eq!(reason(&head), Some(Reason::ContentLength), "{length}");
    }
    let twice = head_with("Content-Length: 5\r\nContent-Length: 5");
    assert_eq!(reason(&twice), Some(Reason::ContentLength));
    let codings = ["xchunked", "chunked, identity", "identity, chunked", "chunked;q=1", "gzip", ""];
    for coding in codings {
        let head = head_with(&format!("Transfer-Encoding: {coding}"));
        assert_eq!(reason(&head), Some(Reason::TransferEncoding), "{coding}");
    }
    let twice = head_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked");
    assert_eq!(reason(&twice), Some(Reason::TransferEncoding));
    let pair = ["Transfer-Encoding: chunked", "Content-Length: 4"];
    for order in [[0, 1], [1, 0]] {
        let both = head_with(&order.map(|index| pair[index]).join("\r\n"));
        assert_eq!(reason(&both), Some(Reason::BothFramings));
    }
    assert_eq!(reason(&head_with("Transfer-Encoding: Chunked")), None);
}

#[test]
fn hosts_that_are_no_authority_are_refused() {
    let with = |host: &str| reason(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    for good in ["", "h", "h:", "h:80", "1.2.3.4:5", "[::1]", "[fe80::1%25eth0]:80", "a_b.c~"] {
        assert_eq!(with(good), None, "{good}");
    }
    for bad in ["h:x", "h:80:80", "::1", "[::1", "[]", "u@h", "h/x", "h?", "h#", "[::1]x", "a\\b"] {
        assert_eq!(with(bad), Some(Reason::Host), "{bad}");
    }
}

#[test]
fn too_large_heads_are_refused_before_they_are_whole() {
    let mut guard = Guard::new();
    let mut stream = b"GET /v2/ HTTP/1.1\r\nX: ".to_vec();
    stream.resize(HEAD_SIZE_BYTES_MAX - 1, b'a');
    assert_eq!(guard.offer(&stream), Verdict { passed: 0, refusal: None });
    stream.push(b'a');
    assert_eq!(reason(&stream), Some(Reason::TooLarge));
    let fields = |count| (1..count).map(|at| format!("X-{at}: x\r\n")).collect::<String>();
    assert_eq!(reason(&head_with(fields(FIELDS_MAX).trim_end())), None);
    assert_eq!(reason(&head_with(fields(FIELDS_MAX + 1).trim_end())), Some(Reason::TooLarge));
    let target = format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000));
    assert_eq!(reason(target.as_bytes()), Some(Reason::TargetTooLong));
}

#[test]
fn a_refused_head_request_is_known_as_one() {
    let is_head = |stream: &[u8]| match Guard::new().offer(stream).refusal {
        Some(Refusal::Head(rejection)) => rejection.is_head,
        _ => panic!("passed"),
    };
    assert!(is_head(b"HEAD /v2/ HTTP/1.1\r\nX : a\r\n"));
    assert!(is_head(b"HEAD /v2/ HTTP/3.1\r\n"));
    assert!(!is_head(b"HEADER /v2/ HTTP/1.1\r\nX : a\r\n"));
}

#[test]
fn nothing_passes_after_a_refusal_and_everything_before_does() {
    let good = b"GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n";
    let stream = [&good[..], b"GET /v2/ HTTP/1.1\r\nX : a\r\n\r\n", good].concat();
    let mut guard = Guard::new();
    let verdict = guard.offer(&stream);
    assert_eq!(verdict.passed, good.len());
    assert!(matches!(verdict.refusal, Some(Refusal::Head(_))));
    assert_eq!(guard.heads(), 1);
    assert_eq!(guard.offer(good), Verdict { passed: 0, refusal: None });
}

fn chunked(body: &[u8]) -> Verdict {
    let mut guard = Guard::new();
    guard.offer(&head_with("Transfer-Encoding: chunked"));
    guard.offer(body)
}

#[test]
fn chunked_bodies_pass_to_their_end() {
    let bodies: [&[u8]; 6] = [
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"A\r\n0123456789\r\n00\r\n\r\n",
        b"5;name=\"value\"\r\nhello\r\n0;last\r\n\r\n",
        b"5 \t\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nContent-Length: 0\r\nX-A: b\r\n\r\n",
    ];
    for body in bodies {
        let next = [body, b"GET"].concat();
        let expected = Verdict { passed: body.len(), refusal: None };
        assert_eq!(chunked(&next), expected, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn malformed_chunks_are_refused_where_they_go_wrong() {
    let long_extension = [b"1;".as_slice(), &[b'x'; 9000]].concat();
    let bodies: [(&[u8], usize); 14] = [
        (b"zz\r\n", 0),
        (b"\r\n", 0),
        (b"5\nhello", 1),
        (b"5\r\nhello!\r\n", 8),
        (b"5\r\nhello\n", 8),
        (b"-1\r\n", 0),
        (b"+1\r\n", 0),
        (b"0x5\r\n", 1),
        (b"10000000000000000\r\n", 16),
        (b"5;\x00\r\n", 2),
        (b"5\rX", 2),
        (b"0\r\nX\r\n", 4),
        (b"0\r\n X: a\r\n", 3),
        (&long_extension, 2 + 8192),
    ];
    for (body, good) in bodies {
        let verdict = chunked(body);
        let text = String::from_utf8_lossy(&body[..body.len().min(40)]);
        assert_eq!(verdict, Verdict { passed: good, refusal: Some(Refusal::Body) }, "{text}");
    }
}

/// One message of a stream, and how its body is framed.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    let cuts = proptest::collection::vec(1..10_usize, 0..6);
    (body, cuts, any::<bool>()).prop_map(|(body, cuts, is_chunked)| {
        if !is_chunked {
            let head = head_with(&format!("Content-Length: {}", body.len()));
            return [head, body].concat();
        }
        let mut stream = head_with("Transfer-Encoding: chunked");
        let mut rest = body.as_slice();
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            if !chunk.is_empty() {
                stream.extend(format!("{:x}\r\n", chunk.len()).bytes());
                stream.extend([chunk, b"\r\n"].concat());
            }
            rest = after;
        }
        stream.extend(b"0\r\n\r\n");
        stream
    })
}

/// Offers a stream in pieces of these sizes, as reads would bring it; what passed and whether
/// it was refused.
fn offer_in_pieces(guard: &mut Guard, stream: &[u8], sizes: &[usize]) -> (Vec<u8>, bool) {
    let (mut held, mut passed, mut at) = (Vec::new(), Vec::new(), 0);
    let mut sizes = sizes.iter().cycle();
    while at < stream.len() {
        let size = sizes.next().map_or(1, |size| *size).min(stream.len() - at);
        held.extend_from_slice(&stream[at..at + size]);
        at += size;
        let verdict = guard.offer(&held);
        passed.extend(held.drain(..verdict.passed));
        if verdict.refusal.is_some() {
            return (passed, true);
        }
    }
    (passed, false)
}

proptest! {
    #[test]
    fn well_formed_streams_pass_whole_however_they_are_cut(
        messages in proptest::collection::vec(message(), 1..5),
        sizes in proptest::collection::vec(1..50_usize, 1..8),
    ) {
        let mut guard = Guard::new();
        let stream = messages.concat();
        let (passed, refused) = offer_in_pieces(&mut guard, &stream, &sizes);
        prop_assert!(!refused);
        prop_assert_eq!(passed, stream);
        prop_assert_eq!(guard.heads(), messages.len() as u64);
        prop_assert!(!guard.in_body());
    }

    #[test]
    fn verdicts_do_not_depend_on_how_a_stream_is_cut(
        messages in proptest::collection::vec(message(), 1..3),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        sizes in proptest::collection::vec(1..50_usize, 1..8),
    ) {
        let mut stream = messages.concat();
        for (index, byte) in flips {
            let at = index.index(stream.len());
            stream[at] = byte;
        }
        let whole = offer_in_pieces(&mut Guard::new(), &stream, &[stream.len()]);
        let cut = offer_in_pieces(&mut Guard::new(), &stream, &sizes);
        prop_assert_eq!(whole, cut);
    }

    /// An independent strict reader, made of regular expressions.
    #[test]
    fn heads_that_pass_follow_the_grammar(
        head in "(GET|POST|HEAD) ?/?[a-z ?<]{0,4} ?HTTP/1\\.[0-2]\r?\n(((Host|Content-Length\
            |Transfer-Encoding|X| X) ?:[ \ta-c0-9:,+\x00\r]{0,6}|Host: h|Content-Length: 1\
            |Transfer-Encoding: chunked)\r?\n){0,4}\r\n",
    ) {
        let line = "(GET|POST|HEAD) /[a-z?]* HTTP/1\\.([01])\r\n";
        let grammar = regex::Regex::new(&format!(
            "^{line}((?:[A-Za-z-]+:[ -~\t]*\r\n)*)\r\n$"
        )).unwrap();
        let passes = Guard::new().offer(head.as_bytes()).passed > 0;
        let Some(parts) = grammar.captures(&head) else {
            prop_assert!(!passes, "{head:?}");
            return Ok(());
        };
        let values = |name: &str| -> Vec<&str> {
            let fields = parts[3].split("\r\n").filter_map(|line| line.split_once(':'));
            fields.filter(|field| field.0 == name).map(|field| field.1.trim()).collect()
        };
        let host = regex::Regex::new("^[a-z0-9,+]*(:[0-9]{0,5})?$").unwrap();
        let number = regex::Regex::new("^[0-9]+$").unwrap();
        let (hosts, lengths) = (values("Host"), values("Content-Length"));
        let codings = values("Transfer-Encoding");
        let is_version_11 = &parts[2] == "1";
        let expected = hosts.len() <= 1
            && (hosts.len() == 1 || !is_version_11)
            && hosts.iter().all(|value| host.is_match(value))
            && lengths.len() + codings.len() <= 1
            && lengths.iter().all(|value| number.is_match(value))
            && codings.iter().all(|value| *value == "chunked" && is_version_11);
        prop_assert_eq!(passes, expected, "{:?}", head);
    }
}
