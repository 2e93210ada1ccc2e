//! Sending content: pieces of a blob, read while the ones before are on their way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
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
    Body::new(Sending { source, pieces, slice: None, reading: None, remaining: size_bytes })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use futures_util::StreamExt as _;

    use super::*;
    use crate::blob::BlobRead;

    /// A file of repeated bytes that is shorter than it should be from `size_bytes` on.
    #[derive(Debug)]
    struct Pattern {
        size_bytes: u64,
        reads: AtomicUsize,
    }

    impl Pattern {
        fn byte(at: u64) -> u8 {
            u8::try_from(at % 251).unwrap()
        }
    }

    #[async_trait]
    impl BlobRead for Pattern {
        async fn read(&self, offset: u64, length: usize) -> blob::Result<Bytes> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            let end = (offset + length as u64).min(self.size_bytes);
            Ok((offset..end).map(Self::byte).collect())
        }
    }

    fn file(size_bytes: u64) -> (Content, Arc<Pattern>) {
        let reader = Arc::new(Pattern { size_bytes, reads: AtomicUsize::new(0) });
        (Content::File(BlobFile { size_bytes, reader: Arc::clone(&reader) as _ }), reader)
    }

    async fn collect(body: Body) -> Result<Vec<u8>, axum::Error> {
        let mut stream = body.into_data_stream();
        let mut all = Vec::new();
        while let Some(bytes) = stream.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn pieces_are_sent_in_order_from_files_and_from_memory() {
        let whole: Bytes = (0..700_000).map(Pattern::byte).collect();
        let pieces = [
            Piece::Slice { offset: 5, length: 600_000 },
            Piece::Literal(Bytes::from_static(b"--")),
            Piece::Slice { offset: 0, length: 0 },
            Piece::Slice { offset: 699_999, length: 1 },
        ];
        let expected = [&whole[5..600_005], b"--", &whole[699_999..]].concat();
        for content in [file(700_000).0, Content::Inline(whole.clone())] {
            let body = send(content, pieces.clone().into_iter(), 600_003);
            assert_eq!(body.size_hint().exact(), Some(600_003));
            assert!(collect(body).await.unwrap() == expected);
        }
    }

    #[tokio::test]
    async fn content_that_ends_early_is_an_error_not_a_short_body() {
        let piece = Piece::Slice { offset: 0, length: 600_000 };
        for content in [file(599_999).0, Content::Inline(Bytes::from_static(b"short"))] {
            let body = send(content, std::iter::once(piece.clone()), 600_000);
            assert!(collect(body).await.is_err());
        }
    }

    #[tokio::test]
    async fn at_most_one_read_is_ahead() {
        let (content, reader) = file(10 * READ_SIZE_BYTES);
        let length = 10 * READ_SIZE_BYTES;
        let body = send(content, std::iter::once(Piece::Slice { offset: 0, length }), length);
        let mut stream = body.into_data_stream();
        for sent in 1..=3 {
            stream.next().await.unwrap().unwrap();
            tokio::task::yield_now().await;
            assert_eq!(reader.reads.load(Ordering::Relaxed), sent + 1);
        }
        drop(stream);
        tokio::task::yield_now().await;
        assert_eq!(reader.reads.load(Ordering::Relaxed), 4);
    }
}
