//! Random operations through the model and the database side by side.

use std::sync::Arc;

use proptest::prelude::*;

use super::conformance::{
    self, Subject, content, digest, link, moment, name, push, size_bytes, tag,
};
use super::memory::MemoryMeta;
use super::redb::{Options, RedbMeta};
use super::*;
use crate::disk::OsVfs;
use crate::oci::Algorithm;
use crate::ops::Blocking;

const REPOSITORIES: [&str; 3] = ["a", "a/b", "c"];
const TAGS: [&str; 3] = ["latest", "v1", "v1.0"];
/// Digests of this small world; the last ones are rarely there.
const DIGESTS: u8 = 10;

#[tokio::test]
async fn the_model_keeps_the_contract() {
    conformance::run_all(MemoryMeta::default).await.unwrap();
}

#[tokio::test]
async fn the_database_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    for blocking in [Blocking::Inline, Blocking::Pool] {
        let number = std::cell::Cell::new(0);
        let open = || {
            number.set(number.get() + 1);
            let path = directory.path().join(format!("{blocking:?}{}.redb", number.get()));
            RedbMeta::open(Arc::new(OsVfs), &path, Options::default(), blocking).unwrap()
        };
        conformance::run_all(open).await.unwrap();
    }
}

#[derive(Debug, Clone)]
enum Change {
    Link { repository: usize, n: u8, inline: bool, upload: Option<u8> },
    Mount { from: usize, to: usize, n: u8 },
    Unlink { repository: usize, n: u8 },
    Put(Box<PushManifest>),
    DeleteManifest { repository: usize, n: u8 },
    DeleteTag { repository: usize, tag: usize },
    Save { n: u8, offset: u64, started: u64 },
    Forget { n: u8 },
    Spill { count: usize },
    Advance { seconds: u64 },
    SetState { n: u8, state: BlobState },
    Collector { step: Step, queue: GcQueue, before: u64, limit: usize, misplaced: bool },
    ForgetContents { from: u8 },
    Revive { repository: usize, n: u8, usage: Use },
    Judge { n: u8, file_is_right: bool },
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Condemn,
    Spare,
    Collect,
}

fn collector() -> impl Strategy<Value = Change> {
    let step = prop::sample::select(vec![Step::Condemn, Step::Condemn, Step::Spare, Step::Collect]);
    let queue = prop::sample::select(vec![GcQueue::Garbage, GcQueue::Untagged]);
    (step, queue, 0..200_u64, 0..6_usize, prop::bool::weighted(0.1)).prop_map(
        |(step, queue, before, limit, misplaced)| Change::Collector {
            step,
            queue,
            before,
            limit,
            misplaced,
        },
    )
}

fn edge() -> impl Strategy<Value = Edge> {
    let kind = prop_oneof![
        Just(EdgeKind::Config),
        Just(EdgeKind::Layer),
        Just(EdgeKind::Child),
        Just(EdgeKind::Child)
    ];
    (0..DIGESTS, kind, prop::bool::weighted(0.4), prop::bool::weighted(0.95)).prop_map(
        |(n, kind, optional, right)| Edge {
            digest: digest(n),
            kind,
            size_bytes: size_bytes(n) + u64::from(!right),
            optional,
        },
    )
}

fn expect() -> impl Strategy<Value = Expect> {
    let digests = prop::collection::vec((0..DIGESTS).prop_map(digest), 0..3);
    prop_oneof![
        8 => Just(Expect::Anything),
        1 => Just(Expect::Absent),
        1 => Just(Expect::Present),
        1 => digests.clone().prop_map(Expect::OneOf),
        1 => digests.prop_map(Expect::NoneOf),
    ]
}

fn put() -> impl Strategy<Value = Change> {
    let edges = prop::collection::vec(edge(), 0..4);
    let subject = prop::option::weighted(0.3, (0..DIGESTS).prop_map(digest));
    let tags = prop::collection::vec(0..TAGS.len(), 0..3);
    (0..REPOSITORIES.len(), 0..DIGESTS, edges, subject, tags, expect(), any::<bool>()).prop_map(
        |(repository, n, mut edges, subject, tags, expect, inline)| {
            edges.sort();
            edges.dedup_by_key(|edge| (edge.digest, edge.kind));
            let tags: Vec<_> = tags.into_iter().map(|tag| TAGS[tag]).collect();
            let push = push(REPOSITORIES[repository], n, edges, &tags);
            let artifact_type = (n % 2 == 0).then(|| format!("type/{}", n % 3));
            let content = push.content.clone().filter(|_| inline);
            Change::Put(Box::new(PushManifest { subject, expect, artifact_type, content, ..push }))
        },
    )
}

fn state() -> impl Strategy<Value = BlobState> {
    let states = [BlobState::Live, BlobState::Quarantined];
    prop::sample::select(states.to_vec())
}

fn change() -> impl Strategy<Value = Change> {
    let repository = 0..REPOSITORIES.len();
    let (other, n) = (repository.clone(), 0..DIGESTS);
    prop_oneof![
        2 => (n.clone(), state()).prop_map(|(n, state)| Change::SetState { n, state }),
        6 => (repository.clone(), n.clone(), any::<bool>(), prop::option::of(0..4_u8)).prop_map(
            |(repository, n, inline, upload)| Change::Link { repository, n, inline, upload }),
        2 => (repository.clone(), other, n.clone())
            .prop_map(|(from, to, n)| Change::Mount { from, to, n }),
        2 => (repository.clone(), n.clone())
            .prop_map(|(repository, n)| Change::Unlink { repository, n }),
        8 => put(),
        3 => (repository.clone(), n)
            .prop_map(|(repository, n)| Change::DeleteManifest { repository, n }),
        1 => (repository, 0..TAGS.len())
            .prop_map(|(repository, tag)| Change::DeleteTag { repository, tag }),
        1 => (0..4_u8, 0..9_u64, 0..9_u64)
            .prop_map(|(n, offset, started)| Change::Save { n, offset, started }),
        1 => (0..4_u8).prop_map(|n| Change::Forget { n }),
        1 => (0..5_usize).prop_map(|count| Change::Spill { count }),
        1 => (0..9_u64).prop_map(|seconds| Change::Advance { seconds }),
        12 => collector(),
        2 => (0..DIGESTS).prop_map(|from| Change::ForgetContents { from }),
        1 => revive(),
        1 => (0..DIGESTS, any::<bool>())
            .prop_map(|(n, file_is_right)| Change::Judge { n, file_is_right }),
    ]
}

fn revive() -> impl Strategy<Value = Change> {
    let usage = prop::sample::select(vec![Use::Blob, Use::Manifest]);
    (0..REPOSITORIES.len(), 0..DIGESTS, usage).prop_map(|(repository, n, usage)| Change::Revive {
        repository,
        n,
        usage,
    })
}

fn id(n: u8) -> UploadId {
    UploadId::from_random([n; 16])
}

/// Does it, and says in words what the store answered.
async fn change_one(store: &impl Subject, change: &Change, seconds: u64) -> String {
    let moment = moment(seconds);
    match change {
        Change::Link { repository, n, inline, upload } => {
            let link = link(REPOSITORIES[*repository], *n, seconds);
            let content = link.content.clone().filter(|_| *inline);
            let upload = upload.map(id);
            format!("{:?}", store.link_blob(LinkBlob { content, upload, ..link }).await)
        }
        Change::Mount { from, to, n } => {
            let (from, to) = (name(REPOSITORIES[*from]), name(REPOSITORIES[*to]));
            let mount = MountBlob { from, to, digest: digest(*n), moment };
            format!("{:?}", store.mount_blob(mount).await)
        }
        Change::Unlink { repository, n } => {
            let repository = name(REPOSITORIES[*repository]);
            format!("{:?}", store.unlink_blob(&repository, &digest(*n), moment).await)
        }
        Change::Put(push) => {
            let push = PushManifest { moment, ..(**push).clone() };
            format!("{:?}", store.put_manifest(push).await)
        }
        Change::DeleteManifest { repository, n } => {
            let repository = name(REPOSITORIES[*repository]);
            format!("{:?}", store.delete_manifest(&repository, &digest(*n), moment).await)
        }
        Change::DeleteTag { repository, tag: index } => {
            let repository = name(REPOSITORIES[*repository]);
            format!("{:?}", store.delete_tag(&repository, &tag(TAGS[*index]), moment).await)
        }
        Change::Save { n, offset, started } => {
            let upload = UploadRecord {
                id: id(*n),
                repository: name("a"),
                offset: *offset,
                algorithm: Algorithm::Sha512,
                started_at: moment.time,
                started_uptime_seconds: *started,
            };
            format!("{:?}", store.save_upload(upload).await)
        }
        Change::Forget { n } => format!("{:?}", store.forget_upload(id(*n)).await),
        Change::Spill { count } => {
            let unspilled = store.unspilled(None, *count, 20).await.unwrap();
            let spilled = unspilled.iter().map(|(digest, _)| *digest).collect();
            format!("{unspilled:?} {:?}", store.mark_spilled(spilled).await)
        }
        Change::Collector { step, queue, before, limit, misplaced } => {
            let mut batch = store.garbage(*queue, *before, None, *limit).await.unwrap();
            for candidate in &mut batch {
                // A row that has moved since it was read.
                candidate.eligible_uptime_seconds += u64::from(*misplaced);
            }
            collect(store, *step, batch, moment).await
        }
        Change::ForgetContents { from } => {
            let digests = (*from..DIGESTS).take(3).map(digest).collect();
            format!("{:?}", store.forget_contents(digests).await)
        }
        Change::Revive { repository, n, usage } => {
            let repository = name(REPOSITORIES[*repository]);
            format!("{:?}", store.revive(&repository, &digest(*n), *usage, moment).await)
        }
        Change::Judge { n, file_is_right } => {
            format!("{:?}", store.judge(&digest(*n), *file_is_right).await)
        }
        Change::SetState { n, state } => format!("{:?}", store.set_state(&digest(*n), *state)),
        Change::Advance { seconds } => format!("{:?}", store.advance_uptime(*seconds).await),
    }
}

async fn collect(
    store: &impl Subject,
    step: Step,
    batch: Vec<Candidate>,
    moment: Moment,
) -> String {
    match step {
        Step::Condemn => format!("{:?}", store.condemn(batch).await),
        Step::Spare => {
            let eligible = moment.eligible_uptime_seconds + 5;
            format!("{:?}", store.spare(batch, eligible).await)
        }
        Step::Collect => format!("{:?}", store.collect(batch, moment).await),
    }
}

/// Everything that can be asked, in words, in pages of `limit`.
async fn view(store: &impl Subject, limit: usize) -> Vec<String> {
    let mut seen = vec![
        format!("{:?}", store.repositories(None, limit).await),
        format!("{:?}", store.repositories(Some("a"), limit).await),
        format!("{:?}", store.unspilled(None, 100, 20).await),
        format!("{:?}", store.unspilled(Some(&digest(3)), 100, 20).await),
        format!("{:?}", store.uploads(5, None, limit).await),
        format!("{:?}", store.uploads(9, Some((3, id(2))), 9).await),
        format!("{:?}", store.counters().await.map(|counters| counters.uptime_seconds)),
        format!("{:?}", store.gc_queue()),
        format!("{:?}", store.garbage(GcQueue::Garbage, 40, None, limit).await),
        format!("{:?}", store.garbage(GcQueue::Untagged, 140, None, limit).await),
        format!("{:?}", store.garbage(GcQueue::Untagged, u64::MAX, None, 999).await),
        format!("{:?}", store.waiting(40, 140).await),
    ];
    for n in 0..DIGESTS {
        let digest = digest(n);
        seen.push(format!("{:?}", store.stored(&digest).await));
        seen.push(format!("{:?}", store.explain(&digest, limit).await));
        let inline = store.small_content(&digest).await.unwrap();
        assert!(inline.as_ref().is_none_or(|bytes| *bytes == content(n)));
        seen.push(format!("{inline:?}"));
        let readers = store.repositories_with_blob(&digest, None, limit).await;
        seen.push(format!("{readers:?}"));
        let readers = store.repositories_with_blob(&digest, Some(&name("a")), 9).await;
        seen.push(format!("{readers:?}"));
    }
    for repository in REPOSITORIES {
        view_repository(store, &name(repository), limit, &mut seen).await;
    }
    seen
}

async fn view_repository(
    store: &impl Subject,
    name: &RepositoryName,
    limit: usize,
    seen: &mut Vec<String>,
) {
    seen.push(format!("{name}: {:?}", store.repository(name).await));
    seen.push(format!("{:?}", store.tags(name, None, limit).await));
    seen.push(format!("{:?}", store.tags(name, Some("v1"), 9).await));
    for tag in TAGS.map(tag) {
        seen.push(format!("{:?}", store.manifest(name, &Reference::Tag(tag)).await));
    }
    for after in [None, Some(digest(4))] {
        seen.push(format!("{:?}", store.blobs(name, after.as_ref(), limit).await));
        seen.push(format!("{:?}", store.manifests(name, after.as_ref(), limit).await));
    }
    for n in 0..DIGESTS {
        let digest = digest(n);
        seen.push(format!("{:?}", store.blob(name, &digest).await));
        seen.push(format!("{:?}", store.manifest(name, &Reference::Digest(digest)).await));
        seen.push(format!("{:?}", store.tags_of(name, &digest, None, limit).await));
        let all = store.referrers(name, &digest, &[], None, 1000).await;
        let some = store.referrers(name, &digest, &["type/2".to_owned()], None, 1000).await;
        let page = store.referrers(name, &digest, &[], all.as_ref().ok().and_then(first), 1).await;
        seen.push(format!("{all:?} {some:?} {page:?}"));
    }
}

fn first(page: &Page<Descriptor>) -> Option<&Digest> {
    page.items.first().map(|descriptor| &descriptor.digest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_database_answers_as_the_model_does(
        changes in prop::collection::vec(change(), 1..60),
        limit in 0_usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.redb");
        let open = || {
            RedbMeta::open(Arc::new(OsVfs), &path, Options::default(), Blocking::Inline).unwrap()
        };
        runtime.block_on(async {
            let (model, mut store) = (MemoryMeta::default(), open());
            for (index, change) in changes.iter().enumerate() {
                let seconds = index as u64 + 1;
                let answer = change_one(&store, change, seconds).await;
                prop_assert_eq!(change_one(&model, change, seconds).await, answer);
                if index % 20 == 19 {
                    store.close().await.unwrap();
                    store = open();
                }
                if index % 5 == 4 || index + 1 == changes.len() {
                    prop_assert_eq!(view(&model, limit).await, view(&store, limit).await);
                    prop_assert_eq!(store.check().unwrap(), []);
                }
            }
            Ok(())
        })?;
    }
}
