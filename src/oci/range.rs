//! Byte ranges as numbers: `Content-Range` of upload chunks, `Range` of downloads.

#[cfg(test)]
mod tests;

/// `Content-Range` of an upload chunk: `start-end`, both inclusive, without `bytes`
/// (distribution-spec, end-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte.
    pub start: u64,
    /// Last byte; never before `start`.
    pub end: u64,
}

/// Why a text is no `Content-Range` of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentRangeError {
    /// Something else than digits, a dash and digits.
    #[error("the Content-Range of a chunk is <first byte>-<last byte>, without a unit")]
    Malformed,
    /// A number that no content reaches.
    #[error("the Content-Range is beyond the largest signed 64-bit integer")]
    TooLarge,
    /// The end before the start.
    #[error("the Content-Range ends before it starts")]
    Reversed,
}

impl ContentRange {
    /// Parses `[0-9]+-[0-9]+`. Positions are at most `i64::MAX`, as lengths in descriptors are,
    /// so that the chunk's length cannot overflow.
    pub fn parse(text: &str) -> Result<Self, ContentRangeError> {
        let (start, end) = text.split_once('-').ok_or(ContentRangeError::Malformed)?;
        if !is_number(start) || !is_number(end) {
            return Err(ContentRangeError::Malformed);
        }
        let position = |digits: &str| match digits.parse::<i64>() {
            Ok(position) => Ok(position.cast_unsigned()),
            Err(_) => Err(ContentRangeError::TooLarge),
        };
        let (start, end) = (position(start)?, position(end)?);
        if end < start {
            return Err(ContentRangeError::Reversed);
        }
        Ok(Self { start, end })
    }

    /// How many bytes it covers.
    pub const fn size_bytes(&self) -> u64 {
        self.end.saturating_sub(self.start).saturating_add(1)
    }
}

/// Bytes `start..=end` of a content, both within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Last byte; never before `start`, always below the content's length.
    pub end: u64,
}

impl ByteRange {
    /// How many bytes it covers; never 0.
    pub const fn size_bytes(&self) -> u64 {
        self.end - self.start + 1
    }
}

/// Most ranges of one request; podman asks for up to this many (protocol of `zstd:chunked`).
pub const RANGES_MAX: usize = 1024;

/// What a `Range` header means for a content (RFC 9110, section 14.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeOutcome {
    /// Send the whole content: the header is ignored.
    Whole,
    /// Nothing of what is asked for exists: 416.
    Unsatisfiable,
    /// Send exactly these, one part each; never empty, as requested in number and order but
    /// without those that do not exist. They may overlap and repeat, but together are no
    /// longer than the content.
    Ranges(Vec<ByteRange>),
}

impl RangeOutcome {
    /// Reads the header's value for a content of `size_bytes`.
    ///
    /// Ignored are: what does not follow the grammar, other units, more than [`RANGES_MAX`]
    /// ranges, ranges that together are longer than the content (a request must not make the
    /// answer larger than the whole), and any range of an empty content (Go's server, hence
    /// distribution, answers 200 there: a client that resumes an empty download is done).
    /// A range that ends before it starts counts as one that does not exist, where RFC 9110
    /// would ignore the header: the conformance suite asks for 416.
    pub fn parse(header: &str, size_bytes: u64) -> Self {
        let Some((unit, set)) = header.split_once('=') else { return Self::Whole };
        if !unit.eq_ignore_ascii_case("bytes") || size_bytes == 0 {
            return Self::Whole;
        }
        // Empty elements of a list are legal and mean nothing (RFC 9110, section 5.6.1.2).
        let specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t']));
        let (mut ranges, mut count, mut total_bytes) = (Vec::new(), 0_usize, 0_u128);
        for spec in specs.filter(|spec| !spec.is_empty()) {
            let Some(requested) = Requested::parse(spec) else { return Self::Whole };
            count += 1;
            if count > RANGES_MAX {
                return Self::Whole;
            }
            if let Some(range) = requested.within(size_bytes) {
                total_bytes += u128::from(range.size_bytes());
                ranges.push(range);
            }
        }
        if count == 0 || total_bytes > u128::from(size_bytes) {
            return Self::Whole;
        }
        if ranges.is_empty() { Self::Unsatisfiable } else { Self::Ranges(ranges) }
    }
}

/// One range as the client writes it. Numbers beyond `u64::MAX` are taken as that: no content
/// is as long.
#[derive(Debug, Clone, Copy)]
enum Requested {
    /// `first-` (then `last` is the largest number) and `first-last`.
    From { first: u64, last: u64 },
    /// `-length`
    Suffix { length: u64 },
}

impl Requested {
    fn parse(spec: &str) -> Option<Self> {
        let (first, last) = spec.split_once('-')?;
        // All are digits, so that overflow is the only error left.
        let number = |digits: &str| digits.parse().unwrap_or(u64::MAX);
        match (is_number(first), is_number(last)) {
            (true, true) => Some(Self::From { first: number(first), last: number(last) }),
            (true, false) if last.is_empty() => {
                Some(Self::From { first: number(first), last: u64::MAX })
            }
            (false, true) if first.is_empty() => Some(Self::Suffix { length: number(last) }),
            _ => None,
        }
    }

    /// The part of it that a content of `size_bytes`, not 0, has.
    fn within(self, size_bytes: u64) -> Option<ByteRange> {
        let end = size_bytes - 1;
        match self {
            Self::From { first, last } if first <= last && first <= end => {
                Some(ByteRange { start: first, end: last.min(end) })
            }
            Self::Suffix { length } if length > 0 => {
                Some(ByteRange { start: size_bytes.saturating_sub(length), end })
            }
            _ => None,
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
