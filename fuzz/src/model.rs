//! Requests of a small world, and what a registry answers to them: the same code drives the real
//! stores and their models.

use arbitrary::{Arbitrary, Result, Unstructured};
use kelson::oci::{Algorithm, Digest, Reference, UploadId};
use kelson::registry::{Error, Registry};

use crate::store::{chunk, content, digest, image, name, push, read, tag};

const REPOSITORIES: [&str; 2] = ["a", "b/c"];
const TAGS: [&str; 2] = ["latest", "v1"];
/// Contents of this world.
const CONTENTS: u8 = 4;
/// Uploads that one run can have under way.
const SLOTS: usize = 3;

/// One request, or work in the background.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// A blob in one request.
    Push { repository: &'static str, n: u8 },
    /// An image.
    Put { repository: &'static str, tag: &'static str, image: Image },
    /// Of a tag.
    DeleteTag { repository: &'static str, tag: &'static str },
    /// Of a manifest with its tags.
    DeleteManifest { repository: &'static str, image: Image },
    /// Of a blob.
    DeleteBlob { repository: &'static str, n: u8 },
    /// Of a blob from one repository into the other.
    Mount { from: &'static str, to: &'static str, n: u8 },
    /// Of an upload.
    Begin { slot: usize, repository: &'static str },
    /// Of so many bytes of content `n`.
    Append { slot: usize, n: u8, size: u8 },
    /// With the rest of content `n`.
    Finish { slot: usize, n: u8 },
    /// Of an upload.
    Cancel { slot: usize },
    /// Small contents get files.
    Spill,
}

/// The documents of this world.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    config: u8,
    layer: u8,
    attached: bool,
}

impl Image {
    fn document(self) -> bytes::Bytes {
        let subject = digest(&image(0, 1, None));
        image(self.config, self.layer, self.attached.then_some(&subject))
    }
}

impl<'a> Arbitrary<'a> for Image {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let number = input.int_in_range(0..=7_u8)?;
        Ok(Self { config: number & 2, layer: number & 1, attached: number & 4 != 0 })
    }
}

impl<'a> Arbitrary<'a> for Op {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let kind = input.int_in_range(0..=10_u8)?;
        let repository = *input.choose(&REPOSITORIES)?;
        let n = input.int_in_range(0..=CONTENTS - 1)?;
        let slot = usize::from(n) % SLOTS;
        Ok(match kind {
            0 => Self::Push { repository, n },
            1 => Self::Put { repository, tag: input.choose(&TAGS)?, image: input.arbitrary()? },
            2 => Self::DeleteTag { repository, tag: input.choose(&TAGS)? },
            3 => Self::DeleteManifest { repository, image: input.arbitrary()? },
            4 => Self::DeleteBlob { repository, n },
            5 => Self::Mount { from: repository, to: input.choose(&REPOSITORIES)?, n },
            6 => Self::Begin { slot, repository },
            7 => {
                let size = input.int_in_range(0..=9)?;
                Self::Append { slot, n: input.int_in_range(0..=CONTENTS - 1)?, size }
            }
            8 => Self::Finish { slot, n: input.int_in_range(0..=CONTENTS - 1)? },
            9 => Self::Cancel { slot },
            _ => Self::Spill,
        })
    }
}

/// The stores failed: whether anything was done is not known.
#[derive(Debug)]
pub struct Failed(pub String);

/// What was answered, in words; they do not depend on ids.
pub type Answer = std::result::Result<String, Failed>;

/// A registry and the uploads that were begun on it.
#[derive(Debug)]
pub struct Client {
    /// Replaced when the process is.
    pub registry: Registry,
    uploads: [Option<(&'static str, UploadId)>; SLOTS],
}

impl Client {
    /// No uploads yet.
    pub fn new(registry: Registry) -> Self {
        Self { registry, uploads: [None; SLOTS] }
    }

    /// What was begun in this slot is no longer asked for.
    pub fn forget(&mut self, op: Op) {
        if let Op::Finish { slot, .. } | Op::Begin { slot, .. } = op {
            self.uploads[slot] = None;
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// The stores failed, not the request.
    pub async fn apply(&mut self, op: Op) -> Answer {
        let registry = &self.registry;
        match op {
            Op::Push { repository, n } => {
                let (repository, bytes) = (name(repository), content(n));
                told(registry.push_blob(&repository, &digest(&bytes), chunk(bytes)).await)
            }
            Op::Put { repository, tag: text, image } => {
                let put = push(repository, tag(text), image.document());
                told(registry.put_manifest(put).await)
            }
            Op::DeleteTag { repository, tag: text } => {
                told(registry.delete_manifest(&name(repository), &tag(text)).await)
            }
            Op::DeleteManifest { repository, image } => {
                let reference = Reference::Digest(digest(&image.document()));
                told(registry.delete_manifest(&name(repository), &reference).await)
            }
            Op::DeleteBlob { repository, n } => {
                told(registry.delete_blob(&name(repository), &digest(&content(n))).await)
            }
            Op::Mount { from, to, n } => {
                let (from, digest) = (name(from), digest(&content(n)));
                told(registry.mount_blob(&name(to), &digest, Some(&from), &|_| true).await)
            }
            Op::Begin { slot, repository } => {
                let begun = registry.begin_upload(&name(repository), Algorithm::Sha256).await;
                let answer = told(begun.as_ref().map(|_| ()));
                self.uploads[slot] = begun.ok().map(|begun| (repository, begun.id));
                answer
            }
            Op::Append { slot, n, size } => {
                let Some((repository, id)) = self.uploads[slot] else { return Ok(String::new()) };
                let bytes = content(n);
                let part = bytes.slice(..usize::from(size).min(bytes.len()));
                let appended = registry.append_upload(&name(repository), id, chunk(part)).await;
                told(appended.map(|status| status.offset))
            }
            Op::Finish { slot, n } => {
                let Some((repository, id)) = self.uploads[slot] else { return Ok(String::new()) };
                let repository = name(repository);
                let offset = registry.upload_status(&repository, id).await.map(|it| it.offset);
                let bytes = content(n);
                let from = usize::try_from(offset.unwrap_or(0)).unwrap_or(0).min(bytes.len());
                let (wanted, rest) = (digest(&bytes), chunk(bytes.slice(from..)));
                told(registry.finish_upload(&repository, id, &wanted, rest).await)
            }
            Op::Cancel { slot } => {
                let Some((repository, id)) = self.uploads[slot] else { return Ok(String::new()) };
                told(registry.cancel_upload(&name(repository), id).await)
            }
            Op::Spill => told(registry.spill_once().await.map(|_| ())),
        }
    }

    /// Everything that can be asked, in words.
    pub async fn view(&self) -> Vec<String> {
        let registry = &self.registry;
        let mut seen = vec![format!("{:?}", registry.catalog(None, 9).await.ok())];
        for repository in REPOSITORIES.map(name) {
            seen.push(format!("{:?}", registry.tags(&repository, None, 9).await.ok()));
            for text in TAGS {
                let found = registry.manifest(&repository, &tag(text)).await;
                let found = found.map(|manifest| (manifest.digest, manifest.bytes));
                seen.push(format!("{repository}:{text} {:?}", found.ok()));
            }
            for n in 0..CONTENTS {
                let bytes = read(registry, &repository, &digest(&content(n))).await;
                assert!(bytes.as_ref().is_ok_and(|bytes| *bytes == content(n)) || bytes.is_err());
                seen.push(format!("{repository} {n} {bytes:?}"));
            }
            let subject: Digest = digest(&image(0, 1, None));
            let referrers = registry.referrers(&repository, &subject, &[], None).await;
            seen.push(format!("{:?}", referrers.ok()));
        }
        for (repository, id) in self.uploads.iter().flatten() {
            let status = registry.upload_status(&name(repository), *id).await;
            seen.push(format!("{:?}", status.map(|status| status.offset).ok()));
        }
        seen
    }
}

fn told<T: std::fmt::Debug, E: std::borrow::Borrow<Error>>(
    result: std::result::Result<T, E>,
) -> Answer {
    match result {
        Ok(value) => Ok(format!("{value:?}")),
        Err(error) => match error.borrow() {
            error @ (Error::Full | Error::Poisoned | Error::Storage(_)) => {
                Err(Failed(error.to_string()))
            }
            error => Ok(format!("refused: {error}")),
        },
    }
}
