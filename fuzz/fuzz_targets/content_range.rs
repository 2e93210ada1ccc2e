//! F-4: the `Content-Range` of a chunk is two numbers in order, and what it covers is their span.
#![no_main]

use std::sync::LazyLock;

use kelson::oci::range::{ContentRange, ContentRangeError};
use kelson_fuzz::whole;
use libfuzzer_sys::fuzz_target;
use regex::Regex;

static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| whole("([0-9]+)-([0-9]+)"));

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = ContentRange::parse(text);
    let Some(numbers) = GRAMMAR.captures(text) else {
        assert_eq!(parsed, Err(ContentRangeError::Malformed));
        return;
    };
    let number = |index: usize| numbers[index].parse::<u128>().unwrap_or(u128::MAX);
    let (start, end) = (number(1), number(2));
    let expected = match () {
        () if start.max(end) >= 1 << 63 => Err(ContentRangeError::TooLarge),
        () if end < start => Err(ContentRangeError::Reversed),
        () => Ok((start, end, end - start + 1)),
    };
    let read = |range: ContentRange| {
        (u128::from(range.start), u128::from(range.end), u128::from(range.size_bytes()))
    };
    assert_eq!(parsed.map(read), expected);
});
