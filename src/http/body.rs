//! Sending content: pieces of a blob, read while the ones before are on their way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, SizeHint};

use crate::blob::{self, BlobFile};
use crate::registry::Content;

/// Length of a read. One is on its way to the client while at most one more is read ahead.
const READ_SIZE_BYTES: u64 = 256 * 1024;

/// What to send, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Literal(Bytes),
    /// A part of the content.
    Slice {
        /// From this byte.
        offset: u64,
        /// So many bytes.
        length: u64,
    },
}

/// An answer's body could not be produced: the connection is cut, never a wrong length sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The content could not be read.
    #[error("the content could not be read: {0}")]
    Read(#[from] blob::Error),
    /// A read gave other than what was asked for.
    #[error("the content ended early: {read} bytes instead of {expected}")]
    Short {
        /// What was asked for.
        expected: u64,
        /// What was read.
        read: u64,
    },
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        Self::other(error)
    }
}

/// The body that sends these pieces of the content: `size_bytes` in all.
pub fn send(
    content: Content,
    pieces: impl Iterator<Item = Piece> + Send + 'static,
    size_bytes: u64,
) -> Body {
    let source = match content {
        Content::Inline(bytes) => Source::Inline(bytes),
        Content::File(file) => Source::File(file),
    };
    let pieces = Box::new(pieces);
    let body = Sending { source, pieces, slice: None, reading: None, remaining: size_bytes };
    Body::new(UnsyncBoxBody::new(body))
}

enum Source {
    Inline(Bytes),
    File(BlobFile),
}

type ReadResult = Result<Bytes, SendError>;

enum Reading {
    Running(Pin<Box<dyn Future<Output = ReadResult> + Send>>),
    Done(ReadResult),
}

struct Sending {
    source: Source,
    pieces: Box<dyn Iterator<Item = Piece> + Send>,
    /// What is left of the slice at hand: offset and length.
    slice: Option<(u64, u64)>,
    reading: Option<Reading>,
    remaining: u64,
}

impl Sending {
    /// The next part of the slice at hand, started.
    fn start(&mut self) -> Option<Reading> {
        let (offset, length) = self.slice.take()?;
        let size = length.min(READ_SIZE_BYTES);
        if length > size {
            self.slice = Some((offset + size, length - size));
        }
        Some(match &self.source {
            Source::Inline(bytes) => Reading::Done(slice_of(bytes, offset, size)),
            Source::File(file) => {
                let reader = file.reader.clone();
                Reading::Running(Box::pin(async move {
                    let length = usize::try_from(size).unwrap_or(usize::MAX);
                    check(reader.read(offset, length).await?, size)
                }))
            }
        })
    }

    fn frame(&mut self, bytes: Bytes) -> Result<Frame<Bytes>, SendError> {
        let size = bytes.len() as u64;
        let short = SendError::Short { expected: self.remaining, read: size };
        self.remaining = self.remaining.checked_sub(size).ok_or(short)?;
        Ok(Frame::data(bytes))
    }
}

fn slice_of(bytes: &Bytes, offset: u64, size: u64) -> ReadResult {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX)).min(bytes.len());
    check(bytes.slice(start..end), size)
}

fn check(bytes: Bytes, expected: u64) -> ReadResult {
    let read = bytes.len() as u64;
    if read == expected { Ok(bytes) } else { Err(SendError::Short { expected, read }) }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = self.get_mut();
        loop {
            let read = match &mut this.reading {
                Some(Reading::Running(running)) => ready!(running.as_mut().poll(cx)),
                Some(Reading::Done(_)) | None => match this.reading.take() {
                    Some(Reading::Done(read)) => read,
                    _ => match this.slice {
                        Some(_) => {
                            this.reading = this.start();
                            continue;
                        }
                        None => match this.pieces.next() {
                            Some(Piece::Literal(bytes)) => Ok(bytes),
                            Some(Piece::Slice { length: 0, .. }) => continue,
                            Some(Piece::Slice { offset, length }) => {
                                this.slice = Some((offset, length));
                                continue;
                            }
                            None => return Poll::Ready(None),
                        },
                    },
                },
            };
            // Reads ahead: polled once, so that it runs while these bytes are sent.
            this.reading = match this.start() {
                Some(Reading::Running(mut running)) => Some(match running.as_mut().poll(cx) {
                    Poll::Ready(read) => Reading::Done(read),
                    Poll::Pending => Reading::Running(running),
                }),
                other => other,
            };
            let frame = read.and_then(|bytes| this.frame(bytes));
            if let Err(error) = &frame {
                tracing::error!(%error, "an answer is cut");
            }
            return Poll::Ready(Some(frame));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
