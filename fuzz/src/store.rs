//! A whole store on a simulated disk, opened as the server opens it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kelson::blob::{BlobStore, FsBlobs};
use kelson::disk::sim::SimVfs;
use kelson::disk::{Open, Vfs, VfsFile};
use kelson::meta::redb::{Options as DatabaseOptions, RedbMeta};
use kelson::meta::{Expect, MetaStore};
use kelson::oci::media_type::OCI_MANIFEST;
use kelson::oci::{Algorithm, Digest, MediaType, Reference, RepositoryName, Tag};
use kelson::ops::{Blocking, Clock, Random};
use kelson::registry::identity::{self, Identity, Paths};
use kelson::registry::{self, Body, Chunk, Content, PutManifest, Registry};

use crate::VirtualClock;

/// `storage.filesystem.rootdirectory`
pub const ROOT: &str = "/store";
/// Contents above this have files from the start.
pub const SMALL_SIZE_BYTES_MAX: u64 = 64;

/// An open store.
#[derive(Debug)]
pub struct Store {
    /// The domain.
    pub registry: Registry,
    /// The database.
    pub meta: Arc<RedbMeta>,
    /// The bytes.
    pub blobs: Arc<FsBlobs>,
    /// Its lock and `store.json`.
    pub identity: Identity,
}

/// The options of every registry here.
pub fn options() -> registry::Options {
    let small_content_size_bytes_max = SMALL_SIZE_BYTES_MAX;
    registry::Options { small_content_size_bytes_max, ..registry::Options::default() }
}

/// The paths of the store.
pub fn paths() -> Paths {
    Paths::new(Path::new(ROOT))
}

impl Store {
    /// Opens the store, or makes it.
    ///
    /// # Errors
    /// What the operator would be told.
    pub async fn open(vfs: &SimVfs, random: Arc<dyn Random>) -> Result<Self, String> {
        let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let claim = identity::claim(Arc::clone(&vfs), paths()).map_err(|e| e.to_string())?;
        let create = claim.is_new();
        let database = DatabaseOptions { create, cache_size_bytes: 1 << 20, ..Default::default() };
        let path = paths().database;
        let meta = RedbMeta::open(Arc::clone(&vfs), &path, database, Blocking::Inline);
        let meta = Arc::new(meta.map_err(|e| e.to_string())?);
        let identity = claim.confirm(meta.as_ref(), random.as_ref(), Blocking::Inline).await;
        let identity = identity.map_err(|e| e.to_string())?;
        let random_of_blobs = Arc::clone(&random);
        let blobs = FsBlobs::open(vfs, Path::new(ROOT), Blocking::Inline, random_of_blobs);
        let blobs = Arc::new(blobs.map_err(|e| e.to_string())?);
        let (facts, bytes) = (Arc::clone(&meta), Arc::clone(&blobs));
        let registry = open_registry(facts, bytes, random).await?;
        Ok(Self { registry, meta, blobs, identity })
    }

    /// Closes it as a clean stop does.
    ///
    /// # Errors
    /// What the operator would be told.
    pub async fn close(self) -> Result<(), String> {
        self.registry.spill_once().await.map_err(|e| e.to_string())?;
        let counters = self.meta.counters().await.map_err(|e| e.to_string())?;
        let recorded = self.identity.record_transactions(counters.transactions).await;
        recorded.map_err(|e| e.to_string())?;
        self.meta.close().await.map_err(|e| e.to_string())
    }
}

/// A registry on these stores with the options and the clock of all of them.
///
/// # Errors
/// What the operator would be told.
pub async fn open_registry(
    meta: Arc<dyn MetaStore>,
    blobs: Arc<dyn BlobStore>,
    random: Arc<dyn Random>,
) -> Result<Registry, String> {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::start());
    let registry = Registry::open(meta, blobs, clock, random, options()).await;
    registry.map_err(|e| e.to_string())
}

/// A valid name.
pub fn name(text: &str) -> RepositoryName {
    RepositoryName::parse(text).expect("a name")
}

/// A reference by tag.
pub fn tag(text: &str) -> Reference {
    Reference::Tag(Tag::parse(text).expect("a tag"))
}

/// The sha256 of a content.
pub fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

/// Content `n` of this small world: those with an odd number are too long for the database.
pub fn content(n: u8) -> Bytes {
    let size = if n % 2 == 1 { SMALL_SIZE_BYTES_MAX as usize + 1 } else { 5 };
    vec![n; size].into()
}

/// A body of one piece.
pub fn chunk(bytes: Bytes) -> Chunk {
    let body: Body = Box::pin(futures_util::stream::iter([Ok(bytes)]));
    Chunk { range: None, length: None, body }
}

/// The image of config `config` and layer `layer`; `subject` is what it is attached to.
pub fn image(config: u8, layer: u8, subject: Option<&Digest>) -> Bytes {
    let descriptor = |n: u8| {
        let (bytes, media_type) = (content(n), "c/d");
        let (digest, size) = (digest(&bytes), bytes.len());
        format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{size}}}")
    };
    let (config, layer) = (descriptor(config), descriptor(layer));
    let subject = subject.map_or_else(String::new, |digest| {
        format!(
            ",\"subject\":{{\"mediaType\":\"{OCI_MANIFEST}\",\"digest\":\"{digest}\",\"size\":9}}"
        )
    });
    format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{layer}]{subject}}}").into()
}

/// A push of that document.
pub fn push(repository: &str, reference: Reference, bytes: Bytes) -> PutManifest {
    PutManifest {
        repository: name(repository),
        reference,
        tags: Vec::new(),
        media_type: MediaType::parse(OCI_MANIFEST).ok(),
        bytes,
        expect: Expect::Anything,
    }
}

/// The bytes of a blob, as a client would get them; what an error says otherwise.
///
/// # Errors
/// What the registry says.
pub async fn read(
    registry: &Registry,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Bytes, String> {
    let (size_bytes, content) =
        registry.blob(repository, digest).await.map_err(|e| e.to_string())?;
    let bytes = match content {
        Content::Inline(bytes) => bytes,
        Content::File(file) => {
            let read = file.reader.read(0, size_bytes as usize).await;
            read.map_err(|e| e.to_string())?
        }
    };
    assert_eq!(bytes.len() as u64, size_bytes);
    Ok(bytes)
}

/// Opens a file of the disk for the hand of an outsider.
pub fn outsider(vfs: &SimVfs, path: &Path) -> Option<(Arc<dyn VfsFile>, u64)> {
    let file = vfs.open(path, Open::ReadWrite).ok()?;
    let size_bytes = file.size_bytes().ok()?;
    Some((file, size_bytes))
}

/// All files and directories below `path`, in order.
pub fn walk(vfs: &SimVfs, path: &Path, found: &mut Vec<PathBuf>) {
    for entry in vfs.list(path).unwrap_or_default() {
        let path = path.join(entry);
        found.push(path.clone());
        if vfs.metadata(&path).is_ok_and(|found| found.is_some_and(|found| found.is_dir)) {
            walk(vfs, &path, found);
        }
    }
}
