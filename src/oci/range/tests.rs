use proptest::prelude::*;

use super::*;

fn ranges(header: &str, size_bytes: u64) -> Option<Vec<(u64, u64)>> {
    match RangeOutcome::parse(header, size_bytes) {
        RangeOutcome::Ranges(ranges) => Some(ranges.iter().map(|r| (r.start, r.end)).collect()),
        _ => None,
    }
}

#[test]
fn ranges_of_the_conformance_suite() {
    for (header, expected) in [
        ("bytes=500-1499", (500, 1499)),
        ("bytes=500-", (500, 2047)),
        ("bytes=-500", (1548, 2047)),
        ("bytes=2000-5000", (2000, 2047)),
    ] {
        assert_eq!(ranges(header, 2048), Some(vec![expected]), "{header}");
    }
    for header in ["bytes=500-0", "bytes=5000-10000"] {
        assert_eq!(RangeOutcome::parse(header, 2048), RangeOutcome::Unsatisfiable, "{header}");
    }
}

#[test]
fn what_is_no_range_is_ignored() {
    for header in [
        "",
        "bytes",
        "bytes=",
        "bytes=,, ,",
        "bytes=abc",
        "items=0-1",
        "bytes 0-1",
        "bytes=-",
        "bytes=0",
        "bytes=+1-2",
        "bytes=1-+2",
        "bytes=0x1-2",
        "bytes=1.5-2",
        "bytes=--1",
        "bytes=0-1-2",
        "bytes=1 -2",
        "bytes=0-1;2-3",
        "bytes=0-1,abc",
        "bytes =0-1",
        " bytes=0-1",
        "bytes=٣-٤",
        "bytes=0-1\0",
    ] {
        assert_eq!(RangeOutcome::parse(header, 100), RangeOutcome::Whole, "{header}");
    }
}

#[test]
fn numbers_beyond_64_bits_are_clamped() {
    assert_eq!(ranges("bytes=0-18446744073709551615", 5), Some(vec![(0, 4)]));
    assert_eq!(ranges("bytes=3-99999999999999999999999", 5), Some(vec![(3, 4)]));
    assert_eq!(ranges("bytes=-99999999999999999999999", 5), Some(vec![(0, 4)]));
    assert_eq!(ranges("bytes=0000000000000000000000001-2", 5), Some(vec![(1, 2)]));
    let past = "bytes=99999999999999999999999-";
    assert_eq!(RangeOutcome::parse(past, u64::MAX), RangeOutcome::Unsatisfiable);
    assert_eq!(ranges("bytes=0-", u64::MAX), Some(vec![(0, u64::MAX - 1)]));
}

#[test]
fn parts_keep_number_and_order_and_skip_what_does_not_exist() {
    assert_eq!(
        ranges("BYTES=8-9, ,0-1,\t0-1 ,50-60,3-2,-0,-1", 10),
        Some(vec![(8, 9), (0, 1), (0, 1), (9, 9)])
    );
    assert_eq!(RangeOutcome::parse("bytes=-0,10-,3-2", 10), RangeOutcome::Unsatisfiable);
}

#[test]
fn ranges_longer_than_the_content_or_too_many_send_the_whole() {
    assert_eq!(ranges("bytes=0-4,5-9", 10), Some(vec![(0, 4), (5, 9)]));
    assert_eq!(RangeOutcome::parse("bytes=0-5,5-9", 10), RangeOutcome::Whole);
    assert_eq!(RangeOutcome::parse("bytes=0-,0-", u64::MAX), RangeOutcome::Whole);
    let list = |count: usize| format!("bytes={}", vec!["1-1"; count].join(","));
    assert_eq!(ranges(&list(RANGES_MAX), 1 << 20).map(|r| r.len()), Some(RANGES_MAX));
    assert_eq!(RangeOutcome::parse(&list(RANGES_MAX + 1), 1 << 20), RangeOutcome::Whole);
    let nowhere = format!("bytes={}", vec!["9-"; RANGES_MAX + 1].join(","));
    assert_eq!(RangeOutcome::parse(&nowhere, 5), RangeOutcome::Whole);
}

#[test]
fn an_empty_content_is_always_sent_whole() {
    for header in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=7-"] {
        assert_eq!(RangeOutcome::parse(header, 0), RangeOutcome::Whole, "{header}");
    }
}

#[test]
fn content_ranges_of_bad_chunks_are_refused() {
    use ContentRangeError::{Malformed, Reversed, TooLarge};
    for (text, error) in [
        ("", Malformed),
        ("abc", Malformed),
        ("bytes 0-4/5", Malformed),
        ("bytes=0-4", Malformed),
        ("0-", Malformed),
        ("-4", Malformed),
        ("-", Malformed),
        ("+0-4", Malformed),
        ("0-+4", Malformed),
        ("0 - 4", Malformed),
        ("0-4/5", Malformed),
        ("0-4-5", Malformed),
        ("0x0-0x4", Malformed),
        ("-1-4", Malformed),
        ("0-4,5-6", Malformed),
        ("0-٤", Malformed),
        ("0-18446744073709551616", TooLarge),
        ("0-18446744073709551615", TooLarge),
        ("9223372036854775808-9223372036854775809", TooLarge),
        ("9-0", Reversed),
    ] {
        assert_eq!(ContentRange::parse(text), Err(error), "{text}");
    }
    let largest = ContentRange::parse("0-9223372036854775807").map(|range| range.size_bytes());
    assert_eq!(largest, Ok(1 << 63));
}

/// What a server does that has the content in a vector and takes the grammar literally.
fn naive(specs: &[(Option<u128>, Option<u128>)], content: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    for spec in specs {
        let index = 0..content.len() as u128;
        let wanted: Vec<u8> = match *spec {
            (Some(first), last) => {
                let last = last.unwrap_or(u128::MAX);
                index.filter(|i| first <= *i && *i <= last).map(|i| content[i as usize]).collect()
            }
            (None, length) => {
                let length = length.unwrap_or(0).min(content.len() as u128) as usize;
                content.iter().rev().take(length).rev().copied().collect()
            }
        };
        if !wanted.is_empty() {
            parts.push(wanted);
        }
    }
    let sum: usize = parts.iter().map(Vec::len).sum();
    (sum <= content.len()).then_some(parts)
}

fn position() -> impl Strategy<Value = u128> {
    prop_oneof![8 => 0..70_u128, 1 => u128::from(u64::MAX) - 2..u128::from(u64::MAX) + 3]
}

fn spec() -> impl Strategy<Value = (Option<u128>, Option<u128>)> {
    prop_oneof![
        (position(), position()).prop_map(|(a, b)| (Some(a), Some(b))),
        position().prop_map(|a| (Some(a), None)),
        position().prop_map(|b| (None, Some(b))),
    ]
}

proptest! {
    #[test]
    fn ranges_are_those_of_a_server_with_the_content_in_a_vector(
        specs in proptest::collection::vec(spec(), 1..6),
        content in proptest::collection::vec(any::<u8>(), 1..64),
    ) {
        let text = |n: &Option<u128>| n.map(|n| n.to_string()).unwrap_or_default();
        let list: Vec<String> =
            specs.iter().map(|(first, last)| format!("{}-{}", text(first), text(last))).collect();
        let outcome = RangeOutcome::parse(
            &format!("bytes={}", list.join(",")), content.len() as u64);
        let expected = naive(&specs, &content);
        match outcome {
            RangeOutcome::Whole => prop_assert_eq!(expected, None),
            RangeOutcome::Unsatisfiable => prop_assert_eq!(expected, Some(vec![])),
            RangeOutcome::Ranges(ranges) => {
                let cut = |r: &ByteRange| content[r.start as usize..=r.end as usize].to_vec();
                prop_assert_eq!(Some(ranges.iter().map(cut).collect()), expected);
            }
        }
    }

    #[test]
    fn any_header_is_read_within_the_content(
        header in "(bytes=)?[-0-9, a]{0,40}", size_bytes in prop_oneof![0..20_u64, any::<u64>()],
    ) {
        if let RangeOutcome::Ranges(ranges) = RangeOutcome::parse(&header, size_bytes) {
            let mut sum = 0_u128;
            for range in &ranges {
                prop_assert!(range.start <= range.end && range.end < size_bytes);
                sum += u128::from(range.size_bytes());
            }
            prop_assert!(!ranges.is_empty() && sum <= u128::from(size_bytes));
        }
    }

    #[test]
    fn content_range_is_two_numbers_in_order(text in prop_oneof![
        "[0-9]{1,21}-[0-9]{1,21}", "[0-9]{1,3}-[0-9]{1,3}", "[-+ 0-9/a]{0,8}", any::<String>(),
    ]) {
        let grammar = regex::Regex::new(r"\A([0-9]+)-([0-9]+)\z").unwrap();
        let expected = grammar.captures(&text).and_then(|numbers| {
            let start: u128 = numbers[1].parse().unwrap();
            let end: u128 = numbers[2].parse().unwrap();
            (start <= end && end < 1 << 63).then_some((start, end))
        });
        let actual = ContentRange::parse(&text).ok();
        prop_assert_eq!(
            actual.map(|range| (u128::from(range.start), u128::from(range.end))), expected);
        if let (Some(range), Some((start, end))) = (actual, expected) {
            prop_assert_eq!(u128::from(range.size_bytes()), end - start + 1);
        }
    }
}
