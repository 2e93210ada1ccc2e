//! Sizes and durations for people.

/// A size in powers of 1024.
pub fn size(size_bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if size_bytes < 1024 {
        return format!("{size_bytes} B");
    }
    let mut size = size_bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A duration by its two largest units.
pub fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit);
    let Some(first) = first else { return "0s".to_owned() };
    let (mut rest, mut text) = (seconds, String::new());
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        if rest >= *unit {
            text.push_str(&format!(
                "{}{}{name}",
                if text.is_empty() { "" } else { " " },
                rest / unit
            ));
        }
        rest %= unit;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{duration, size};

    #[test]
    fn sizes_are_readable_at_every_scale() {
        let expected = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (u64::MAX, "16.0 EiB")];
        for (size_bytes, text) in expected {
            assert_eq!(size(size_bytes), text);
        }
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3661, "1h 1m"), (86_400, "1d"), (90_001, "1d 1h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
