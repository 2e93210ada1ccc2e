//! What one write does to the tables. Each is `check`, which changes nothing, then `apply`.

mod blobs;
mod contents;
mod gc;
mod housekeeping;
mod integrity;
mod links;
mod manifests;
mod queues;
mod repositories;
mod tags;
mod uploads;

pub use blobs::{Link, Mount, Unlink};
pub use gc::{Collect, Condemn, ForgetContents, Revive, Spare};
pub use housekeeping::{AdvanceUptime, MarkSpilled, SetStoreId, store_id};
pub use integrity::{Judge, Rebuild, SaveScrub};
pub use manifests::{DeleteManifest, Put};
pub use repositories::{NEWEST_REPOSITORY, TRANSACTIONS, UPTIME, count_transaction, counter};
pub use tags::DeleteTag;
pub use uploads::{Forget, Save};

use super::super::Result;
use super::tables::Tables;

/// A write, before it is tried.
pub trait Operation: Send + Sync + 'static {
    /// What `check` found out for `apply`.
    type Plan;
    /// What its caller gets.
    type Answer: Send + 'static;

    /// Bytes of content that it adds to the batch.
    fn content_size_bytes(&self) -> usize {
        0
    }

    /// Decides; changes nothing. An error is this operation's alone.
    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, Self::Answer>>;

    /// Does it. An error undoes the whole batch.
    fn apply(&self, plan: Self::Plan, tables: &mut Tables<'_>) -> Result<Self::Answer>;
}

/// What [`Operation::check`] decides.
#[derive(Debug)]
pub enum Decision<P, A> {
    /// Nothing is to be changed.
    Answer(A),
    /// This is to be done.
    Apply(P),
}
