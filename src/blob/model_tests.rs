//! Random operations on files and on the model, side by side.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::conformance::blob;
use super::{BlobStore, FsBlobs, Hasher, Layout, MemoryBlobs, Result, Staging};
use crate::disk::OsVfs;
use crate::disk::probe::ProbeVfs;
use crate::oci::{Algorithm, Digest, UploadId};
use crate::ops::Blocking;
use crate::ops::random::OsRandom;

/// Contents that are pushed: few, so that operations meet.
const CONTENTS: [&str; 4] = ["", "a", "ab", "ba"];
const UPLOADS: u8 = 3;

/// One step. `upload` names an id, `handle` one of the handles that are open.
#[derive(Debug, Clone)]
enum Step {
    Stage { upload: u8, algorithm: Algorithm },
    Resume { upload: u8, offset: u64, algorithm: Algorithm },
    Discard { upload: u8 },
    Append { handle: usize, chunks: Vec<&'static str> },
    Sync { handle: usize },
    Digest { handle: usize, algorithm: Algorithm },
    Contents { handle: usize },
    DropHandle { handle: usize },
    Publish { handle: usize, content: usize, live: bool },
    Spill { contents: Vec<usize> },
    Remove { content: usize },
    Quarantine { content: usize },
    Plant { content: usize, bytes: &'static str },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let upload = || 0..UPLOADS;
    let handle = || 0..4_usize;
    let content = || 0..CONTENTS.len();
    let algorithm = || prop::sample::select(Algorithm::ALL.to_vec());
    let part = || prop::sample::select(vec!["", "a", "b", "ab"]);
    prop_oneof![
        4 => (upload(), algorithm())
            .prop_map(|(upload, algorithm)| Step::Stage { upload, algorithm }),
        2 => (upload(), 0..4_u64, algorithm())
            .prop_map(|(upload, offset, algorithm)| Step::Resume { upload, offset, algorithm }),
        1 => upload().prop_map(|upload| Step::Discard { upload }),
        6 => (handle(), vec(part(), 0..3))
            .prop_map(|(handle, chunks)| Step::Append { handle, chunks }),
        1 => handle().prop_map(|handle| Step::Sync { handle }),
        1 => (handle(), algorithm())
            .prop_map(|(handle, algorithm)| Step::Digest { handle, algorithm }),
        1 => handle().prop_map(|handle| Step::Contents { handle }),
        1 => handle().prop_map(|handle| Step::DropHandle { handle }),
        6 => (handle(), content(), any::<bool>())
            .prop_map(|(handle, content, live)| Step::Publish { handle, content, live }),
        2 => vec(content(), 0..5).prop_map(|contents| Step::Spill { contents }),
        2 => content().prop_map(|content| Step::Remove { content }),
        1 => content().prop_map(|content| Step::Quarantine { content }),
        2 => (content(), part()).prop_map(|(content, bytes)| Step::Plant { content, bytes }),
        1 => Just(Step::Restart),
    ]
}

fn id(upload: u8) -> UploadId {
    UploadId::from_random([upload; 16])
}

fn digest(content: usize) -> Digest {
    Hasher::digest_of(Algorithm::Sha256, CONTENTS[content].as_bytes())
}

/// A store with its open handles, and what differs between the two kinds.
struct Side {
    store: Arc<dyn BlobStore>,
    handles: Vec<Box<dyn Staging>>,
    kind: Kind,
}

enum Kind {
    Files(tempfile::TempDir, ProbeVfs),
    Memory(MemoryBlobs),
}

fn open(root: &tempfile::TempDir, probe: &ProbeVfs) -> Arc<dyn BlobStore> {
    let (vfs, random) = (Arc::new(probe.clone()), Arc::new(OsRandom));
    Arc::new(FsBlobs::open(vfs, root.path(), Blocking::Inline, random).unwrap())
}

impl Side {
    fn files() -> Self {
        let root = tempfile::tempdir().unwrap();
        let probe = ProbeVfs::new(Arc::new(OsVfs), root.path());
        Self { store: open(&root, &probe), handles: vec![], kind: Kind::Files(root, probe) }
    }

    fn memory() -> Self {
        let store = MemoryBlobs::default();
        Self { store: Arc::new(store.clone()), handles: vec![], kind: Kind::Memory(store) }
    }

    fn restart(&mut self) {
        self.handles.clear();
        match &mut self.kind {
            Kind::Files(root, probe) => self.store = open(root, probe),
            Kind::Memory(memory) => {
                *memory = memory.restart();
                self.store = Arc::new(memory.clone());
            }
        }
    }

    fn plant(&self, digest: &Digest, bytes: &str) {
        match &self.kind {
            Kind::Files(root, _) => {
                let layout = Layout::new(root.path());
                fs::create_dir_all(layout.blob(digest)).unwrap();
                fs::write(layout.blob_data(digest), bytes).unwrap();
            }
            Kind::Memory(memory) => memory.plant(digest, Bytes::copy_from_slice(bytes.as_bytes())),
        }
    }

    /// What the step answered, as far as it is to be the same on both sides.
    async fn take(&mut self, step: &Step) -> String {
        let shown = match step {
            Step::Stage { upload, algorithm } => {
                let staged = self.store.stage(id(*upload), *algorithm).await;
                staged.map(|handle| self.add(Some(handle)))
            }
            Step::Resume { upload, offset, algorithm } => {
                let resumed = self.store.resume(id(*upload), *offset, *algorithm).await;
                resumed.map(|handle| self.add(handle))
            }
            Step::Discard { upload } => self.store.discard(id(*upload)).await.map(show),
            Step::Spill { contents } => self.spill(contents).await,
            Step::Remove { content } => self.store.remove(&digest(*content)).await.map(show),
            Step::Quarantine { content } => {
                self.store.quarantine(&digest(*content)).await.map(show)
            }
            Step::Plant { content, bytes } => {
                self.plant(&digest(*content), bytes);
                Ok(show("planted"))
            }
            Step::Restart => {
                self.restart();
                Ok(show("restarted"))
            }
            Step::Append { handle, .. }
            | Step::Sync { handle }
            | Step::Digest { handle, .. }
            | Step::Contents { handle }
            | Step::DropHandle { handle }
            | Step::Publish { handle, .. } => self.take_with_handle(*handle, step).await,
        };
        let shown = shown.unwrap_or_else(|_| "an error".to_owned());
        format!("{shown} {}", self.state().await)
    }

    async fn take_with_handle(&mut self, handle: usize, step: &Step) -> Result<String> {
        let Some(staging) = self.handles.get_mut(handle) else { return Ok(show("no handle")) };
        match step {
            Step::Append { chunks, .. } => {
                let chunks = chunks.iter().map(|chunk| Bytes::from(*chunk)).collect();
                staging.append(chunks).await?;
                Ok(show(staging.offset()))
            }
            Step::Sync { .. } => staging.sync().await.map(show),
            Step::Digest { algorithm, .. } => staging.digest(*algorithm).await.map(show),
            Step::Contents { .. } => staging.contents().await.map(show),
            Step::Publish { content, live, .. } => {
                let staging = self.handles.remove(handle);
                let size_bytes = CONTENTS[*content].len() as u64;
                let digest = digest(*content);
                let published = self.store.publish(staging, &digest, size_bytes, *live).await?;
                self.store.sync_directories(published).await.map(show)
            }
            _ => Ok(show(self.handles.remove(handle).id())),
        }
    }

    fn add(&mut self, handle: Option<Box<dyn Staging>>) -> String {
        let shown = show(handle.as_ref().map(|handle| (handle.id(), handle.offset())));
        self.handles.extend(handle);
        shown
    }

    async fn spill(&self, contents: &[usize]) -> Result<String> {
        let content = |content: &usize| (digest(*content), Bytes::from(CONTENTS[*content]));
        let mut spilled = self.store.spill(contents.iter().map(content).collect()).await?;
        spilled.durable.sort();
        Ok(show((spilled.durable, spilled.failed.len())))
    }

    /// Everything that can be seen of the store.
    async fn state(&self) -> String {
        if let Kind::Files(_, probe) = &self.kind {
            assert_eq!(probe.violations(), Vec::<String>::new());
        }
        let mut seen = Vec::new();
        for content in 0..CONTENTS.len() {
            seen.push(blob(&*self.store, &digest(content)).await.unwrap());
        }
        let mut staged = self.store.staged().await.unwrap();
        staged.sort();
        show((seen, staged))
    }
}

fn show(value: impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn files_do_what_the_model_does(steps in vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut files, mut memory) = (Side::files(), Side::memory());
            for step in &steps {
                let (found, expected) = (files.take(step).await, memory.take(step).await);
                prop_assert_eq!(found, expected, "{:?}", step);
            }
            Ok(())
        })?;
    }
}
