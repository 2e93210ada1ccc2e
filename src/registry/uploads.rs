//! Uploads: sessions that take bytes, and the order in which a blob becomes real.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{Error, Result};
use super::receive::{End, Incoming, Sink};
use super::room::Promise;
use super::sessions::{Session, State, Turn};
use super::{Chunk, Registry, UploadStatus};
use crate::blob::Staging;
use crate::meta::LinkBlob;
use crate::oci::{Algorithm, Digest, RepositoryName, UploadId};

impl Registry {
    /// Opens a session. Nothing is durable yet: losing an empty session costs a retry.
    pub async fn begin_upload(
        &self,
        repo: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<UploadStatus> {
        self.check_writable()?;
        self.inner.room.check(0).await?;
        let session = self.private_session(repo, algorithm);
        self.inner.sessions.insert(Arc::clone(&session))?;
        Ok(UploadStatus { id: session.id, offset: 0 })
    }

    /// Where a session stands.
    pub async fn upload_status(&self, repo: &RepositoryName, id: UploadId) -> Result<UploadStatus> {
        let session = self.session(repo, id).await?;
        Ok(UploadStatus { id, offset: session.offset() })
    }

    /// Appends a chunk; when it returns, all bytes of the session are durable. A body that breaks
    /// off, or that a newer request ends, leaves what arrived. A chunk whose length is wrong
    /// leaves nothing.
    pub async fn append_upload(
        &self,
        repo: &RepositoryName,
        id: UploadId,
        chunk: Chunk,
    ) -> Result<UploadStatus> {
        self.check_writable()?;
        let session = self.session(repo, id).await?;
        let mut promise = self.admit(chunk.announced(), session.offset() == 0).await?;
        let mut turn = session.take_over().await?;
        let sink = self.take_chunk(&session, &mut turn, chunk, &mut promise).await?;
        self.keep(&session, &mut turn, sink, &mut promise).await?;
        Ok(UploadStatus { id, offset: session.offset() })
    }

    /// Appends the last chunk, if there is one, checks the digest, and makes the content a blob of
    /// the repository. A wrong digest ends the session.
    pub async fn finish_upload(
        &self,
        repo: &RepositoryName,
        id: UploadId,
        digest: &Digest,
        chunk: Chunk,
    ) -> Result<()> {
        self.check_writable()?;
        let session = self.session(repo, id).await?;
        let adds_file = session.offset() == 0 && self.is_large(chunk.announced());
        let mut promise = self.admit(chunk.announced(), adds_file).await?;
        let mut turn = session.take_over().await?;
        let sink = self.take_chunk(&session, &mut turn, chunk, &mut promise).await?;
        let result = self.commit(&session, sink, digest).await;
        match result {
            Ok(()) => {
                *turn.state = State::Closed;
                self.inner.sessions.remove(id);
            }
            Err(Error::DigestMismatch { .. }) => {
                *turn.state = State::Closed;
                self.abandon(id).await?;
            }
            Err(_) => self.restore(&session, &mut turn.state).await,
        }
        result.inspect_err(|error| self.inner.room.note(error))
    }

    /// Takes a whole blob in one request.
    pub async fn push_blob(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        chunk: Chunk,
    ) -> Result<()> {
        self.check_writable()?;
        let adds_file = self.is_large(chunk.announced());
        let mut promise = self.admit(chunk.announced(), adds_file).await?;
        let session = self.private_session(repo, digest.algorithm());
        let mut turn = session.take_over().await?;
        let taken = self.take_chunk(&session, &mut turn, chunk, &mut promise).await;
        let result = match taken {
            Ok(sink) => self.commit(&session, sink, digest).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            // The first error is the one to report; what cannot be removed now is removed at the
            // next start.
            let _ = self.abandon(session.id).await;
        }
        result.inspect_err(|error| self.inner.room.note(error))
    }

    /// Ends a session and removes what it received.
    pub async fn cancel_upload(&self, repo: &RepositoryName, id: UploadId) -> Result<()> {
        self.check_writable()?;
        let session = self.session(repo, id).await?;
        let mut turn = session.take_over().await?;
        *turn.state = State::Closed;
        self.abandon(id).await
    }

    /// The session, if it was opened in this repository; another repository's answers exactly
    /// like none.
    async fn session(&self, repo: &RepositoryName, id: UploadId) -> Result<Arc<Session>> {
        let session = match self.inner.sessions.get(id) {
            Some(session) => session,
            None => self.adopt_session(id).await?,
        };
        if session.repository == *repo { Ok(session) } else { Err(Error::UploadUnknown) }
    }

    /// Refuses a chunk that finds no room, before a byte of it is read and before it ends an older
    /// request. What ends an upload and brings nothing is always let through.
    async fn admit(&self, announced: Option<u64>, adds_file: bool) -> Result<Promise<'_>> {
        if announced != Some(0) {
            self.inner.room.check(announced.unwrap_or(0)).await?;
            if adds_file {
                self.inner.room.check_file().await?;
            }
        }
        Ok(self.inner.room.promise())
    }

    /// Whether a content that is announced so gets its file at once.
    fn is_large(&self, announced: Option<u64>) -> bool {
        announced.is_some_and(|bytes| bytes > self.inner.options.small_content_size_bytes_max)
    }

    /// The session of that id that an earlier process left, or that this one put out of memory.
    async fn adopt_session(&self, id: UploadId) -> Result<Arc<Session>> {
        let record = self.inner.meta.upload(id).await?.ok_or(Error::UploadUnknown)?;
        let session = self.inner.sessions.adopt(Session::suspended(record));
        // Another request may have adopted and ended it since the row was read.
        if self.inner.meta.upload(id).await?.is_none() {
            self.inner.sessions.remove(id);
            return Err(Error::UploadUnknown);
        }
        Ok(session)
    }

    /// Checks where the chunk belongs and takes its bytes in. An error leaves the session usable.
    async fn take_chunk(
        &self,
        session: &Session,
        turn: &mut Turn<'_>,
        chunk: Chunk,
        promise: &mut Promise<'_>,
    ) -> Result<Sink> {
        let start = session.offset();
        let announced = announced_length(session, start, &chunk)?;
        let mut sink = self.open_sink(session, &mut turn.state).await?;
        let incoming = Incoming { body: chunk.body, announced, superseded: &turn.superseded };
        let end = self.receive(session, &mut sink, incoming, promise).await;
        let received = sink.size_bytes() - start;
        if received > 0 {
            self.inner.sessions.mark_filled(session.id);
        }
        let complete = announced.is_none_or(|length| length == received);
        match end {
            Ok(End::Complete) if complete => Ok(sink),
            Ok(End::Complete | End::TooLong) => {
                drop(sink);
                self.roll_back(session, &mut turn.state, start).await?;
                Err(Error::SizeInvalid)
            }
            Ok(End::Broken(error)) => {
                self.keep(session, turn, sink, promise).await?;
                Err(error.into())
            }
            Ok(End::Superseded) => {
                self.keep(session, turn, sink, promise).await?;
                Err(Error::UploadSuperseded)
            }
            Err(error) => {
                drop(sink);
                self.inner.room.note(&error);
                self.restore(session, &mut turn.state).await;
                Err(error)
            }
        }
    }

    /// Makes the bytes so far durable and gives them back to the session.
    async fn keep(
        &self,
        session: &Session,
        turn: &mut Turn<'_>,
        sink: Sink,
        promise: &mut Promise<'_>,
    ) -> Result<()> {
        match self.make_durable(session, sink, promise).await {
            Ok(state) => {
                *turn.state = state;
                self.inner.sessions.keep_open(session.id);
                Ok(())
            }
            Err(error) => {
                self.inner.room.note(&error);
                self.restore(session, &mut turn.state).await;
                Err(error)
            }
        }
    }

    async fn make_durable(
        &self,
        session: &Session,
        mut sink: Sink,
        promise: &mut Promise<'_>,
    ) -> Result<State> {
        if sink.size_bytes() > 0 {
            self.stage(session, &mut sink, promise).await?;
        }
        let Sink::Staged(mut staging) = sink else { return Ok(State::Empty) };
        self.checkpoint(session, staging.as_mut()).await?;
        Ok(State::Open(staging))
    }

    /// Makes the received bytes a blob of the repository.
    async fn commit(&self, session: &Session, sink: Sink, digest: &Digest) -> Result<()> {
        match sink {
            Sink::Memory(chunks) => {
                let (content, _held) = chunks.concatenate();
                self.commit_small(session, content, digest).await
            }
            Sink::Staged(staging) => self.commit_staged(session, staging, digest).await,
        }
    }

    async fn commit_small(&self, session: &Session, content: Bytes, digest: &Digest) -> Result<()> {
        check_digest(Digest::of(digest.algorithm(), &content), digest)?;
        let link = self.link(session, digest, content.len() as u64, Some(content));
        let size_bytes = link.size_bytes;
        self.inner.room.check_reserve().await?;
        // Where there is a file these bytes are not stored again, so nobody may find it damaged
        // between that decision and the answer.
        let _stripe = match self.live(digest).await? {
            Some(_) => Some(self.inner.stripes.lock(digest).await),
            None => None,
        };
        self.inner.meta.link_blob(link).await?;
        self.inner.room.await_file(size_bytes);
        self.inner.spill_wanted.notify_one();
        Ok(())
    }

    /// The order of a push (R1): check the digest, publish the bytes, commit the facts.
    async fn commit_staged(
        &self,
        session: &Session,
        mut staging: Box<dyn Staging>,
        digest: &Digest,
    ) -> Result<()> {
        check_digest(staging.digest(digest.algorithm()).await?, digest)?;
        let size_bytes = staging.offset();
        if size_bytes <= self.inner.options.small_content_size_bytes_max {
            let content = staging.contents().await?;
            self.commit_small(session, content, digest).await?;
        } else {
            let _stripe = self.publish(staging, digest).await?;
            let link = self.link(session, digest, size_bytes, None);
            self.inner.meta.link_blob(link).await?;
        }
        // Empty by now, or no longer needed; if it stays, the next start removes it.
        let _ = self.inner.blobs.discard(session.id).await;
        Ok(())
    }

    fn link(
        &self,
        session: &Session,
        digest: &Digest,
        size_bytes: u64,
        content: Option<Bytes>,
    ) -> LinkBlob {
        LinkBlob {
            repository: session.repository.clone(),
            digest: *digest,
            size_bytes,
            content,
            upload: Some(session.id),
            moment: self.moment(),
        }
    }
}

/// The length that the chunk must have, from its range or its header. An error is found before
/// a byte is read.
fn announced_length(session: &Session, start: u64, chunk: &Chunk) -> Result<Option<u64>> {
    let Some(range) = chunk.range else { return Ok(chunk.length) };
    if range.start != start {
        return Err(Error::UploadOutOfOrder(UploadStatus { id: session.id, offset: start }));
    }
    let length = range.end - range.start + 1;
    if chunk.length.is_some_and(|stated| stated != length) {
        return Err(Error::SizeInvalid);
    }
    Ok(Some(length))
}

fn check_digest(actual: Digest, expected: &Digest) -> Result<()> {
    if actual == *expected { Ok(()) } else { Err(Error::DigestMismatch { actual }) }
}
