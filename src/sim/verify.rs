//! Whether a disk after a power cut keeps what was promised: the real registry opens it.
//!
//! I1 the content of every row that is served is there, whole and right, in its file or inline;
//! I2 everything that a committed manifest refers to can be read;
//! I3 what was acknowledged is there byte for byte, deleted stays deleted, and a call that was
//!    not answered took place as a whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;

use super::call::{Call, World};
use super::engine::{Engine, RECOVERY_SEED};
use super::executor::block_on;
use super::model::{Key, Outcome, Value};
use super::run::{Base, Run, hash_of};
use super::universe::{ROTTED, UPLOADED};
use crate::blob::Layout;
use crate::disk::sim::{Disk, Recording, SimVfs, Variant};
use crate::disk::{Open, Vfs};
use crate::meta::{BlobState, MetaStore, Place};
use crate::oci::{Digest, Reference, UploadId};
use crate::registry::{Content, Error};

/// What a recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// Committed transactions.
    pub transactions: u64,
    /// A hash of all facts.
    pub dump: u64,
    /// What clients see.
    pub values: Rc<BTreeMap<Key, Value>>,
    /// Whether the upload has no file any more: a power cut while it is finished may leave its row.
    pub upload_gone: bool,
    /// Whether the file of the blob that may rot has its rot, and its row vouches for it.
    pub rotten: bool,
    /// The uploads that some call began of which that is so.
    pub begun_gone: Vec<UploadId>,
    /// Breaches that need no knowledge of the run.
    pub violations: Vec<String>,
    /// What the recovery did to the disk.
    pub recording: Recording,
}

impl Recovered {
    /// D-6: no recovery finds less than one before it.
    pub fn older_than(&self, first: &Self) -> Option<String> {
        let is_older = self.transactions < first.transactions;
        is_older.then(|| "D-6: the second recovery found an older state".to_owned())
    }
}

/// Facts that were looked at already, by their dump: equal facts are checked once.
#[derive(Debug, Default)]
pub struct Known(HashMap<u64, Facts>);

/// What clients see, and what is wrong with the facts among themselves.
type Facts = (Rc<BTreeMap<Key, Value>>, Vec<String>);

impl Known {
    fn of(&mut self, dump: u64, engine: &Engine, world: &World<'_>) -> Result<Facts, String> {
        if let Some(facts) = self.0.get(&dump) {
            return Ok(facts.clone());
        }
        let findings = engine.store.meta.check().map_err(|error| error.to_string())?;
        let mut violations: Vec<String> = findings.into_iter().map(|found| found.0).collect();
        let values = values(engine, world)?;
        check_edges(world, &values, &mut violations);
        let facts = (Rc::new(values), violations);
        self.0.insert(dump, facts.clone());
        Ok(facts)
    }
}

/// Opens the registry on this disk and looks at everything.
pub fn recover(base: &Base, disk: Disk, known: &mut Known) -> Result<(Engine, Recovered), String> {
    let vfs = SimVfs::new(disk);
    let engine = Engine::open(&vfs, RECOVERY_SEED)
        .map_err(|error| format!("the store is refused: {error}"))?;
    let recording = vfs.recording();
    let transactions = engine.transactions().ok_or("the counters cannot be read")?;
    let dump = hash_of(&engine.dump()?);
    let world = base.world();
    let (values, violations) = known.of(dump, &engine, &world)?;
    let begun_gone = block_on(begun_and_gone(&engine, &world))?;
    let mut recovered = Recovered {
        transactions,
        dump,
        values,
        upload_gone: false,
        rotten: false,
        begun_gone,
        violations,
        recording,
    };
    block_on(check_contents(&engine, &world, &mut recovered));
    if let Some(Value::Offset(offset)) = recovered.values.get(&Key::Upload) {
        match check_staged(&vfs, &world, *offset as usize) {
            Ok(there) => recovered.upload_gone = !there,
            Err(why) => recovered.violations.push(format!("I3: the upload: {why}")),
        }
    }
    Ok((engine, recovered))
}

/// I1: the content of each row.
async fn check_contents(engine: &Engine, world: &World<'_>, recovered: &mut Recovered) {
    let rotted = &world.universe.blobs[ROTTED].digest;
    for (digest, bytes) in world.universe.contents() {
        let rot = (digest == rotted).then(|| world.universe.rotten());
        match check_content(engine, digest, bytes, rot.as_deref()).await {
            Ok(rotten) => recovered.rotten |= rotten,
            Err(violation) => {
                recovered.violations.push(format!("I1: {digest}: {violation}"));
            }
        }
    }
}

/// Whether a content is there as its row says, or at least as it may have become by rot: `true`.
async fn check_content(
    engine: &Engine,
    digest: &Digest,
    bytes: &Bytes,
    rot: Option<&[u8]>,
) -> Result<bool, String> {
    let (meta, blobs) = (&engine.store.meta, &engine.store.blobs);
    let text = |error: crate::meta::Error| error.to_string();
    let Some(row) = meta.stored(digest).await.map_err(text)? else { return Ok(false) };
    if row.state == BlobState::Unlinking {
        return Ok(false);
    }
    if row.state == BlobState::Quarantined && rot.is_some() {
        return Ok(false);
    }
    if row.place != Place::File {
        let inline = meta.small_content(digest).await.map_err(text)?;
        if inline.as_ref() != Some(bytes) {
            return Err("its inline copy is wrong".to_owned());
        }
    }
    if row.place == Place::Inline {
        return Ok(false);
    }
    let file = blobs.open(digest).await.map_err(|error| error.to_string())?;
    let file = file.ok_or("its file is missing")?;
    if file.size_bytes != bytes.len() as u64 {
        return Err(format!("its file has {} of {} bytes", file.size_bytes, bytes.len()));
    }
    let read = file.reader.read(0, bytes.len()).await.map_err(|error| error.to_string())?;
    match rot {
        _ if read == *bytes => Ok(false),
        Some(rot) if read == rot => Ok(true),
        _ => Err("its file has wrong bytes".to_owned()),
    }
}

/// The uploads that some call began whose rows say that they have more bytes than there are.
async fn begun_and_gone(engine: &Engine, world: &World<'_>) -> Result<Vec<UploadId>, String> {
    let mut gone = Vec::new();
    let rows = engine.store.meta.uploads(u64::MAX, None, UPLOADS_MAX).await;
    let rows = rows.map_err(|error| error.to_string())?;
    for row in rows.into_iter().filter(|row| row.id != world.upload) {
        let path = Layout::new(Path::new(super::engine::ROOT)).upload_data(row.id);
        let found = engine.vfs.metadata(&path).map_err(|error| error.to_string())?;
        if found.is_none_or(|found| found.size_bytes < row.offset) {
            gone.push(row.id);
        }
    }
    Ok(gone)
}

/// More than a case begins.
const UPLOADS_MAX: usize = 1000;

/// Bytes of an upload that its row says are durable; `false`: there is no file.
fn check_staged(vfs: &SimVfs, world: &World<'_>, offset: usize) -> Result<bool, String> {
    let path = Layout::new(Path::new(super::engine::ROOT)).upload_data(world.upload);
    let mut bytes = vec![0; offset];
    let file = match vfs.open(&path, Open::Read) {
        Err(error) if error.is_not_found() => return Ok(false),
        opened => opened.map_err(|error| error.to_string())?,
    };
    file.read_exact_at(&mut bytes, 0).map_err(|error| error.to_string())?;
    let right = bytes == world.universe.blobs[UPLOADED].bytes[..offset];
    if right { Ok(true) } else { Err(format!("its first {offset} bytes are wrong")) }
}

/// I2: what is stored of the blobs that manifests refer to.
fn check_edges(world: &World<'_>, values: &BTreeMap<Key, Value>, violations: &mut Vec<String>) {
    for (key, value) in values {
        let (Key::Manifest(repository, number), Value::Present) = (*key, *value) else { continue };
        let manifest = &world.universe.manifests[number];
        for needed in manifest.blobs.iter().map(|blob| Key::Blob(repository, *blob)) {
            if values.get(&needed) != Some(&Value::Present) {
                violations.push(format!("I2: {key:?} needs {needed:?}, which is not there"));
            }
        }
    }
}

/// I2: the manifests that an index refers to are there, unless somebody deleted them.
fn judge_children(base: &Base, run: &Run, cut: usize, found: &Recovered) -> Vec<String> {
    let mut violations = Vec::new();
    for (key, value) in found.values.iter() {
        let (Key::Manifest(repository, number), Value::Present) = (*key, *value) else { continue };
        for child in &base.universe.manifests[number].children {
            let needed = Key::Manifest(repository, *child);
            let is_there = found.values.get(&needed) == Some(&Value::Present);
            if !is_there && !run.history.deletes(repository, *child, cut) {
                violations.push(format!("I2: {key:?} needs {needed:?}, which is not there"));
            }
        }
    }
    violations
}

/// What clients see; an error when they see something wrong, or cannot read.
pub fn values(engine: &Engine, world: &World<'_>) -> Result<BTreeMap<Key, Value>, String> {
    block_on(async {
        let mut values = BTreeMap::new();
        for repository in 0..world.universe.repositories.len() {
            for number in 0..world.universe.blobs.len() {
                let value = blob(engine, world, repository, number).await?;
                values.insert(Key::Blob(repository, number), value);
            }
            for number in 0..world.universe.manifests.len() {
                let reference = Reference::Digest(world.universe.manifests[number].digest);
                let value = match manifest(engine, world, repository, &reference).await? {
                    Value::Of(found) if found == number => Value::Present,
                    Value::Absent => Value::Absent,
                    other => return Err(format!("I1: manifest {number} is {other:?}")),
                };
                values.insert(Key::Manifest(repository, number), value);
            }
            for tag in 0..world.universe.tags.len() {
                let reference = Reference::Tag(world.universe.tags[tag].clone());
                let value = manifest(engine, world, repository, &reference).await?;
                values.insert(Key::Tag(repository, tag), value);
            }
        }
        let offset = offset(engine, world).await;
        values.insert(Key::Upload, offset.map_or(Value::Absent, Value::Offset));
        Ok(values)
    })
}

async fn blob(
    engine: &Engine,
    world: &World<'_>,
    repository: usize,
    number: usize,
) -> Result<Value, String> {
    let blob = &world.universe.blobs[number];
    let repository = &world.universe.repositories[repository];
    let bytes = match engine.registry.blob(repository, &blob.digest).await {
        Err(Error::BlobUnknown) => return Ok(Value::Absent),
        Err(error) => return Err(format!("I1: blob {number}: {error}")),
        Ok((_, Content::Inline(bytes))) => bytes,
        Ok((size_bytes, Content::File(file))) => {
            let read = file.reader.read(0, size_bytes as usize).await;
            read.map_err(|error| format!("I1: blob {number}: {error}"))?
        }
    };
    // What is rotten is judged by the content.
    let is_rotten = number == ROTTED && bytes == world.universe.rotten();
    if bytes == blob.bytes || is_rotten {
        Ok(Value::Present)
    } else {
        Err(format!("I1: blob {number} is wrong"))
    }
}

async fn manifest(
    engine: &Engine,
    world: &World<'_>,
    repository: usize,
    reference: &Reference,
) -> Result<Value, String> {
    let repository = &world.universe.repositories[repository];
    match engine.registry.manifest(repository, reference).await {
        Err(Error::ManifestUnknown | Error::RepositoryUnknown) => Ok(Value::Absent),
        Err(error) => Err(format!("I1: manifest {reference}: {error}")),
        Ok(found) => {
            let known = &world.universe.manifests;
            let number = known.iter().position(|manifest| {
                manifest.digest == found.digest && manifest.bytes == found.bytes
            });
            number.map(Value::Of).ok_or_else(|| format!("I1: {reference} has wrong bytes"))
        }
    }
}

/// Where the upload of the base state stands.
pub async fn offset(engine: &Engine, world: &World<'_>) -> Option<u64> {
    let repository = &world.universe.repositories[0];
    let status = engine.registry.upload_status(repository, world.upload).await;
    status.ok().map(|status| status.offset)
}

/// I3: whether what was found may be there after a power cut at `cut`.
pub fn judge(base: &Base, run: &Run, cut: usize, found: &Recovered) -> Vec<String> {
    let mut violations = found.violations.clone();
    if cut < run.first_cut {
        // Nobody was served yet.
        let there = found.values.iter().find(|(_, value)| **value != Value::Absent);
        violations.extend(there.map(|there| format!("I3: {there:?} before the first start")));
        return violations;
    }
    let published = || run.has_published(base.world().upload, cut);
    if found.upload_gone && !published() {
        violations.push("I3: the upload has a row and no bytes".to_owned());
    }
    for upload in found.begun_gone.iter().filter(|upload| !run.has_published(**upload, cut)) {
        violations.push(format!("I3: upload {upload}, which a call began, has a row and no bytes"));
    }
    if found.rotten && !run.history.may_be_rotten(cut) {
        violations.push("I1: a rotten blob is served after a scrub".to_owned());
    }
    violations.extend(judge_children(base, run, cut, found));
    for (key, value) in found.values.iter() {
        let first = base.values[key];
        let universe = &base.universe;
        violations.extend(run.history.contradicts(universe, cut, *key, *value, first, &published));
    }
    if run.fault.is_none() {
        judge_transactions(run, cut, found, &mut violations);
    }
    violations
}

/// Without faults, what is seen is durable, and each number stands for one state.
fn judge_transactions(run: &Run, cut: usize, found: &Recovered, violations: &mut Vec<String>) {
    let least = run.commits.iter().rev().find(|commit| commit.end <= cut);
    let most = run.commits.iter().rev().find(|commit| commit.begin < cut);
    let number = found.transactions;
    if least.is_some_and(|least| number < least.number) {
        violations.push(format!("I3: {least:?} is lost, found is {number}"));
    }
    if most.is_none_or(|most| number > most.number) {
        violations.push(format!("I3: found is transaction {number}, the newest is {most:?}"));
    }
    let commit = run.commits.iter().find(|commit| commit.number == number);
    if commit.and_then(|commit| commit.dump).is_some_and(|dump| dump != found.dump) {
        violations.push(format!("I3: the facts are not those after transaction {number}"));
    }
}

/// Whether the registry goes on working after a recovery: the upload ends, contents are pushed
/// again over whatever a crash left, and all of it survives the next power cut.
///
/// An upload whose last request was cut off, or refused, may be gone: its client begins again.
pub fn exercise(
    base: &Base,
    engine: &Engine,
    finish_begun: bool,
    known: &mut Known,
) -> Result<(), String> {
    let world = base.world();
    let begun = block_on(offset(engine, &world)).is_some();
    let mut calls: Vec<Call> = begun.then_some(Call::Finish).into_iter().collect();
    calls.extend([Call::Push(0, 0), Call::Push(0, UPLOADED), Call::Chunks(0, 3), Call::Push(1, 2)]);
    calls.extend([Call::Push(0, 1), Call::Put(0, 2, 1), Call::Put(0, 3, 0), Call::Spill]);
    for call in calls {
        let (outcome, answer) = block_on(call.make(engine, &world));
        let gone = call == Call::Finish && finish_begun && outcome == Outcome::Refused;
        if outcome != Outcome::Done && !gone {
            return Err(format!("after the recovery {call} is answered: {answer}"));
        }
    }
    let needed = [
        (Key::Blob(0, 3), Value::Present),
        (Key::Blob(0, UPLOADED), Value::Present),
        (Key::Blob(1, 2), Value::Present),
        (Key::Tag(0, 1), Value::Of(2)),
        (Key::Tag(0, 0), Value::Of(3)),
    ];
    survives(base, engine, &needed, known).map(|_| ())
}

/// Whether these facts are there after the next power cut.
fn survives(
    base: &Base,
    engine: &Engine,
    needed: &[(Key, Value)],
    known: &mut Known,
) -> Result<Recovered, String> {
    let image = engine.vfs.disk().crash(Variant::Nothing, 0);
    let (_, again) = recover(base, image.disk, known)?;
    let lost = needed.iter().find(|(key, value)| again.values.get(key) != Some(value));
    match (lost, again.violations.first()) {
        (Some(lost), _) => Err(format!("I3: pushed after the recovery and lost: {lost:?}")),
        (_, Some(violation)) => {
            Err(format!("after a push that followed the recovery: {violation}"))
        }
        _ => Ok(again),
    }
}

/// Whether a scrub and the next push heal what is rotten.
pub fn heal(base: &Base, engine: &Engine, known: &mut Known) -> Result<(), String> {
    for call in [Call::Scrub, Call::Push(0, ROTTED)] {
        let (outcome, answer) = block_on(call.make(engine, &base.world()));
        if outcome != Outcome::Done {
            return Err(format!("where a blob has rotted {call} is answered: {answer}"));
        }
    }
    let again = survives(base, engine, &[(Key::Blob(0, ROTTED), Value::Present)], known)?;
    if again.rotten {
        Err("I1: the push of a rotten blob did not heal it".to_owned())
    } else {
        Ok(())
    }
}
