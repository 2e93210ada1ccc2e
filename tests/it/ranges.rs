//! Parts of blobs: single ranges, several in one request, and what is no range.

use crate::support::multipart::{Part, parts};
use crate::support::{Client, Options, Response, Server, random_bytes};

const SIZE_BYTES: usize = 2048;

struct Blob {
    client: Client,
    path: String,
    bytes: Vec<u8>,
    _server: Server,
}

impl Blob {
    fn new(size_bytes: usize) -> Self {
        Self::on(Server::start(), size_bytes)
    }

    fn on(server: Server, size_bytes: usize) -> Self {
        let (client, bytes) = (server.client(), random_bytes(size_bytes));
        let path = format!("/v2/app/blobs/{}", client.push_blob("app", &bytes));
        Self { client, path, bytes, _server: server }
    }

    fn ask(&self, range: &str) -> Response {
        self.client.request("GET", &self.path).header("Range", range).send()
    }

    #[track_caller]
    fn assert_single(&self, range: &str, start: usize, end: usize) {
        let answer = self.ask(range).expect(206);
        let expected = format!("bytes {start}-{end}/{}", self.bytes.len());
        assert_eq!(answer.header("content-range"), Some(expected.as_str()), "{range}");
        assert_eq!(answer.content_length(), (end - start + 1) as u64, "{range}");
        assert!(answer.body == self.bytes[start..=end], "{range}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert!(answer.header("docker-content-digest").is_some());
        assert!(answer.header("etag").is_some());
    }

    #[track_caller]
    fn assert_parts(&self, range: &str, expected: &[(usize, usize)]) {
        let answer = self.ask(range).expect(206);
        let size = self.bytes.len();
        let part = |(start, end): &(usize, usize)| Part {
            range: format!("bytes {start}-{end}/{size}"),
            bytes: self.bytes[*start..=*end].to_owned(),
        };
        assert!(parts(&answer) == expected.iter().map(part).collect::<Vec<_>>(), "{range:.100}");
        assert_eq!(answer.header("content-range"), None);
        assert_eq!(answer.content_length(), answer.body.len() as u64);
    }

    #[track_caller]
    fn assert_whole(&self, range: &str) {
        let answer = self.ask(range).expect(200);
        assert!(answer.body == self.bytes, "{range:.100}");
        assert_eq!(answer.header("content-range"), None);
    }

    #[track_caller]
    fn assert_unsatisfiable(&self, range: &str) {
        let answer = self.ask(range).expect(416);
        let expected = format!("bytes */{}", self.bytes.len());
        assert_eq!(answer.header("content-range"), Some(expected.as_str()), "{range}");
        assert_eq!(answer.content_length(), answer.body.len() as u64, "{range}");
    }
}

#[test]
fn one_range_is_answered_with_its_bytes() {
    for size_bytes in [SIZE_BYTES, 200_000] {
        let blob = Blob::new(size_bytes);
        let end = size_bytes - 1;
        blob.assert_single("bytes=0-0", 0, 0);
        blob.assert_single("bytes=500-1499", 500, 1499);
        blob.assert_single("bytes=500-", 500, end);
        blob.assert_single("bytes=-500", size_bytes - 500, end);
        blob.assert_single("bytes=0-", 0, end);
        blob.assert_single(&format!("bytes={end}-{end}"), end, end);
    }
}

#[test]
fn range_beyond_the_end_is_cut() {
    let blob = Blob::new(SIZE_BYTES);
    blob.assert_single("bytes=2000-5000", 2000, 2047);
    blob.assert_single("bytes=0-18446744073709551615", 0, 2047);
    blob.assert_single("bytes=-5000", 0, 2047);
}

#[test]
fn range_outside_is_416_with_the_size() {
    let blob = Blob::new(SIZE_BYTES);
    for range in ["bytes=2048-", "bytes=5000-10000", "bytes=999999999999-", "bytes=-0"] {
        blob.assert_unsatisfiable(range);
    }
    blob.assert_unsatisfiable("bytes=500-0");
    blob.assert_unsatisfiable("bytes=3000-4000,5000-");
    let after = blob.client.get(&blob.path).expect(200);
    assert_eq!(after.content_length(), SIZE_BYTES as u64);
}

#[test]
fn what_is_no_range_is_ignored() {
    let blob = Blob::new(SIZE_BYTES);
    for range in ["bytes=abc", "items=0-1", "0-1", "bytes", "bytes=1-2-3"] {
        blob.assert_whole(range);
    }
}

#[test]
fn several_ranges_are_as_many_parts_in_their_order() {
    let blob = Blob::new(200_000);
    blob.assert_parts("bytes=0-9,20-29", &[(0, 9), (20, 29)]);
    blob.assert_parts("bytes=20-29,0-9", &[(20, 29), (0, 9)]);
    blob.assert_parts("bytes=0-99, 50-149 ,50-149", &[(0, 99), (50, 149), (50, 149)]);
    blob.assert_parts("bytes=0-0,1-1,2-2", &[(0, 0), (1, 1), (2, 2)]);
    blob.assert_parts("bytes=-10,0-4", &[(199_990, 199_999), (0, 4)]);
}

#[test]
fn unsatisfiable_among_satisfiable_ranges_is_left_out() {
    let blob = Blob::new(SIZE_BYTES);
    let range = "bytes=0-9,5000-6000,20-29";
    blob.assert_parts(range, &[(0, 9), (20, 29)]);
}

#[test]
fn a_thousand_and_24_ranges_are_as_many_parts() {
    let blob = Blob::new(1_000_000);
    let ranges: Vec<_> = (0..1024).map(|n| (n * 900, n * 900 + 99)).collect();
    let text: Vec<_> = ranges.iter().map(|(start, end)| format!("{start}-{end}")).collect();
    blob.assert_parts(&format!("bytes={}", text.join(",")), &ranges);
}

#[test]
fn ranges_never_cost_more_than_the_blob() {
    let blob = Blob::new(SIZE_BYTES);
    let many = vec!["0-"; 500].join(",");
    blob.assert_whole(&format!("bytes={many}"));
}

#[test]
fn head_does_not_look_at_ranges() {
    let blob = Blob::new(SIZE_BYTES);
    for range in ["bytes=0-9", "bytes=9999-"] {
        let answer = blob.client.request("HEAD", &blob.path).header("Range", range).send();
        assert_eq!(answer.expect(200).content_length(), SIZE_BYTES as u64);
    }
}

#[test]
fn connection_goes_on_after_partial_answers() {
    let server = Server::with(Options::default());
    let address = server.address();
    let blob = Blob::on(server, SIZE_BYTES);
    let mut raw = crate::support::Raw::connect(address);
    let asked = [("0-9", 206), ("9999-", 416), ("0-9,20-29", 206), ("abc", 200), ("0-0", 206)];
    for (range, status) in asked {
        raw.send_head(&format!("GET {}", blob.path), &[&format!("Range: bytes={range}")]);
        let answer = raw.response();
        assert_eq!(answer.status(), status, "{range}");
    }
}
