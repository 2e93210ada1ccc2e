//! The framing guard: follows an HTTP/1.1 byte stream and lets nothing past that two parsers
//! could read differently.
//!
//! Pure: bytes in, verdict out, no I/O. It knows where each head and each body ends, also when
//! requests are pipelined, so that a head reaches the HTTP library only when it is whole and
//! strictly follows RFC 9112. What it refuses is the raw material of request smuggling.

mod chunked;
mod head;
mod rejection;
#[cfg(test)]
mod tests;

use chunked::Chunked;
use head::Head;
pub use rejection::{Reason, Rejection};

/// How the body after a head is delimited (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// By `Content-Length`; zero when there is none.
    Length(u64),
    /// By chunks.
    Chunked,
}

#[derive(Debug)]
enum State {
    /// In a head, or before its first byte.
    Head(Head),
    /// In a body with this many bytes to come; never zero.
    Length(u64),
    /// In a chunked body.
    Chunked(Chunked),
    /// Something was refused: nothing passes any more.
    Ended,
}

/// Why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// In a head: the request gets this answer.
    Head(Rejection),
    /// In a chunked body: the request is running already, its body fails.
    Body,
}

/// What part of the offered bytes may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// So many bytes from the start may pass. Unless something is refused, the rest is the
    /// beginning of a head: offer it again, with what follows it.
    pub passed: usize,
    /// What stands at the end of the passed bytes, if it is refused.
    pub refusal: Option<Refusal>,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Guard {
    state: State,
    heads: u64,
}

impl Guard {
    /// For a fresh connection.
    pub fn new() -> Self {
        Self { state: State::Head(Head::new()), heads: 0 }
    }

    /// Heads that passed so far.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte belongs to a body.
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }

    /// Lets nothing more pass.
    pub fn end(&mut self) {
        self.state = State::Ended;
    }

    /// Judges `bytes`, which go on where the last verdict's passed bytes ended. Whole messages
    /// and parts of bodies pass; a head passes when its last byte is there.
    pub fn offer(&mut self, bytes: &[u8]) -> Verdict {
        let mut passed = 0;
        loop {
            let rest = &bytes[passed..];
            let step = match &mut self.state {
                State::Ended => None,
                State::Head(head) => match head.advance(rest) {
                    Ok(None) => None,
                    Ok(Some((size, framing))) => {
                        self.heads += 1;
                        self.state = State::after_head(framing);
                        Some(size)
                    }
                    Err(rejection) => return self.refuse(passed, Refusal::Head(rejection)),
                },
                State::Length(_) | State::Chunked(_) if rest.is_empty() => None,
                State::Length(remaining) => {
                    let size = rest.len().min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                    *remaining -= size as u64;
                    if *remaining == 0 {
                        self.state = State::Head(Head::new());
                    }
                    Some(size)
                }
                State::Chunked(chunked) => match chunked.advance(rest) {
                    Ok((size, ended)) => {
                        if ended {
                            self.state = State::Head(Head::new());
                        }
                        Some(size)
                    }
                    Err(good) => return self.refuse(passed + good, Refusal::Body),
                },
            };
            let Some(size) = step else { return Verdict { passed, refusal: None } };
            passed += size;
        }
    }

    fn refuse(&mut self, passed: usize, refusal: Refusal) -> Verdict {
        self.end();
        Verdict { passed, refusal: Some(refusal) }
    }
}

impl State {
    fn after_head(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Head(Head::new()),
            Framing::Length(remaining) => Self::Length(remaining),
            Framing::Chunked => Self::Chunked(Chunked::new()),
        }
    }
}
