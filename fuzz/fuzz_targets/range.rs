//! F-3: `Range` means what a reading by regular expressions says, and never more than the
//! content. The first eight bytes are the content's length, the rest is the header.
#![no_main]

use std::sync::LazyLock;

use kelson::oci::range::{ByteRange, RANGES_MAX, RangeOutcome};
use kelson_fuzz::whole;
use libfuzzer_sys::fuzz_target;
use regex::Regex;

static HEADER: LazyLock<Regex> = LazyLock::new(|| whole("(?i:bytes)=(.*)"));
static SPEC: LazyLock<Regex> = LazyLock::new(|| whole("([0-9]+)-([0-9]*)|-([0-9]+)"));

fuzz_target!(|data: &[u8]| {
    let Some((size, header)) = data.split_first_chunk::<8>() else { return };
    let (size_bytes, header) = (u64::from_le_bytes(*size), String::from_utf8_lossy(header));
    let outcome = RangeOutcome::parse(&header, size_bytes);
    assert_eq!(outcome, expected(&header, size_bytes));
    let RangeOutcome::Ranges(ranges) = outcome else { return };
    assert!((1..=RANGES_MAX).contains(&ranges.len()));
    let mut sum = 0_u128;
    for range in ranges {
        assert!(range.start <= range.end && range.end < size_bytes);
        sum += u128::from(range.size_bytes());
    }
    assert!(sum <= u128::from(size_bytes));
});

fn number(digits: &str) -> u128 {
    digits.parse().unwrap_or(u128::MAX)
}

fn expected(header: &str, size_bytes: u64) -> RangeOutcome {
    let Some(set) = HEADER.captures(header) else { return RangeOutcome::Whole };
    let specs = set.get(1).map_or("", |set| set.as_str()).split(',');
    let specs = specs.map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let specs: Option<Vec<_>> = specs.map(|spec| SPEC.captures(spec)).collect();
    let Some(specs) = specs.filter(|specs| (1..=RANGES_MAX).contains(&specs.len())) else {
        return RangeOutcome::Whole;
    };
    if size_bytes == 0 {
        return RangeOutcome::Whole;
    }
    let size = u128::from(size_bytes);
    let mut ranges = Vec::new();
    for spec in specs {
        let part = |index| spec.get(index).map_or("", |found| found.as_str());
        let (start, end) = match (part(1), part(2), part(3)) {
            ("", _, length) => (size - number(length).min(size), size),
            (first, "", _) => (number(first), size),
            (first, last, _) => (number(first), number(last).saturating_add(1).min(size)),
        };
        if start < end {
            ranges.push((start, end));
        }
    }
    if ranges.iter().map(|(start, end)| end - start).sum::<u128>() > size {
        return RangeOutcome::Whole;
    }
    if ranges.is_empty() {
        return RangeOutcome::Unsatisfiable;
    }
    let range =
        |(start, end): (u128, u128)| ByteRange { start: start as u64, end: (end - 1) as u64 };
    RangeOutcome::Ranges(ranges.into_iter().map(range).collect())
}
