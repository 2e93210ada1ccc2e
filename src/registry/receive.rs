//! Taking in the bytes of an upload: into memory while they are few, into a staging file beyond.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::error::{Error, Result};
use super::sessions::{Session, State};
use super::{Body, BodyError, Registry};
use crate::blob::Staging;
use crate::oci::{Algorithm, UploadId};

/// Bytes handed to the staging file at once.
const BATCH_SIZE_BYTES: usize = 512 * 1024;

/// Bytes after which a running upload is made durable, so that a crash costs no more than that.
const CHECKPOINT_SIZE_BYTES: u64 = 64 * 1024 * 1024;

/// Where the bytes of one upload go.
#[derive(Debug)]
pub enum Sink {
    /// Few so far, and not durable.
    Memory(Vec<Bytes>),
    /// In a staging file.
    Staged(Box<dyn Staging>),
}

impl Sink {
    /// Bytes held.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Memory(chunks) => chunks.iter().map(|chunk| chunk.len() as u64).sum(),
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

/// A body being read.
struct Reader<'a> {
    body: Body,
    superseded: &'a CancellationToken,
    /// Bytes that may still come.
    left: u64,
}

impl Reader<'_> {
    /// Reads about [`BATCH_SIZE_BYTES`]; the end of the body is `Some`.
    async fn batch(&mut self) -> (Vec<Bytes>, Option<End>) {
        let (mut batch, mut size_bytes) = (Vec::new(), 0);
        while size_bytes < BATCH_SIZE_BYTES {
            let next = tokio::select! {
                biased;
                () = self.superseded.cancelled() => return (batch, Some(End::Superseded)),
                next = self.body.next() => next,
            };
            match next {
                None => return (batch, Some(End::Complete)),
                Some(Err(error)) => return (batch, Some(End::Broken(error))),
                Some(Ok(bytes)) => {
                    let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
                        return (batch, Some(End::TooLong));
                    };
                    self.left = left;
                    size_bytes += bytes.len();
                    batch.push(bytes);
                }
            }
        }
        (batch, None)
    }
}

impl Registry {
    /// Reads `body` to its end into `sink`; writing a batch overlaps with reading the next. At
    /// most `limit` bytes are taken. Whatever the end, what was received is in `sink`.
    pub(super) async fn receive(
        &self,
        session: &Session,
        sink: &mut Sink,
        body: Body,
        limit: u64,
        superseded: &CancellationToken,
    ) -> Result<End> {
        let mut reader = Reader { body, superseded, left: limit };
        let mut checkpoint = sink.size_bytes();
        let (mut batch, mut end) = reader.batch().await;
        loop {
            self.make_room(session, sink, &batch).await?;
            let (written, next) = match (&mut *sink, &end) {
                (Sink::Memory(chunks), _) => {
                    chunks.append(&mut batch);
                    (Ok(()), None)
                }
                (Sink::Staged(staging), Some(_)) => (staging.append(batch).await, None),
                (Sink::Staged(staging), None) => {
                    let (written, next) = tokio::join!(staging.append(batch), reader.batch());
                    (written, Some(next))
                }
            };
            session.set_offset(sink.size_bytes());
            written?;
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

    /// Moves what is in memory to a staging file when `batch` would make it too much.
    async fn make_room(&self, session: &Session, sink: &mut Sink, batch: &[Bytes]) -> Result<()> {
        let incoming: u64 = batch.iter().map(|chunk| chunk.len() as u64).sum();
        let total = sink.size_bytes() + incoming;
        if matches!(sink, Sink::Memory(_))
            && total > self.inner.options.small_content_size_bytes_max
        {
            self.stage(session, sink).await?;
        }
        Ok(())
    }

    /// Moves what is in memory to a staging file.
    pub(super) async fn stage(&self, session: &Session, sink: &mut Sink) -> Result<()> {
        if let Sink::Memory(chunks) = sink {
            let mut staging = self.inner.blobs.stage(session.id, session.algorithm).await?;
            staging.append(std::mem::take(chunks)).await?;
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
        self.inner.meta.save_upload(session.record(staging.offset())).await?;
        Ok(staging.offset())
    }

    /// The sink that goes on where `state` stands.
    pub(super) async fn open_sink(&self, session: &Session, state: &mut State) -> Result<Sink> {
        match std::mem::replace(state, State::Closed) {
            State::Empty => Ok(Sink::Memory(Vec::new())),
            State::Open(staging) => Ok(Sink::Staged(staging)),
            State::Closed => Err(Error::UploadUnknown),
            State::Suspended(offset) => {
                match self.inner.blobs.resume(session.id, offset, session.algorithm).await {
                    Ok(Some(staging)) => Ok(Sink::Staged(staging)),
                    Ok(None) => {
                        self.abandon(session.id).await?;
                        Err(Error::UploadUnknown)
                    }
                    Err(error) => {
                        *state = State::Suspended(offset);
                        Err(error.into())
                    }
                }
            }
        }
    }

    /// Cuts the upload back to `offset`, where it stood before a chunk that is refused.
    pub(super) async fn roll_back(
        &self,
        session: &Session,
        sink: Sink,
        offset: u64,
    ) -> Result<State> {
        session.set_offset(offset);
        let Sink::Staged(staging) = sink else { return Ok(State::Empty) };
        drop(staging);
        if offset == 0 {
            self.inner.blobs.discard(session.id).await?;
            return Ok(State::Empty);
        }
        let resumed = self.inner.blobs.resume(session.id, offset, session.algorithm).await?;
        Ok(resumed.map_or(State::Closed, State::Open))
    }

    /// Removes every trace of a session.
    pub(super) async fn abandon(&self, id: UploadId) -> Result<()> {
        self.inner.sessions.remove(id);
        self.inner.meta.forget_upload(id).await?;
        self.inner.blobs.discard(id).await?;
        Ok(())
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
