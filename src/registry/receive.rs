//! Taking in the bytes of an upload: into memory while they are few, into a staging file beyond.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::error::{Error, Result};
use super::room::Promise;
use super::sessions::{Session, State};
use super::{Body, BodyError, Registry, room};
use crate::blob::{self, Staging};
use crate::oci::{Algorithm, UploadId};

/// Bytes handed to the staging file at once.
const BATCH_SIZE_BYTES: usize = 512 * 1024;

/// Frames below this are copied together.
const GATHERED_SIZE_BYTES_MAX: usize = 16 * 1024;

/// Bytes after which a running upload is made durable, so that a crash costs no more than that.
const CHECKPOINT_SIZE_BYTES: u64 = 64 * 1024 * 1024;

/// What all uploads together hold in memory before each writes out what it has, in portions of
/// [`CROWDED_SIZE_BYTES`]: ten thousand slow clients must not hold ten thousand batches.
const HELD_SIZE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const CROWDED_SIZE_BYTES: usize = 4 * 1024;

/// Counts the bytes that uploads hold in memory.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<AtomicU64>);

impl Buffers {
    fn hold(&self, bytes: u64) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held { buffers: self.clone(), bytes }
    }

    /// What they hold now.
    pub fn held_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn are_crowded(&self) -> bool {
        self.held_bytes() > HELD_SIZE_BYTES_MAX
    }
}

/// Bytes that count until it is dropped.
#[derive(Debug)]
pub struct Held {
    buffers: Buffers,
    bytes: u64,
}

impl Held {
    fn add(&mut self, bytes: u64) {
        self.buffers.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.buffers.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes in memory.
#[derive(Debug)]
pub struct Chunks {
    bytes: Vec<Bytes>,
    held: Held,
}

impl Chunks {
    fn none(buffers: &Buffers) -> Self {
        Self { bytes: Vec::new(), held: buffers.hold(0) }
    }

    fn size_bytes(&self) -> u64 {
        self.held.bytes
    }

    fn append(&mut self, mut more: Self) {
        self.held.add(more.held.bytes);
        self.bytes.append(&mut more.bytes);
    }

    /// All in one piece, with what counts it.
    pub fn concatenate(self) -> (Bytes, Held) {
        let Self { bytes, held } = self;
        if let [only] = bytes.as_slice() {
            return (only.clone(), held);
        }
        let whole = bytes.into_iter().fold(BytesMut::new(), |mut all, chunk| {
            all.extend_from_slice(&chunk);
            all
        });
        (whole.freeze(), held)
    }
}

/// Where the bytes of one upload go.
#[derive(Debug)]
pub enum Sink {
    /// Few so far, and not durable.
    Memory(Chunks),
    /// In a staging file.
    Staged(Box<dyn Staging>),
}

impl Sink {
    /// Bytes held.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Memory(chunks) => chunks.size_bytes(),
            Self::Staged(staging) => staging.offset(),
        }
    }
}

/// How a body ended.
#[derive(Debug)]
pub enum End {
    /// With its last byte.
    Complete,
    /// The client went away, sent nonsense, or was too slow.
    Broken(BodyError),
    /// A newer request took the session over.
    Superseded,
    /// It is longer than announced.
    TooLong,
}

/// A body that is to be read.
pub struct Incoming<'a> {
    /// Where it comes from.
    pub body: Body,
    /// How many bytes it must have, if that is known.
    pub announced: Option<u64>,
    /// Cancelled when a newer request wants the session.
    pub superseded: &'a CancellationToken,
}

/// A body being read.
struct Reader<'a> {
    body: Body,
    buffers: &'a Buffers,
    session: &'a Session,
    superseded: &'a CancellationToken,
    /// Bytes of the session, those on their way to the sink included.
    received: u64,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
}

/// Bytes that are handed to the staging file together.
#[derive(Debug)]
struct Batch {
    chunks: Chunks,
    /// Small frames, copied: each would pin a whole buffer of the connection.
    gathered: BytesMut,
}

impl Batch {
    fn new(buffers: &Buffers) -> Self {
        Self { chunks: Chunks::none(buffers), gathered: BytesMut::new() }
    }

    /// Whether it waits for more.
    fn is_open(&self) -> bool {
        let crowded = self.chunks.held.buffers.are_crowded();
        let size_bytes = if crowded { CROWDED_SIZE_BYTES } else { BATCH_SIZE_BYTES };
        self.chunks.size_bytes() < size_bytes as u64
    }

    fn push(&mut self, bytes: Bytes) {
        self.chunks.held.add(bytes.len() as u64);
        if bytes.len() < GATHERED_SIZE_BYTES_MAX {
            self.gathered.extend_from_slice(&bytes);
            // A buffer that grows on doubles, and what it has in reserve is not counted.
            if self.gathered.len() >= GATHERED_SIZE_BYTES_MAX {
                self.close_gathered();
            }
            return;
        }
        self.close_gathered();
        self.chunks.bytes.push(bytes);
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.chunks.bytes.push(std::mem::take(&mut self.gathered).freeze());
        }
    }

    fn into_chunks(mut self) -> Chunks {
        self.close_gathered();
        self.chunks
    }
}

impl Reader<'_> {
    /// Reads about [`BATCH_SIZE_BYTES`]; the end of the body is `Some`.
    async fn batch(&mut self) -> (Chunks, Option<End>) {
        let mut batch = Batch::new(self.buffers);
        while batch.is_open() {
            let next = tokio::select! {
                biased;
                () = self.superseded.cancelled() => {
                    return (batch.into_chunks(), Some(End::Superseded));
                }
                next = self.body.next() => next,
            };
            match next {
                None => return (batch.into_chunks(), Some(End::Complete)),
                Some(Err(error)) => return (batch.into_chunks(), Some(End::Broken(error))),
                Some(Ok(bytes)) => {
                    if let Some(left) = &mut self.left {
                        let Some(less) = left.checked_sub(bytes.len() as u64) else {
                            return (batch.into_chunks(), Some(End::TooLong));
                        };
                        *left = less;
                    }
                    self.received += bytes.len() as u64;
                    // Whatever ends this body, what arrived is kept: who asks where to go on after
                    // a cut connection is told so.
                    self.session.set_offset(self.received);
                    batch.push(bytes);
                }
            }
        }
        (batch.into_chunks(), None)
    }

    /// What it is promised of what is still to come.
    fn ahead_bytes(&self) -> u64 {
        self.left.map_or(0, |left| room::ahead_bytes(self.received, left))
    }
}

/// Appends; the bytes count until they are written.
async fn append(staging: &mut Box<dyn Staging>, chunks: Chunks) -> blob::Result<()> {
    let Chunks { bytes, held } = chunks;
    let appended = staging.append(bytes).await;
    drop(held);
    appended
}

impl Registry {
    /// Reads a body to its end into `sink`; writing a batch overlaps with reading the next. At
    /// most as many bytes are taken as announced. Whatever the end, what was received is in `sink`.
    pub(super) async fn receive(
        &self,
        session: &Session,
        sink: &mut Sink,
        incoming: Incoming<'_>,
        promise: &mut Promise<'_>,
    ) -> Result<End> {
        let Incoming { body, announced, superseded } = incoming;
        let received = sink.size_bytes();
        let buffers = &self.inner.buffers;
        let mut reader = Reader { body, buffers, session, superseded, received, left: announced };
        let mut checkpoint = received;
        let begun = self.begun(session);
        promise.cover(reader.ahead_bytes()).await?;
        let (mut batch, mut end) = reader.batch().await;
        loop {
            self.inner.leases.touch(&session.repository, begun, self.inner.clock.monotonic());
            let size_bytes = batch.size_bytes();
            promise.cover(reader.ahead_bytes() + size_bytes).await?;
            self.make_room(session, sink, size_bytes, end.is_some(), promise).await?;
            let (written, next) = match (&mut *sink, &end) {
                (Sink::Memory(chunks), _) => {
                    chunks.append(batch);
                    (Ok(()), None)
                }
                (Sink::Staged(staging), Some(_)) => (append(staging, batch).await, None),
                (Sink::Staged(staging), None) => {
                    let (written, next) = tokio::join!(append(staging, batch), reader.batch());
                    (written, Some(next))
                }
            };
            written?;
            promise.written(size_bytes);
            if let Some(end) = end {
                return Ok(end);
            }
            if let Sink::Staged(staging) = sink
                && staging.offset() - checkpoint >= CHECKPOINT_SIZE_BYTES
            {
                checkpoint = self.checkpoint(session, staging.as_mut()).await?;
            }
            (batch, end) = match next {
                Some(next) => next,
                None => reader.batch().await,
            };
        }
    }

    /// When the session was opened, in time of the clock; zero: by an earlier process.
    fn begun(&self, session: &Session) -> Duration {
        let seconds = session.started_uptime_seconds;
        Duration::from_secs(seconds.saturating_sub(self.inner.uptime_base_seconds))
    }

    /// Moves what is in memory to a staging file when a batch would make it too much, or when
    /// others need the memory and more is to come.
    async fn make_room(
        &self,
        session: &Session,
        sink: &mut Sink,
        batch_bytes: u64,
        is_last: bool,
        promise: &mut Promise<'_>,
    ) -> Result<()> {
        let total = sink.size_bytes() + batch_bytes;
        let is_large = total > self.inner.options.small_content_size_bytes_max;
        if is_large || (!is_last && self.inner.buffers.are_crowded()) {
            self.stage(session, sink, promise).await?;
        }
        Ok(())
    }

    /// Moves what is in memory to a staging file.
    pub(super) async fn stage(
        &self,
        session: &Session,
        sink: &mut Sink,
        promise: &mut Promise<'_>,
    ) -> Result<()> {
        if let Sink::Memory(chunks) = sink {
            promise.cover_file().await?;
            let mut staging = self.inner.blobs.stage(session.id, session.algorithm).await?;
            let chunks = std::mem::replace(chunks, Chunks::none(&self.inner.buffers));
            append(&mut staging, chunks).await?;
            *sink = Sink::Staged(staging);
        }
        Ok(())
    }

    /// Makes the bytes so far survive a crash, and returns how many they are.
    pub(super) async fn checkpoint(
        &self,
        session: &Session,
        staging: &mut dyn Staging,
    ) -> Result<u64> {
        staging.sync().await?;
        let offset = staging.offset();
        session.set_doubtful();
        self.inner.meta.save_upload(session.record(offset)).await?;
        session.set_durable(offset);
        Ok(offset)
    }

    /// Makes sure that the session's row says what it is known to say, also after a crash. A commit
    /// that failed may still be on the disk until the database takes writes again, and what the
    /// row then says must be in the file: until this succeeds, nothing is cut off it (R1).
    async fn settle(&self, session: &Session) -> Result<()> {
        if !session.is_doubtful() {
            return Ok(());
        }
        let durable = session.durable();
        if durable == 0 {
            self.inner.meta.forget_upload(session.id).await?;
        } else {
            self.inner.meta.save_upload(session.record(durable)).await?;
        }
        session.set_durable(durable);
        Ok(())
    }

    /// The sink that goes on where `state` stands. Until the request gives it back, and if it
    /// never does, the session stands at its durable bytes.
    pub(super) async fn open_sink(&self, session: &Session, state: &mut State) -> Result<Sink> {
        if matches!(state, State::Suspended(_)) {
            self.settle(session).await?;
        }
        match std::mem::replace(state, State::Suspended(session.durable())) {
            State::Empty => Ok(Sink::Memory(Chunks::none(&self.inner.buffers))),
            State::Open(staging) => Ok(Sink::Staged(staging)),
            State::Closed => {
                *state = State::Closed;
                Err(Error::UploadUnknown)
            }
            State::Suspended(0) => {
                self.inner.blobs.discard(session.id).await?;
                Ok(Sink::Memory(Chunks::none(&self.inner.buffers)))
            }
            State::Suspended(offset) => {
                match self.inner.blobs.resume(session.id, offset, session.algorithm).await? {
                    Some(staging) => Ok(Sink::Staged(staging)),
                    None => {
                        *state = State::Closed;
                        self.abandon(session.id).await?;
                        Err(Error::UploadUnknown)
                    }
                }
            }
        }
    }

    /// Takes the session back to its durable bytes, after a request that failed.
    pub(super) async fn restore(&self, session: &Session, state: &mut State) {
        let durable = session.durable();
        session.set_offset(durable);
        *state = State::Suspended(durable);
        if self.settle(session).await.is_err() {
            // The next request settles it, and cuts what is to be cut.
            return;
        }
        // Bytes that no row knows must not wait for the next request to make room.
        if durable > 0 {
            // If it fails, the next request cuts them.
            let _ = self.inner.blobs.cut(session.id, durable).await;
        } else if self.inner.blobs.discard(session.id).await.is_ok() {
            *state = State::Empty;
        }
    }

    /// Takes the session back to `start`, where it stood before a chunk that is refused.
    pub(super) async fn roll_back(
        &self,
        session: &Session,
        state: &mut State,
        start: u64,
    ) -> Result<()> {
        if session.durable() > start {
            session.set_doubtful();
            let rolled_back = if start == 0 {
                self.inner.meta.forget_upload(session.id).await
            } else {
                self.inner.meta.save_upload(session.record(start)).await
            };
            if let Err(error) = rolled_back {
                // The row says what it said before, so all of that stays in the file.
                *state = State::Suspended(session.durable());
                return Err(error.into());
            }
            session.set_durable(start);
        }
        self.restore(session, state).await;
        Ok(())
    }

    /// Removes every trace of a session that is closed. It stays known until the rest is gone:
    /// whoever asks for one that is not known brings it back from its row.
    pub(super) async fn abandon(&self, id: UploadId) -> Result<()> {
        let removed = self.remove_durable(id).await;
        self.inner.sessions.remove(id);
        removed
    }

    async fn remove_durable(&self, id: UploadId) -> Result<()> {
        self.inner.meta.forget_upload(id).await?;
        Ok(self.inner.blobs.discard(id).await?)
    }

    /// A session that exists only for the request that holds it.
    pub(super) fn private_session(
        &self,
        repo: &crate::oci::RepositoryName,
        algorithm: Algorithm,
    ) -> Arc<Session> {
        let id = UploadId::from_random(self.inner.random.bytes());
        let (now, uptime) = (self.inner.clock.now(), self.uptime_seconds());
        Arc::new(Session::new(id, repo.clone(), algorithm, now, uptime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_batch_holds_in_reserve_is_little() {
        let mut batch = Batch::new(&Buffers::default());
        for _ in 0..100 {
            batch.push(Bytes::from(vec![7; 3000]));
            assert!(batch.gathered.capacity() <= 2 * GATHERED_SIZE_BYTES_MAX);
        }
        assert_eq!(batch.chunks.held.bytes, 300_000);
        let chunks = batch.into_chunks();
        let longest = chunks.bytes.iter().map(Bytes::len).max().unwrap();
        assert!(longest < 2 * GATHERED_SIZE_BYTES_MAX, "{longest}");
        assert_eq!(chunks.concatenate().0.len(), 300_000);
    }
}
