//! Texts as typed values: what Go's decoder takes, and sizes with units for our own settings.

use std::time::Duration;

use crate::registry::Watermark;

/// A boolean as gopkg.in/yaml.v2 reads it (`resolve.go`: YAML 1.1).
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            Some(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Some(false)
        }
        _ => None,
    }
}

/// A whole number that is not negative.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Bytes: a whole number, alone or with `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number(digits)?.checked_mul(factor)
}

/// A size, a percentage, or both with a comma between: then the smaller counts.
pub(super) fn watermark(text: &str) -> Option<Watermark> {
    let (mut size_bytes, mut percent) = (None, None);
    for part in text.split(',').map(str::trim) {
        let taken = match part.strip_suffix('%') {
            Some(figures) => percent.replace(number(figures).filter(|it| (1..=90).contains(it))?),
            None => size_bytes.replace(size(part)?),
        };
        if taken.is_some() {
            return None;
        }
    }
    let percent = percent.map_or(Some(100), |it| u8::try_from(it).ok())?;
    Some(Watermark { size_bytes: size_bytes.unwrap_or(u64::MAX), percent })
}

/// A duration as Go's `time.ParseDuration` reads it, without a minus sign; a bare whole number
/// is nanoseconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if let Some(nanos) = number(text) {
        return Some(Duration::from_nanos(nanos));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, after) = duration_part(rest)?;
        nanos = nanos.checked_add(part)?;
        rest = after;
    }
    // Go's durations end here, at 292 years.
    i64::try_from(nanos).ok().and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
}

/// One number with its unit, in nanoseconds, and what follows it.
fn duration_part(text: &str) -> Option<(u128, &str)> {
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.')?;
    let (figures, rest) = text.split_at_checked(end)?;
    let end = rest.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(end)?;
    let scale: u128 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = figures.split_once('.').unwrap_or((figures, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { number(whole)?.into() };
    Some((whole.checked_mul(scale)?.checked_add(part_of(fraction, scale))?, rest))
}

/// `0.<digits>` of `scale`, rounded down; no scale has a use for more than 18 digits.
fn part_of(digits: &str, scale: u128) -> u128 {
    let mut part = 0;
    let mut divisor = 1;
    for digit in digits.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    part * scale / divisor
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_watermark_is_a_size_a_percentage_or_both() {
        let of = |size_bytes, percent| Some(Watermark { size_bytes, percent });
        for (text, expected) in [
            ("1GiB, 5%", of(1 << 30, 5)),
            ("5%,1GiB", of(1 << 30, 5)),
            ("64MiB", of(64 << 20, 100)),
            ("10%", of(u64::MAX, 10)),
            ("0", of(0, 100)),
        ] {
            assert_eq!(watermark(text), expected, "{text}");
        }
        for bad in ["", ",", "%", "0%", "91%", "5%, 6%", "1GiB, 2GiB", "1GiB 5%", "-1"] {
            assert_eq!(watermark(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        let seconds = |text| duration(text).map(|it| it.as_secs_f64());
        for (text, expected) in [
            ("10s", 10.0),
            ("1h30m", 5400.0),
            ("168h", 604_800.0),
            ("1.5h", 5400.0),
            ("0", 0.0),
            (".5s", 0.5),
            ("1.s", 1.0),
            ("100ms", 0.1),
            ("1m0.5s", 60.5),
            ("+5s", 5.0),
            ("5000000000", 5.0),
            ("7us", 7e-6),
            ("7\u{b5}s", 7e-6),
            ("7\u{3bc}s", 7e-6),
            ("9ns", 9e-9),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            "s",
            "-5s",
            "5 s",
            "5d",
            "1h 30m",
            ".s",
            "1..5s",
            "1.2.3s",
            "5s3",
            "+",
            "1e3s",
            "300000000000h",
            "9999999999999999999999999h",
            "1.5",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_take_units() {
        for (text, expected) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("16 MiB", 1 << 24),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(size(text), Some(expected), "{text}");
        }
        for bad in ["", "KiB", "-1", "1.5MiB", "1TiB", "99999999999999GiB", "1 2"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn booleans_are_those_of_yaml_1_1() {
        assert_eq!(["true", "yes", "On", "y"].map(boolean), [Some(true); 4]);
        assert_eq!(["False", "no", "OFF", "n"].map(boolean), [Some(false); 4]);
        assert_eq!(["tRue", "1", "0", "", "enabled"].map(boolean), [None; 5]);
    }

    proptest! {
        #[test]
        fn written_durations_read_back(
            h in 0_u64..2000, m in 0_u64..60, s in 0_u64..60, ns in 0_u32..1_000_000_000,
        ) {
            let text = format!("{h}h{m}m{s}.{ns:09}s");
            prop_assert_eq!(duration(&text), Some(Duration::new(h * 3600 + m * 60 + s, ns)));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[0-9.a-zµKMGiB+ -]{0,40}|.{0,20}") {
            let _ = (duration(&text), size(&text), boolean(&text), number(&text));
        }
    }
}
