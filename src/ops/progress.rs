//! How long work tells whoever waits for it how far it is.
//!
//! Work reports phases, advances within them, and items that it found. It never waits for a slow
//! reader but for items, which must all arrive; without a reader nothing is kept.
//!
//! It is also how work learns that nobody wants it any more. It is never cut off in the middle of
//! a step, where a file operation may still run that its locks were for: it ends at its next
//! [`Progress::advance`].

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait for their reader.
const QUEUE_LENGTH_MAX: usize = 64;

/// What an amount of progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Contents, rows, or whatever the phase is about.
    Items,
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A part of the work begins.
    Phase {
        /// What is done, for people: `reading blobs`.
        name: String,
        /// How much there is to do, when it is known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// So much of the phase is done.
    Advance {
        /// Since its begin.
        done: u64,
    },
    /// Something was found or done that is to be shown.
    Item {
        /// An object with a field `kind`.
        item: Value,
    },
}

/// Nobody waits for the work any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was broken off; what was finished stays done")]
pub struct Abandoned;

/// Where work reports to; cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    sender: Option<mpsc::Sender<Event>>,
    stop: CancellationToken,
}

impl Progress {
    /// Nobody listens, and the work goes on to its end.
    pub fn silent() -> Self {
        Self::until(CancellationToken::new())
    }

    /// Nobody listens, and the work is wanted until `stop`.
    pub fn until(stop: CancellationToken) -> Self {
        Self { sender: None, stop }
    }

    /// A place to report to, and where the news comes out. The receiver ends when the last clone
    /// of the sender is dropped.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
        (Self { sender: Some(sender), stop: CancellationToken::new() }, receiver)
    }

    /// Begins a phase; `total` in `unit`s, when it is known.
    pub async fn phase(&self, name: &str, total: Option<u64>, unit: Unit) {
        self.send(Event::Phase { name: name.to_owned(), total, unit }).await;
    }

    /// Tells how much of the phase is done. Lost when the reader is behind: the next tells more.
    ///
    /// # Errors
    /// [`Abandoned`] when the work is to end here.
    pub fn advance(&self, done: u64) -> Result<(), Abandoned> {
        if self.stop.is_cancelled() {
            return Err(Abandoned);
        }
        let Some(sender) = &self.sender else { return Ok(()) };
        match sender.try_send(Event::Advance { done }) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Abandoned),
            _ => Ok(()),
        }
    }

    /// Completes when nobody wants the work any more; for work that waits for its turn.
    pub async fn abandoned(&self) -> Abandoned {
        match &self.sender {
            Some(sender) => sender.closed().await,
            None => self.stop.cancelled().await,
        }
        Abandoned
    }

    /// Shows something: `item` is an object with a field `kind`. Waits for the reader.
    pub async fn item(&self, item: Value) {
        self.send(Event::Item { item }).await;
    }

    async fn send(&self, event: Event) {
        if let Some(sender) = &self.sender {
            // A reader that went away needs no news.
            let _ = sender.send(event).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_loses_advances_and_no_item() {
        let (progress, mut news) = Progress::channel();
        let work = async move {
            progress.phase("counting", Some(1000), Unit::Items).await;
            for done in 0..1000 {
                progress.advance(done).unwrap();
            }
            for number in 0..200 {
                progress.item(serde_json::json!({ "kind": "number", "number": number })).await;
            }
        };
        let read = async move {
            let mut items = 0;
            while let Some(event) = news.recv().await {
                items += usize::from(matches!(event, Event::Item { .. }));
            }
            items
        };
        assert_eq!(tokio::join!(work, read).1, 200);
    }

    #[tokio::test]
    async fn without_a_reader_nothing_waits() {
        let (progress, news) = Progress::channel();
        drop(news);
        for _ in 0..1000 {
            progress.item(serde_json::json!({ "kind": "nobody" })).await;
        }
        assert_eq!(progress.advance(1), Err(Abandoned), "it is told that it may end");
        progress.abandoned().await;
        let silent = Progress::silent();
        silent.phase("alone", None, Unit::Bytes).await;
        assert_eq!(silent.advance(1), Ok(()));
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(Progress::until(stop).advance(1), Err(Abandoned));
    }
}
