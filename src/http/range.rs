//! Partial answers: one range, or several as `multipart/byteranges` (RFC 9110, section 14).

use std::fmt::Write as _;

use bytes::Bytes;

use super::body::Piece;
use crate::oci::range::ByteRange;

/// A `multipart/byteranges` body: one part per range, in the order they were asked for.
#[derive(Debug, Clone)]
pub struct Multipart {
    boundary: String,
    ranges: Vec<ByteRange>,
    content_size_bytes: u64,
}

impl Multipart {
    /// `boundary` is text that no content can hold but by chance: sixteen random bytes.
    pub fn new(boundary: [u8; 16], ranges: Vec<ByteRange>, content_size_bytes: u64) -> Self {
        let mut text = String::with_capacity(32);
        for byte in boundary {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self { boundary: text, ranges, content_size_bytes }
    }

    /// The answer's `Content-Type`.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The exact length of the body.
    pub fn size_bytes(&self) -> u64 {
        let part = |(index, range): (usize, &ByteRange)| {
            self.part_head(index, range).len() as u64 + range.size_bytes()
        };
        self.ranges.iter().enumerate().map(part).sum::<u64>() + self.end().len() as u64
    }

    /// The body, rendered as it is sent.
    pub fn pieces(self) -> impl Iterator<Item = Piece> + Send + 'static {
        let count = self.ranges.len() * 2 + 1;
        (0..count).map(move |at| match self.ranges.get(at / 2) {
            None => Piece::Literal(Bytes::from(self.end())),
            Some(range) if at % 2 == 0 => {
                Piece::Literal(Bytes::from(self.part_head(at / 2, range)))
            }
            Some(range) => slice(range),
        })
    }

    fn part_head(&self, index: usize, range: &ByteRange) -> String {
        format!(
            "{}--{}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
            if index == 0 { "" } else { "\r\n" },
            self.boundary,
            content_range(range, self.content_size_bytes),
        )
    }

    fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }
}

/// The piece of the content that a range means.
pub fn slice(range: &ByteRange) -> Piece {
    Piece::Slice { offset: range.start, length: range.size_bytes() }
}

/// A `Content-Range` of an answer.
pub fn content_range(range: &ByteRange, content_size_bytes: u64) -> String {
    format!("bytes {}-{}/{content_size_bytes}", range.start, range.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::range::{RANGES_MAX, RangeOutcome};

    /// More than a part's head and the end take, with the longest numbers.
    const LITERAL_SIZE_BYTES_MAX: usize = 180;

    fn header() -> impl Strategy<Value = String> {
        let spec = (any::<u64>(), 0..4_u64, any::<bool>()).prop_map(|(first, length, is_near)| {
            let first = if is_near { first % 5000 } else { first };
            format!("{first}-{}", first.saturating_add(length))
        });
        proptest::collection::vec(spec, 1..RANGES_MAX + 2)
            .prop_map(|specs| format!("bytes={}", specs.join(",")))
    }

    proptest! {
        /// However many ranges a client asks for: what is held grows with their number, which is
        /// limited, never with their lengths, and what is sent is no more than the content and a
        /// short text for each.
        #[test]
        fn many_ranges_hold_and_send_little(
            header in header(), content_size_bytes in prop_oneof![1..6000_u64, any::<u64>()],
        ) {
            let outcome = RangeOutcome::parse(&header, content_size_bytes);
            let RangeOutcome::Ranges(ranges) = outcome else { return Ok(()) };
            let count = ranges.len();
            let held_size_bytes = ranges.capacity() * size_of::<ByteRange>();
            prop_assert!(count <= RANGES_MAX && held_size_bytes <= 32 * RANGES_MAX);
            let multipart = Multipart::new([0xff; 16], ranges, content_size_bytes);
            let stated = multipart.size_bytes();
            let (mut literals, mut slices) = (0, 0_u64);
            for piece in multipart.pieces() {
                match piece {
                    Piece::Literal(bytes) => {
                        prop_assert!(bytes.len() <= LITERAL_SIZE_BYTES_MAX, "{}", bytes.len());
                        literals += bytes.len();
                    }
                    Piece::Slice { offset, length } => {
                        prop_assert!(offset + length <= content_size_bytes);
                        slices += length;
                    }
                }
            }
            prop_assert!(slices <= content_size_bytes);
            prop_assert!(literals <= (count + 1) * LITERAL_SIZE_BYTES_MAX);
            prop_assert_eq!(slices + literals as u64, stated);
        }
    }
}
