//! One connection's stream, as the HTTP library sees it: guarded, timed, and closed so that the
//! client can read the last answer.
//!
//! A head reaches the library only when it is whole and [`wire`](super::wire) let it pass. In
//! place of a refused one the library gets a substitute request, and the service answers that
//! with what was wrong: so the answer comes after those to earlier pipelined requests, and the
//! connection ends in good order. Bytes of bodies pass in place, without a copy.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::pace::{Alarm, Pace, Rate};
use super::wire::{Guard, Reason, Refusal, Rejection};
use crate::ops::Clock;

/// After an early answer: how much of the rest of a request is read and dropped, and for how
/// long, before the connection is closed. A close with unread bytes resets the connection, and a
/// reset can take the answer away from the client. Go's server has the same size.
const LINGER_SIZE_BYTES_MAX: usize = 8 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the first byte of a head to its last.
    pub header: Duration,
    /// Between requests.
    pub idle: Duration,
    /// While a body flows, in either direction.
    pub progress: Rate,
}

/// What a connection's stream and its service tell each other.
#[derive(Debug, Default)]
pub struct Exchange {
    begun: AtomicU64,
    answered: AtomicU64,
    /// When the last answer was finished: nanoseconds of monotonic time.
    answered_at: AtomicU64,
    rejection: Mutex<Option<(u64, Rejection)>>,
    /// One of the connections that there may be at once: until the last request has ended, also
    /// when its client has gone.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Exchange {
    /// For a connection that takes this slot.
    pub fn holding(slot: Option<OwnedSemaphorePermit>) -> Self {
        Self { _slot: slot, ..Self::default() }
    }

    /// One more answer is finished or given up, at this monotonic time.
    pub fn finish_answer(&self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.answered_at.store(now, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Release);
    }

    /// When the last of this many answers was finished; `None` while it is not.
    fn finished(&self, answers: u64) -> Option<Duration> {
        let is_finished = self.answered.load(Ordering::Acquire) >= answers;
        is_finished.then(|| Duration::from_nanos(self.answered_at.load(Ordering::Relaxed)))
    }

    /// One more request reached the service. If it is a substitute: what it stands for.
    pub fn begin_request(&self) -> Option<Rejection> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let rejection = self.rejection.lock().unwrap_or_else(PoisonError::into_inner);
        rejection.filter(|rejected| rejected.0 == number).map(|rejected| rejected.1)
    }

    /// The request of that number, counted from zero, is a substitute.
    fn reject(&self, number: u64, rejection: Rejection) {
        let mut slot = self.rejection.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some((number, rejection));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// More may come.
    Open,
    /// The body that is flowing is malformed.
    Malformed,
    /// A substitute was passed: whatever else comes is not read.
    Rejected,
}

#[derive(Debug, Clone, Copy)]
enum Closing {
    Open,
    ShuttingDown,
    Lingering { until: Duration, remaining: usize },
    Closed,
}

/// A guarded stream.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    guard: Guard,
    exchange: Arc<Exchange>,
    timeouts: Timeouts,
    alarm: Alarm,
    input: Input,
    closing: Closing,
    /// The beginning of a head, and since when it is there.
    held: BytesMut,
    held_since: Duration,
    /// Passed, but not yet taken by the library.
    passed: BytesMut,
    opened_at: Duration,
    receiving: Pace,
    sending: Pace,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Guards a fresh stream.
    pub fn new(
        stream: S,
        exchange: Arc<Exchange>,
        timeouts: Timeouts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let opened_at = clock.monotonic();
        Self {
            stream,
            guard: Guard::new(),
            exchange,
            timeouts,
            alarm: Alarm::new(clock),
            input: Input::Open,
            closing: Closing::Open,
            held: BytesMut::new(),
            held_since: Duration::ZERO,
            passed: BytesMut::new(),
            opened_at,
            receiving: Pace::new(timeouts.progress),
            sending: Pace::new(timeouts.progress),
        }
    }

    /// Judges what was just read into `buf` after `start`; what may not pass yet leaves it.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let new = &buf.filled()[start..];
        if self.guard.in_body() {
            self.receiving.moved(new.len(), &self.alarm);
        } else {
            self.receiving.reset();
        }
        let refusal = if self.held.is_empty() {
            let verdict = self.guard.offer(new);
            let rest = &new[verdict.passed..];
            if verdict.refusal.is_none() && !rest.is_empty() {
                self.held.extend_from_slice(rest);
                self.held_since = self.alarm.now();
            }
            buf.set_filled(start + verdict.passed);
            verdict.refusal
        } else {
            self.held.extend_from_slice(new);
            buf.set_filled(start);
            let verdict = self.guard.offer(&self.held);
            if verdict.passed > 0 {
                let rest = self.held.split_off(verdict.passed);
                self.passed = std::mem::replace(&mut self.held, rest);
                self.held_since = self.alarm.now();
            }
            verdict.refusal
        };
        match refusal {
            None => {}
            Some(Refusal::Body) => self.input = Input::Malformed,
            Some(Refusal::Head(rejection)) => self.reject(rejection),
        }
    }

    /// Passes a substitute in place of the head that is coming in.
    fn reject(&mut self, rejection: Rejection) {
        self.exchange.reject(self.guard.heads(), rejection);
        self.guard.end();
        self.input = Input::Rejected;
        self.held = BytesMut::new();
        let method = if rejection.is_head { "HEAD" } else { "GET" };
        // A TLS client shows the first bytes of the answer; Go's looks for exactly "HTTP/".
        let version = if rejection.reason == Reason::Tls { "1.0" } else { "1.1" };
        let substitute = format!("{method} / HTTP/{version}\r\nHost:\r\nConnection: close\r\n\r\n");
        self.passed.extend_from_slice(substitute.as_bytes());
    }

    /// There is nothing to read: ready when that has lasted too long, with an error when it cuts
    /// a body.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Overdue>> {
        if self.guard.in_body() {
            ready!(self.receiving.poll_waiting(cx, &mut self.alarm));
            self.guard.end();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !self.held.is_empty() {
            ready!(self.alarm.poll(cx, self.held_since + self.timeouts.header));
            let is_head = self.held.starts_with(b"HEAD ");
            self.reject(Rejection { reason: Reason::TimedOut, is_head });
            return Poll::Ready(Ok(Overdue::Head));
        }
        // While the service is at work, it decides how long that takes. Nobody looks here when it
        // is done, so the alarm is set already: it finds out then since when.
        let since = match self.exchange.finished(self.guard.heads()) {
            Some(at) => at.max(self.opened_at),
            None => self.alarm.now(),
        };
        ready!(self.alarm.poll(cx, since + self.timeouts.idle));
        Poll::Ready(Ok(Overdue::Idle))
    }

    fn sent(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                self.sending.moved(result.as_ref().map_or(0, |size| *size), &self.alarm);
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.sending.poll_waiting(cx, &mut self.alarm));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Reads and drops what still comes. Ready when there is nothing to wait for any more.
    fn poll_linger(
        &mut self,
        cx: &mut Context<'_>,
        until: Duration,
        mut remaining: usize,
    ) -> Poll<()> {
        let mut space = [0; 8 * 1024];
        while remaining > 0 {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    remaining = remaining.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    self.closing = Closing::Lingering { until, remaining };
                    return self.alarm.poll(cx, until);
                }
            }
        }
        Poll::Ready(())
    }
}

/// What took too long.
enum Overdue {
    Head,
    Idle,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.passed.is_empty() {
                let size = this.passed.len().min(buf.remaining());
                buf.put_slice(&this.passed.split_to(size));
                if this.passed.is_empty() {
                    this.passed = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            match this.input {
                Input::Open => {}
                Input::Malformed => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Input::Rejected => return Poll::Pending,
            }
            let start = buf.filled().len();
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() > start => this.judge(buf, start),
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending => match ready!(this.poll_overdue(cx))? {
                    Overdue::Head => {}
                    Overdue::Idle => return Poll::Ready(Ok(())),
                },
            }
            if buf.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.sent(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.sent(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.closing {
                Closing::Open => this.closing = Closing::ShuttingDown,
                Closing::ShuttingDown => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                    let unread = this.guard.in_body()
                        || this.input != Input::Open
                        || !(this.held.is_empty() && this.passed.is_empty());
                    let until = this.alarm.now() + LINGER;
                    this.closing = if unread {
                        Closing::Lingering { until, remaining: LINGER_SIZE_BYTES_MAX }
                    } else {
                        Closing::Closed
                    };
                }
                Closing::Lingering { until, remaining } => {
                    ready!(this.poll_linger(cx, until, remaining));
                    this.closing = Closing::Closed;
                }
                Closing::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}
