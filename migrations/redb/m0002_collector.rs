//! The queues of the collector: `gc_queue` learns how long a content is, and holds a manifest
//! whose subject was deleted only while it has no tag and no index refers to it;
//! `untagged_manifests` gets every other manifest that nothing holds.

use redb::{
    ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use super::{Result, Step};

pub(super) const STEP: Step =
    Step { to: 2, name: "collector", what: "fill the queues of the collector", apply, check };

type Bytes = &'static [u8];
type Rows = TableDefinition<'static, Bytes, Bytes>;

const SCHEMA: TableDefinition<&str, Bytes> = TableDefinition::new("schema");
const TAGS_BY_MANIFEST: Rows = TableDefinition::new("tags_by_manifest-1");
const MANIFESTS: Rows = TableDefinition::new("manifests-1");
const EDGES: Rows = TableDefinition::new("edges-1");
const BLOBS: Rows = TableDefinition::new("blobs-1");
const OLD_QUEUE: Rows = TableDefinition::new("gc_queue-1");
const NEW_QUEUE: Rows = TableDefinition::new("gc_queue-2");
const UNTAGGED: Rows = TableDefinition::new("untagged_manifests-1");

/// In keys of `gc_queue`: a manifest whose subject was deleted.
const REFERRER: u8 = 1;
/// In keys of `edges`: a child of an index.
const CHILD: u8 = 2;
/// What stands in a queue for the first time waits a day from now.
const GRACE_SECONDS: u64 = 24 * 3600 + 1;

fn apply(transaction: &WriteTransaction) -> Result<u64> {
    let moved = move_queue(transaction)?;
    transaction.delete_table(OLD_QUEUE)?;
    let found = find_untagged(transaction)?;
    mark_untagged(transaction)?;
    Ok(moved + found)
}

/// Fills the new `gc_queue`; a referrer that is held stays out of it, and says so.
fn move_queue(transaction: &WriteTransaction) -> Result<u64> {
    let old = transaction.open_table(OLD_QUEUE)?;
    let mut new = transaction.open_table(NEW_QUEUE)?;
    let blobs = transaction.open_table(BLOBS)?;
    let mut manifests = transaction.open_table(MANIFESTS)?;
    let tags = transaction.open_table(TAGS_BY_MANIFEST)?;
    let edges = transaction.open_table(EDGES)?;
    let mut written = 0;
    for row in old.iter()? {
        let (key, _) = row?;
        let key = key.value();
        // Eligible uptime, repository, digest, kind.
        let (Some(of), Some(&kind)) = (key.get(8..key.len() - 1), key.last()) else {
            return Err(damaged("a key of gc_queue"));
        };
        if kind == REFERRER && is_named(&tags, &edges, of)? {
            let Some(row) = get(&manifests, of)? else { return Err(damaged("gc_queue")) };
            manifests.insert(of, Manifest::parse(&row)?.waiting(&row, None, true).as_slice())?;
        } else {
            let Some(content) = get(&blobs, &of[8..])? else { return Err(damaged("gc_queue")) };
            new.insert(key, queued(content.get(1..9)).as_slice())?;
        }
        written += 1;
    }
    Ok(written)
}

/// Fills `untagged_manifests`.
fn find_untagged(transaction: &WriteTransaction) -> Result<u64> {
    let uptime = match transaction.open_table(SCHEMA)?.get("uptime_seconds")? {
        Some(value) => number(value.value().get(1..9))?,
        None => 0,
    };
    let eligible = uptime.saturating_add(GRACE_SECONDS).to_be_bytes();
    let mut untagged = transaction.open_table(UNTAGGED)?;
    let manifests = transaction.open_table(MANIFESTS)?;
    let tags = transaction.open_table(TAGS_BY_MANIFEST)?;
    let edges = transaction.open_table(EDGES)?;
    let mut written = 0;
    for row in manifests.iter()? {
        let (key, value) = row?;
        let (of, value) = (key.value(), value.value());
        // Those that were written just now are held, those that wait are in `gc_queue`.
        if value.first() != Some(&1) {
            continue;
        }
        let manifest = Manifest::parse(value)?;
        if manifest.waits || is_named(&tags, &edges, of)? {
            continue;
        }
        if let Some(subject) = manifest.subject
            && manifests.get([&of[..8], subject].concat().as_slice())?.is_some()
        {
            continue;
        }
        let place = [&eligible[..], of].concat();
        untagged.insert(place.as_slice(), queued(Some(manifest.size_bytes)).as_slice())?;
        written += 1;
    }
    Ok(written)
}

/// Lets the rows of manifests say where they stand in `untagged_manifests`.
fn mark_untagged(transaction: &WriteTransaction) -> Result<()> {
    let mut manifests = transaction.open_table(MANIFESTS)?;
    for row in transaction.open_table(UNTAGGED)?.iter()? {
        let (key, _) = row?;
        let (at, of) = key.value().split_at(8);
        let Some(row) = get(&manifests, of)? else { return Err(damaged("manifests")) };
        let row = Manifest::parse(&row)?.waiting(&row, Some(at), false);
        manifests.insert(of, row.as_slice())?;
    }
    Ok(())
}

fn get(table: &impl ReadableTable<Bytes, Bytes>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

/// Whether a manifest, by repository and digest, has a tag or an index that refers to it.
fn is_named(
    tags: &impl ReadableTable<Bytes, Bytes>,
    edges: &impl ReadableTable<Bytes, Bytes>,
    of: &[u8],
) -> Result<bool> {
    let children = [of, &[CHILD]].concat();
    Ok(begins(tags, of)? || begins(edges, &children)?)
}

/// Whether any key begins with `prefix`.
fn begins(table: &impl ReadableTable<Bytes, Bytes>, prefix: &[u8]) -> Result<bool> {
    match table.range(prefix..)?.next().transpose()? {
        Some((key, _)) => Ok(key.value().starts_with(prefix)),
        None => Ok(false),
    }
}

/// A row of a queue.
fn queued(size_bytes: Option<&[u8]>) -> Vec<u8> {
    [&[1], size_bytes.unwrap_or(&[0; 8])].concat()
}

fn number(bytes: Option<&[u8]>) -> Result<u64> {
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| damaged("a number"))
}

fn damaged(what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("{what} cannot be understood"))
}

/// What counts of a row of `manifests` of version 1: media type, size, subject?, artifact type?,
/// config type?, time, eligible?.
struct Manifest<'a> {
    size_bytes: &'a [u8],
    subject: Option<&'a [u8]>,
    waits: bool,
    /// Bytes before `eligible`.
    length: usize,
}

impl<'a> Manifest<'a> {
    fn parse(row: &'a [u8]) -> Result<Self> {
        let mut rest = row;
        take(&mut rest, 1)?;
        text(&mut rest)?;
        let size_bytes = take(&mut rest, 8)?;
        let subject = match take(&mut rest, 1)? {
            [0] => None,
            _ => {
                // sha512 is the one with 64 bytes.
                let length = if rest.first() == Some(&1) { 65 } else { 33 };
                Some(take(&mut rest, length)?)
            }
        };
        for _ in ["artifact type", "config type"] {
            if take(&mut rest, 1)? != [0] {
                text(&mut rest)?;
            }
        }
        take(&mut rest, 8)?;
        let length = row.len() - rest.len();
        Ok(Self { size_bytes, subject, waits: take(&mut rest, 1)? != [0], length })
    }

    /// The row in version 2: where it stands in a queue, whether its subject was deleted, and
    /// whether it was chosen.
    fn waiting(&self, row: &[u8], at: Option<&[u8]>, orphaned: bool) -> Vec<u8> {
        let mut new = [&[2], &row[1..self.length]].concat();
        new.push(u8::from(at.is_some()));
        new.extend(at.unwrap_or_default());
        new.extend([u8::from(orphaned), 0]);
        new
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let Some((taken, left)) = rest.split_at_checked(count) else {
        return Err(damaged("a row of manifests"));
    };
    *rest = left;
    Ok(taken)
}

fn text(rest: &mut &[u8]) -> Result<()> {
    let length = take(rest, 4)?.try_into().map(u32::from_be_bytes);
    let length = length.map_err(|_| damaged("a row of manifests"))?;
    take(rest, usize::try_from(length).unwrap_or(usize::MAX)).map(|_| ())
}

/// Every manifest that waits has its place, and there are no more places.
fn check(transaction: &ReadTransaction) -> Result<()> {
    let (queue, untagged) = (transaction.open_table(NEW_QUEUE)?, transaction.open_table(UNTAGGED)?);
    let mut places = untagged.len()?;
    for row in queue.iter()? {
        let (key, _) = row?;
        places += u64::from(key.value().last() == Some(&REFERRER));
    }
    let mut waiting = 0;
    for row in transaction.open_table(MANIFESTS)?.iter()? {
        let (_, value) = row?;
        waiting += u64::from(Manifest::parse(value.value())?.waits);
    }
    if places == waiting {
        return Ok(());
    }
    Err(redb::Error::Corrupted(format!("{waiting} manifests wait at {places} places")))
}
