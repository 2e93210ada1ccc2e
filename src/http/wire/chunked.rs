//! A chunked body (RFC 9112, section 7.1): chunks, extensions, trailers.

use super::head::{is_token_byte, is_value_byte};

/// Hexadecimal digits of a chunk size that can mean a `u64`.
const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes that one body may spend on chunk extensions, and as many on trailers: both are read and
/// dropped, so a client that sends many of them only wastes time.
const OVERHEAD_SIZE_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Clone, Copy)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { size_bytes: u64 },
    SizeEnd { size_bytes: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// A chunked body on its way in.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    extension_size_bytes: usize,
    trailer_size_bytes: usize,
}

impl Chunked {
    /// Before its first byte.
    pub fn new() -> Self {
        let state = State::Size { value: 0, digits: 0 };
        Self { state, extension_size_bytes: 0, trailer_size_bytes: 0 }
    }

    /// Judges the bytes that follow those of the last call. How many belong to the body, and
    /// whether it ends there; on malformed framing, how many were good.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), usize> {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Data { remaining } = self.state {
                let size = usize::try_from(remaining).unwrap_or(usize::MAX).min(bytes.len() - at);
                let remaining = remaining - size as u64;
                self.state = if remaining == 0 { State::DataCr } else { State::Data { remaining } };
                at += size;
                continue;
            }
            self.state = self.next(bytes[at]).ok_or(at)?;
            at += 1;
            if matches!(self.state, State::Done) {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// The state after one byte of framing; `None` when it may not stand there.
    fn next(&mut self, byte: u8) -> Option<State> {
        let next = match (self.state, byte) {
            (State::Size { value, digits }, _) => size_byte(value, digits, byte)?,
            (State::Extension { size_bytes }, b'\r') => State::SizeEnd { size_bytes },
            (State::Extension { size_bytes }, _) if is_value_byte(byte) => {
                self.extension_size_bytes += 1;
                State::Extension { size_bytes }
            }
            (State::SizeEnd { size_bytes: 0 }, b'\n') => State::TrailerStart,
            (State::SizeEnd { size_bytes }, b'\n') => State::Data { remaining: size_bytes },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                self.trailer_size_bytes += 1;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_value_byte(byte) => {
                self.trailer_size_bytes += 1;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return None,
        };
        let overhead = self.extension_size_bytes.max(self.trailer_size_bytes);
        (overhead <= OVERHEAD_SIZE_BYTES_MAX).then_some(next)
    }
}

fn size_byte(value: u64, digits: u8, byte: u8) -> Option<State> {
    let digit = char::from(byte).to_digit(16).map(u64::from);
    match (digit, byte) {
        (Some(digit), _) if digits < SIZE_DIGITS_MAX => {
            Some(State::Size { value: value << 4 | digit, digits: digits + 1 })
        }
        (None, b'\r') if digits > 0 => Some(State::SizeEnd { size_bytes: value }),
        (None, b';' | b' ' | b'\t') if digits > 0 => Some(State::Extension { size_bytes: value }),
        _ => None,
    }
}
