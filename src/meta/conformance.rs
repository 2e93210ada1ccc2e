//! What every metadata store must do: the contract of [`MetaStore`] as tests.
//!
//! An implementation calls [`run_all`] with a factory of empty stores. A breach of the contract
//! panics with the name of the expectation, or is the error of an operation that should work.
//! In this small world every digest is one byte repeated, and every content follows from it.

mod blobs;
mod collector;
mod integrity;
mod manifests;
mod referrers;
mod uploads;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    BlobState, Edge, EdgeKind, Expect, Finding, Garbage, LinkBlob, MetaStore, Moment, PushManifest,
    RepositoryRecord, Timestamp,
};
use crate::oci::{Algorithm, Digest, MediaType, RepositoryName, Tag};

/// Result of one test.
pub type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// A store under test, seen from inside.
pub trait Subject: MetaStore {
    /// Facts that break an invariant.
    fn check(&self) -> super::Result<Vec<Finding>>;
    /// What waits for the collector: when, in which repository (0: none), what.
    fn gc_queue(&self) -> super::Result<Vec<(u64, u64, Digest, Garbage)>>;
    /// Puts a content that is there into a state.
    fn set_state(&self, digest: &Digest, state: BlobState) -> super::Result<()>;
}

impl Subject for super::memory::MemoryMeta {
    fn check(&self) -> super::Result<Vec<Finding>> {
        Ok(Self::check(self))
    }

    fn gc_queue(&self) -> super::Result<Vec<(u64, u64, Digest, Garbage)>> {
        Ok(Self::gc_queue(self))
    }

    fn set_state(&self, digest: &Digest, state: BlobState) -> super::Result<()> {
        Self::set_state(self, digest, state);
        Ok(())
    }
}

impl Subject for super::redb::RedbMeta {
    fn check(&self) -> super::Result<Vec<Finding>> {
        Self::check(self)
    }

    fn gc_queue(&self) -> super::Result<Vec<(u64, u64, Digest, Garbage)>> {
        Self::gc_queue(self)
    }

    fn set_state(&self, digest: &Digest, state: BlobState) -> super::Result<()> {
        Self::set_state(self, digest, state)
    }
}

/// Runs a test on a new store, and checks the store after it.
macro_rules! run {
    ($factory:expr, $($test:path),* $(,)?) => {
        $(
            let store = $factory();
            Box::pin($test(&store)).await?;
            assert_eq!(store.check()?, [], "after {}", stringify!($test));
        )*
    };
}

/// Runs every test, each on a new empty store.
pub async fn run_all<S: Subject>(factory: impl Fn() -> S) -> Outcome {
    run!(
        factory,
        blobs::a_link_is_the_permission,
        blobs::content_is_stored_once,
        blobs::a_durable_file_ends_the_wait_for_one,
        blobs::spilled_blobs_lose_their_inline_copy,
        blobs::unspilled_contents_come_in_bounded_portions,
        blobs::mounts_need_a_readable_source,
        blobs::referenced_blobs_stay,
        blobs::unlinked_blobs_wait_for_the_collector,
        blobs::a_link_without_use_is_queued_once,
        blobs::one_digest_has_one_length,
        blobs::contents_that_are_not_live_are_not_there,
        blobs::manifests_that_are_not_live_are_not_there,
        blobs::lists_of_blobs_have_pages,
        integrity::a_content_without_a_right_copy_is_quarantined,
        integrity::a_right_inline_copy_replaces_a_wrong_file,
        integrity::a_right_file_replaces_a_wrong_inline_copy,
        integrity::a_wrong_inline_copy_alone_is_quarantined,
        integrity::contents_are_listed_by_shard,
        integrity::the_place_of_the_scrub_is_remembered,
        manifests::a_pushed_manifest_is_found_by_tag_and_digest,
        manifests::missing_references_change_nothing,
        manifests::wrong_lengths_change_nothing,
        manifests::children_may_be_manifests_or_blobs,
        manifests::late_content_of_a_sparse_manifest_is_held,
        manifests::conditions_look_at_every_tag,
        manifests::pushing_again_changes_nothing_but_the_time,
        manifests::tags_move,
        manifests::a_deleted_tag_leaves_its_manifest,
        manifests::a_deleted_manifest_takes_its_tags_and_frees_its_blobs,
        manifests::the_catalog_lists_repositories_with_manifests,
        manifests::repository_ids_are_never_used_again,
        manifests::pages_begin_anywhere,
        manifests::a_manifest_keeps_its_inline_copy,
        referrers::referrers_are_listed_by_digest,
        referrers::referrers_are_filtered,
        referrers::pages_of_referrers_are_bounded_in_bytes,
        referrers::referrers_of_a_deleted_subject_are_queued,
        collector::a_link_goes_and_its_content_after_it,
        collector::whoever_uses_a_condemned_link_takes_it_back,
        collector::what_is_gone_or_elsewhere_is_not_revived,
        collector::only_what_stands_at_its_place_is_condemned,
        collector::shared_contents_stay,
        collector::contents_pushed_while_they_are_unlinked_live,
        collector::untagged_manifests_wait_apart,
        collector::tags_and_indexes_hold_orphaned_referrers,
        collector::a_collected_manifest_leaves_a_grace_to_what_it_held,
        collector::empty_repositories_go_and_come_with_a_new_id,
        collector::queues_are_counted_and_have_pages,
        uploads::sessions_are_saved_replaced_and_forgotten,
        uploads::sessions_are_listed_by_uptime,
        uploads::a_finished_session_ends_with_its_blob,
        uploads::counters_rise,
        uploads::the_store_remembers_its_id,
    );
    Ok(())
}

/// The digest of byte `n`.
pub fn digest(n: u8) -> Digest {
    let value = [n; 64];
    let algorithm = Algorithm::ALL[usize::from(n) % Algorithm::ALL.len()];
    let value = &value[..algorithm.size_bytes()];
    Digest::from_bytes(algorithm, value).unwrap_or_else(|| unreachable!("as long as it must be"))
}

/// The content that has [`digest`]`(n)` in this world.
pub fn content(n: u8) -> Bytes {
    vec![n; usize::from(n % 7) + 1].into()
}

/// Its length.
pub fn size_bytes(n: u8) -> u64 {
    content(n).len() as u64
}

/// A valid repository name.
pub fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).unwrap_or_else(|_| unreachable!("{text} is a name"))
}

/// A valid tag.
pub fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap_or_else(|_| unreachable!("{text} is a tag"))
}

/// The moment at which things become garbage at `seconds`.
pub fn moment(seconds: u64) -> Moment {
    Moment { time: Timestamp(seconds * 1000), eligible_uptime_seconds: seconds }
}

/// Blob `n` arrives inline.
pub fn link(repository: &str, n: u8, seconds: u64) -> LinkBlob {
    LinkBlob {
        repository: name(repository),
        digest: digest(n),
        size_bytes: size_bytes(n),
        content: Some(content(n)),
        upload: None,
        moment: moment(seconds),
    }
}

/// A reference to content `n`.
pub fn edge(n: u8, kind: EdgeKind) -> Edge {
    Edge { digest: digest(n), kind, size_bytes: size_bytes(n), optional: false }
}

/// Manifest `n` arrives inline.
pub fn push(repository: &str, n: u8, edges: Vec<Edge>, tags: &[&str]) -> PushManifest {
    PushManifest {
        repository: name(repository),
        digest: digest(n),
        media_type: MediaType::parse("application/vnd.oci.image.manifest.v1+json")
            .unwrap_or_else(|_| unreachable!("a media type")),
        size_bytes: size_bytes(n),
        content: Some(content(n)),
        edges,
        subject: None,
        config_type: None,
        artifact_type: None,
        annotations: BTreeMap::new(),
        tags: tags.iter().map(|text| tag(text)).collect(),
        expect: Expect::Anything,
        moment: moment(100),
    }
}

async fn record(
    store: &impl MetaStore,
    repository: &str,
) -> Result<RepositoryRecord, Box<dyn std::error::Error>> {
    Ok(store.repository(&name(repository)).await?.ok_or("the repository is unknown")?)
}
