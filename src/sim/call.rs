//! What a client may ask for, what that changes, and its name on a command line.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, ROOT};
use super::model::{Effect, Key, Outcome, Value};
use super::universe::{Blob, CHUNK_SIZE_BYTES, REFERRER, ROTTED, UPLOADED, Universe};
use crate::blob::Layout;
use crate::meta::Expect;
use crate::oci::range::ContentRange;
use crate::oci::{Algorithm, Reference, UploadId};
use crate::ops::Progress;
use crate::ops::random::Seeded;
use crate::registry::gc::Pass;
use crate::registry::{Chunk, Error, Options, PutManifest};

/// One call. Numbers are those of the [`Universe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// A whole blob in one request: repository, blob.
    Push(usize, usize),
    /// A blob in two requests: repository, blob.
    Chunks(usize, usize),
    /// A blob of which only the first half comes: repository, blob.
    Half(usize, usize),
    /// Of a blob from the first repository into the second.
    Mount(usize),
    /// A manifest: repository, manifest, tag.
    Put(usize, usize, usize),
    /// A tag goes: repository, tag.
    Untag(usize, usize),
    /// A manifest goes: repository, manifest.
    Delete(usize, usize),
    /// A blob goes from a repository: repository, blob.
    Unlink(usize, usize),
    /// More bytes for the upload that is there from the beginning.
    Append,
    /// The rest of them.
    Finish,
    /// Small contents get their files.
    Spill,
    /// `store.json` learns how far the database is.
    Beat,
    /// So much time goes by that every grace and every lease ends, then the collector makes a pass.
    Collect,
    /// The process is killed and started again.
    Restart,
    /// Somebody copies a right file to its place and syncs nothing.
    Plant(usize),
    /// A byte of the file of one blob turns into another.
    Rot,
    /// All contents are compared with their digests, and what is damaged is contained.
    Scrub,
}

/// An answer that is no error.
enum Said {
    Done,
    /// An upload stands there, durably.
    Offset(u64),
    No,
}

/// What the calls of a case share.
#[derive(Debug)]
pub struct World<'a> {
    /// The contents.
    pub universe: &'a Universe,
    /// The upload that is there from the beginning.
    pub upload: UploadId,
}

impl Call {
    /// Those of the exhaustive short cases.
    pub const SHORT: [Self; 17] = [
        Self::Push(0, 2),
        Self::Push(0, 3),
        Self::Half(0, 6),
        Self::Mount(1),
        Self::Put(0, 1, 0),
        Self::Put(0, 3, 1),
        Self::Delete(0, 0),
        Self::Unlink(0, 4),
        Self::Append,
        Self::Finish,
        Self::Spill,
        Self::Restart,
        Self::Plant(3),
        Self::Beat,
        Self::Collect,
        Self::Rot,
        Self::Scrub,
    ];

    /// Any call.
    pub fn random(random: &Seeded) -> Self {
        let repository = random.below(2);
        match random.below(26) {
            0..=2 => Self::Push(repository, random.below(7)),
            3 | 4 => Self::Chunks(repository, random.below(7)),
            5 => Self::Half(repository, random.below(7)),
            6 | 7 => Self::Mount(random.below(7)),
            8..=11 => Self::Put(repository, random.below(6), random.below(2)),
            12 => Self::Untag(repository, random.below(2)),
            13 => Self::Delete(repository, random.below(6)),
            14 => Self::Unlink(repository, random.below(7)),
            15 | 16 => Self::Append,
            17 => Self::Finish,
            18 | 19 => Self::Spill,
            20 => Self::Plant(random.below(7)),
            21 | 22 => Self::Collect,
            23 => Self::Rot,
            24 => Self::Scrub,
            _ if random.one_in(3) => Self::Restart,
            _ => Self::Beat,
        }
    }

    /// What it changes if it takes place.
    pub fn effects(self, universe: &Universe) -> Vec<Effect> {
        let blob = |repository, blob, value| Effect::new(Key::Blob(repository, blob), value);
        match self {
            Self::Push(repository, n) | Self::Chunks(repository, n) => {
                vec![blob(repository, n, Value::Present)]
            }
            Self::Mount(n) => vec![blob(1, n, Value::Present)],
            Self::Put(repository, manifest, tag) => vec![
                Effect::new(Key::Manifest(repository, manifest), Value::Present),
                Effect::new(Key::Tag(repository, tag), Value::Of(manifest)),
            ],
            Self::Untag(repository, tag) => {
                vec![Effect::new(Key::Tag(repository, tag), Value::Absent)]
            }
            Self::Delete(repository, manifest) => {
                let mut effects =
                    vec![Effect::new(Key::Manifest(repository, manifest), Value::Absent)];
                effects.extend((0..universe.tags.len()).map(|tag| Effect {
                    only_over: Some(Value::Of(manifest)),
                    ..Effect::new(Key::Tag(repository, tag), Value::Absent)
                }));
                effects
            }
            Self::Unlink(repository, n) => vec![blob(repository, n, Value::Absent)],
            Self::Finish => {
                vec![blob(0, UPLOADED, Value::Present), Effect::new(Key::Upload, Value::Absent)]
            }
            Self::Append => vec![Effect::new(Key::Upload, Value::Grown)],
            Self::Collect => {
                let of = |of| {
                    let blobs = (0..universe.blobs.len()).map(move |n| Key::Blob(of, n));
                    // If its subject was deleted: see `History::contradicts`.
                    blobs.chain([Key::Manifest(of, REFERRER)])
                };
                let all = (0..universe.repositories.len()).flat_map(of);
                all.map(|key| Effect::possible(key, Value::Absent)).collect()
            }
            // If it has rotted: see `History::contradicts`.
            Self::Scrub => {
                let repositories = 0..universe.repositories.len();
                let may_go = |of| Effect::possible(Key::Blob(of, ROTTED), Value::Absent);
                repositories.map(may_go).collect()
            }
            Self::Half(..)
            | Self::Spill
            | Self::Beat
            | Self::Restart
            | Self::Plant(_)
            | Self::Rot => Vec::new(),
        }
    }

    /// Makes the call; what came of it, and the answer for people.
    pub async fn make(self, engine: &Engine, world: &World<'_>) -> (Outcome, String) {
        match self.ask(engine, world).await {
            Ok(Said::Done) => (Outcome::Done, "done".to_owned()),
            Ok(Said::Offset(offset)) => (Outcome::Kept(offset), format!("{offset} bytes")),
            Ok(Said::No) => (Outcome::Refused, "refused".to_owned()),
            Err(error) => {
                let outcome = match error {
                    Error::Full | Error::LowSpace => Outcome::Full,
                    Error::Poisoned => Outcome::Poisoned,
                    Error::Storage(_) => Outcome::Failed,
                    // A pass is many transactions.
                    Error::Exhausted(_) if self == Self::Collect => Outcome::Failed,
                    Error::DigestMismatch { .. } => Outcome::Mismatched,
                    _ => Outcome::Refused,
                };
                (outcome, error.to_string())
            }
        }
    }

    async fn ask(self, engine: &Engine, world: &World<'_>) -> Result<Said, Error> {
        let Engine { registry, .. } = engine;
        let (universe, repositories) = (world.universe, &world.universe.repositories);
        match self {
            Self::Push(to, n) => {
                let blob = &universe.blobs[n];
                let chunk = chunk(blob.bytes.clone());
                registry.push_blob(&repositories[to], &blob.digest, chunk).await?;
            }
            Self::Half(to, n) => {
                let bytes = &universe.blobs[n].bytes;
                let upload = registry.begin_upload(&repositories[to], Algorithm::Sha256).await?;
                let first = chunk(bytes.slice(..bytes.len() / 2));
                registry.append_upload(&repositories[to], upload.id, first).await?;
            }
            Self::Chunks(to, n) => {
                let blob = &universe.blobs[n];
                let half = blob.bytes.len() / 2;
                let upload = registry.begin_upload(&repositories[to], Algorithm::Sha256).await?;
                let first = chunk(blob.bytes.slice(..half));
                registry.append_upload(&repositories[to], upload.id, first).await?;
                let rest = chunk(blob.bytes.slice(half..));
                registry.finish_upload(&repositories[to], upload.id, &blob.digest, rest).await?;
            }
            Self::Mount(n) => {
                let digest = &universe.blobs[n].digest;
                let from = Some(&repositories[0]);
                let mounted = registry.mount_blob(&repositories[1], digest, from, &|_| true);
                return Ok(if mounted.await? { Said::Done } else { Said::No });
            }
            Self::Put(to, n, tag) => {
                let manifest = &universe.manifests[n];
                let put = PutManifest {
                    repository: repositories[to].clone(),
                    reference: Reference::Tag(universe.tags[tag].clone()),
                    tags: Vec::new(),
                    media_type: Some(manifest.media_type.clone()),
                    bytes: manifest.bytes.clone(),
                    expect: Expect::Anything,
                };
                registry.put_manifest(put).await?;
            }
            Self::Untag(of, tag) => {
                let reference = Reference::Tag(universe.tags[tag].clone());
                registry.delete_manifest(&repositories[of], &reference).await?;
            }
            Self::Delete(of, n) => {
                let reference = Reference::Digest(universe.manifests[n].digest);
                registry.delete_manifest(&repositories[of], &reference).await?;
            }
            Self::Unlink(of, n) => {
                registry.delete_blob(&repositories[of], &universe.blobs[n].digest).await?;
            }
            Self::Append | Self::Finish => return self.upload(engine, world).await,
            Self::Spill
            | Self::Beat
            | Self::Collect
            | Self::Restart
            | Self::Plant(_)
            | Self::Rot
            | Self::Scrub => self.beside(engine, universe).await?,
        }
        Ok(Said::Done)
    }

    /// What no client asks for.
    async fn beside(self, engine: &Engine, universe: &Universe) -> Result<(), Error> {
        let Engine { registry, store, .. } = engine;
        let path = |blob: &Blob| Layout::new(Path::new(ROOT)).blob_data(&blob.digest);
        match self {
            Self::Spill => drop(registry.spill_once().await?),
            Self::Beat => registry.beat_once(&mut 0, &store.identity).await?,
            Self::Collect => {
                let Options { gc_grace, gc_lease, .. } = *registry.options();
                engine.clock.advance(gc_grace + gc_lease + Duration::from_secs(1));
                registry.collect_once(Pass::default(), true, &Progress::silent()).await?;
            }
            Self::Plant(n) => {
                let blob = &universe.blobs[n];
                engine.plant(&path(blob), &blob.bytes);
            }
            Self::Rot => engine.spoil(&path(&universe.blobs[ROTTED]), universe.rot()),
            Self::Scrub => scrub(engine).await?,
            // A restart is none of this process.
            _ => {}
        }
        Ok(())
    }

    /// Goes on with the upload where it says that it stands.
    async fn upload(self, engine: &Engine, world: &World<'_>) -> Result<Said, Error> {
        let (blob, registry) = (&world.universe.blobs[UPLOADED], &engine.registry);
        let repository = &world.universe.repositories[0];
        let status = registry.upload_status(repository, world.upload).await?;
        let start = (status.offset as usize).min(blob.bytes.len());
        if self == Self::Finish {
            let rest = chunk(blob.bytes.slice(start..));
            registry.finish_upload(repository, world.upload, &blob.digest, rest).await?;
            return Ok(Said::Done);
        }
        let end = (start + CHUNK_SIZE_BYTES).min(blob.bytes.len());
        if end == start {
            return Ok(Said::No);
        }
        let mut more = chunk(blob.bytes.slice(start..end));
        more.range = Some(ContentRange { start: start as u64, end: end as u64 - 1 });
        let status = registry.append_upload(repository, world.upload, more).await?;
        Ok(Said::Offset(status.offset))
    }
}

/// Looks at all contents, after what an earlier process has left to do of its pass.
async fn scrub(engine: &Engine) -> Result<(), Error> {
    let _scrubbing = engine.scrubbing.lock().await;
    let is_under_way = engine.registry.scrub_status().await?.running;
    for _ in 0..=usize::from(is_under_way) {
        engine.registry.scrub_once(None, CancellationToken::new()).await?;
    }
    Ok(())
}

/// A request body in two frames.
pub fn chunk(bytes: Bytes) -> Chunk {
    let length = Some(bytes.len() as u64);
    let half = bytes.len() / 2;
    let frames = [Ok(bytes.slice(..half)), Ok(bytes.slice(half..))];
    Chunk { range: None, length, body: Box::pin(stream::iter(frames)) }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push(a, b) => write!(f, "push.{a}.{b}"),
            Self::Chunks(a, b) => write!(f, "chunks.{a}.{b}"),
            Self::Half(a, b) => write!(f, "half.{a}.{b}"),
            Self::Mount(a) => write!(f, "mount.{a}"),
            Self::Put(a, b, c) => write!(f, "put.{a}.{b}.{c}"),
            Self::Untag(a, b) => write!(f, "untag.{a}.{b}"),
            Self::Delete(a, b) => write!(f, "delete.{a}.{b}"),
            Self::Unlink(a, b) => write!(f, "unlink.{a}.{b}"),
            Self::Append => f.write_str("append"),
            Self::Finish => f.write_str("finish"),
            Self::Spill => f.write_str("spill"),
            Self::Beat => f.write_str("beat"),
            Self::Collect => f.write_str("collect"),
            Self::Restart => f.write_str("restart"),
            Self::Plant(a) => write!(f, "plant.{a}"),
            Self::Rot => f.write_str("rot"),
            Self::Scrub => f.write_str("scrub"),
        }
    }
}

impl Call {
    /// The call of that name.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let name = parts.next()?;
        let numbers: Vec<usize> = parts.map(|n| n.parse().ok()).collect::<Option<_>>()?;
        Some(match (name, numbers.as_slice()) {
            ("push", [a @ 0..2, b @ 0..7]) => Self::Push(*a, *b),
            ("chunks", [a @ 0..2, b @ 0..7]) => Self::Chunks(*a, *b),
            ("half", [a @ 0..2, b @ 0..7]) => Self::Half(*a, *b),
            ("mount", [a @ 0..7]) => Self::Mount(*a),
            ("put", [a @ 0..2, b @ 0..6, c @ 0..2]) => Self::Put(*a, *b, *c),
            ("untag", [a @ 0..2, b @ 0..2]) => Self::Untag(*a, *b),
            ("delete", [a @ 0..2, b @ 0..6]) => Self::Delete(*a, *b),
            ("unlink", [a @ 0..2, b @ 0..7]) => Self::Unlink(*a, *b),
            ("append", []) => Self::Append,
            ("finish", []) => Self::Finish,
            ("spill", []) => Self::Spill,
            ("beat", []) => Self::Beat,
            ("collect", []) => Self::Collect,
            ("restart", []) => Self::Restart,
            ("plant", [a @ 0..7]) => Self::Plant(*a),
            ("rot", []) => Self::Rot,
            ("scrub", []) => Self::Scrub,
            _ => return None,
        })
    }
}
