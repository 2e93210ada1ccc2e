//! The one writer. What queued while the last commit ran goes into the next: no timer, and an
//! idle store commits at once. Every answer, refusals too, leaves after the commit that its
//! facts are in, or after the one before when the batch changed nothing.
//!
//! redb cannot take one operation back out of a transaction, so an error while applying undoes
//! the whole batch. When the cause is a damaged row, the batch is done again one by one, so that
//! only those who meet it are refused; when the disk is full, those without content are done
//! again; when it is other I/O, everybody gets the error.

use std::sync::Arc;

use redb::WriteTransaction;
use tokio::sync::{mpsc, oneshot};

use super::super::{Error, Result};
use super::error::{duplicate, needs_reopening};
use super::handle::{Handle, Turn, guarded};
use super::tables::Tables;
use super::writes::{Decision, Operation, count_transaction};

/// Writes that wait; the next caller waits for room.
const QUEUE_LENGTH_MAX: usize = 256;
/// Writes in one commit.
const BATCH_LENGTH_MAX: usize = 256;
/// Content in one commit, in bytes; a single larger one is a batch of its own.
const BATCH_CONTENT_SIZE_BYTES_MAX: usize = 4 << 20;

/// A write in the queue, whatever its answer.
trait Job: Send {
    fn content_size_bytes(&self) -> usize;
    /// Checks and applies; whether something changed. The answer waits for [`Job::answer`].
    fn run(&mut self, tables: &mut Tables<'_>) -> Result<bool>;
    /// Lets the answer go, or this error instead.
    fn answer(&mut self, failed: Option<Error>);
}

struct Pending<O: Operation> {
    operation: O,
    answer: Option<Result<O::Answer>>,
    caller: Option<Caller<O::Answer>>,
}

impl<O: Operation> Job for Pending<O> {
    fn content_size_bytes(&self) -> usize {
        self.operation.content_size_bytes()
    }

    fn run(&mut self, tables: &mut Tables<'_>) -> Result<bool> {
        let plan = match self.operation.check(tables) {
            Ok(Decision::Apply(plan)) => plan,
            Ok(Decision::Answer(answer)) => {
                self.answer = Some(Ok(answer));
                return Ok(false);
            }
            Err(error) if needs_reopening(&error) => return Err(error),
            // Nothing was changed yet: this is between the caller and a damaged row.
            Err(error) => {
                self.answer = Some(Err(error));
                return Ok(false);
            }
        };
        self.answer = Some(Ok(self.operation.apply(plan, tables)?));
        Ok(true)
    }

    fn answer(&mut self, failed: Option<Error>) {
        let answer = match (failed, self.answer.take()) {
            (Some(error), _) => Err(error),
            (None, Some(answer)) => answer,
            (None, None) => Err(Error::Backend("the write was not tried".to_owned())),
        };
        if let Some(caller) = self.caller.take() {
            // A caller that no longer waits needs no answer.
            let _ = caller.send(answer);
        }
    }
}

/// Who waits for an answer.
type Caller<T> = oneshot::Sender<Result<T>>;

enum Message {
    Write(Box<dyn Job>),
    Close(Caller<()>),
}

/// Where callers put their writes.
#[derive(Clone)]
pub struct Sender(mpsc::Sender<Message>);

/// The writer's end: what waits, and what did not fit into the last batch.
pub struct Queue {
    receiver: mpsc::Receiver<Message>,
    held_back: Option<Message>,
}

/// An empty queue.
pub fn queue() -> (Sender, Queue) {
    let (sender, receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
    (Sender(sender), Queue { receiver, held_back: None })
}

/// An answer on its way.
pub struct Answer<T>(oneshot::Receiver<Result<T>>);

impl<T> Answer<T> {
    /// Waits for it.
    pub async fn get(self) -> Result<T> {
        self.0.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> Error {
    Error::Backend("the database is closed".to_owned())
}

impl Sender {
    /// Queues a write; waits while the queue is full.
    pub async fn write<O>(&self, operation: O) -> Result<Answer<O::Answer>>
    where
        O: Operation,
    {
        let (caller, answer) = oneshot::channel();
        let pending = Pending { operation, answer: None, caller: Some(caller) };
        self.send(Message::Write(Box::new(pending))).await?;
        Ok(Answer(answer))
    }

    /// Queues the end: what was queued before is committed first.
    pub async fn close(&self) -> Result<Answer<()>> {
        let (caller, answer) = oneshot::channel();
        self.send(Message::Close(caller)).await?;
        Ok(Answer(answer))
    }

    async fn send(&self, message: Message) -> Result<()> {
        self.0.send(message).await.map_err(|_| closed())
    }
}

impl Queue {
    /// Blocks until there is something to do; `false` when nothing ever comes again.
    pub fn wait(&mut self) -> bool {
        if self.held_back.is_none() {
            self.held_back = self.receiver.blocking_recv();
        }
        self.held_back.is_some()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.held_back.is_none() && self.receiver.is_empty()
    }

    fn next(&mut self) -> Option<Message> {
        self.held_back.take().or_else(|| self.receiver.try_recv().ok())
    }

    /// What goes into the next commit, in order; the end of the queue, if that was reached.
    fn take_batch(&mut self) -> (Vec<Box<dyn Job>>, Option<Caller<()>>) {
        let mut batch: Vec<Box<dyn Job>> = Vec::new();
        let mut size_bytes = 0;
        while batch.len() < BATCH_LENGTH_MAX {
            let job = match self.next() {
                None => break,
                Some(Message::Close(caller)) => return (batch, Some(caller)),
                Some(Message::Write(job)) => job,
            };
            size_bytes += job.content_size_bytes();
            if size_bytes > BATCH_CONTENT_SIZE_BYTES_MAX && !batch.is_empty() {
                self.held_back = Some(Message::Write(job));
                break;
            }
            batch.push(job);
        }
        (batch, None)
    }
}

/// Commits batches.
#[derive(Debug, Clone)]
pub struct Writer {
    handle: Arc<Handle>,
}

impl Writer {
    /// Writes through this handle.
    pub fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// Commits what is queued now, and answers; `false` when the queue has ended.
    pub fn step(&self, queue: &mut Queue) -> bool {
        let (mut batch, end) = queue.take_batch();
        let turn = self.handle.turn();
        if !batch.is_empty() {
            self.commit(&mut batch, &turn);
        }
        let Some(caller) = end else {
            return true;
        };
        queue.receiver.close();
        // A caller that no longer waits needs no answer.
        let _ = caller.send(self.handle.close(&turn));
        false
    }

    fn commit(&self, batch: &mut [Box<dyn Job>], turn: &Turn<'_>) {
        let result = self.try_commit(batch, turn);
        match result {
            Ok(()) => batch.iter_mut().for_each(|job| job.answer(None)),
            Err(error) if batch.len() > 1 && !needs_reopening(&error) => {
                tracing::warn!(%error, "a batch failed; committing its writes one by one");
                batch.chunks_mut(1).for_each(|single| self.commit(single, turn));
            }
            Err(error) => {
                let error = if self.handle.is_poisoned() { Error::Poisoned } else { error };
                let spared = spared(batch, &error);
                let (light, refused) = batch.split_at_mut(spared);
                tracing::error!(%error, writes = refused.len(), "a commit failed");
                refused.iter_mut().for_each(|job| job.answer(Some(duplicate(&error))));
                if !light.is_empty() {
                    self.commit(light, turn);
                }
            }
        }
    }

    /// One transaction. After an error nothing of it is there, except when the disk failed in
    /// its very last steps and still does: then it may be.
    fn try_commit(&self, batch: &mut [Box<dyn Job>], turn: &Turn<'_>) -> Result<()> {
        let transaction = self.handle.begin_write(turn)?;
        let counted = guarded(|| run(batch, &transaction));
        let result = match counted {
            Ok(Some(_)) => {
                // A mutant: the crash test must notice answers that leave before their commit.
                #[cfg(feature = "failpoints")]
                if crate::disk::failpoint::is_mutant("ack-before-commit") {
                    batch.iter_mut().for_each(|job| job.answer(None));
                }
                guarded(|| Ok(transaction.commit()?))
            }
            Ok(None) => guarded(|| Ok(transaction.abort()?)),
            Err(error) => {
                // The cause is known; an abort that fails as well adds nothing.
                let _ = guarded(|| Ok(transaction.abort()?));
                self.handle.recover(turn);
                return Err(error);
            }
        };
        let Err(error) = result else {
            self.handle.restore_ballast();
            return Ok(());
        };
        self.handle.recover(turn);
        // redb reports failures after the commit took place, too. The new handle knows: it has
        // read the file anew, and has synced what it found.
        match counted {
            Ok(Some(number)) if self.handle.has_committed(number) => Ok(()),
            _ => Err(error),
        }
    }
}

/// How many of a failed batch, moved to its front, are worth another try by themselves. On a full
/// disk the room that content needed must not cost those who bring none: a delete makes room.
fn spared(batch: &mut [Box<dyn Job>], error: &Error) -> usize {
    if !matches!(error, Error::Full) {
        return 0;
    }
    batch.sort_by_key(|job| job.content_size_bytes() > 0);
    let light = batch.partition_point(|job| job.content_size_bytes() == 0);
    if light < batch.len() { light } else { 0 }
}

/// Checks and applies in order; the number of the transaction, if something changed.
fn run(batch: &mut [Box<dyn Job>], transaction: &WriteTransaction) -> Result<Option<u64>> {
    let mut tables = Tables::open(transaction)?;
    let mut changed = false;
    for job in batch {
        changed |= job.run(&mut tables)?;
    }
    if changed { count_transaction(&mut tables).map(Some) } else { Ok(None) }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
