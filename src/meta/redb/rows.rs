//! Rows by key, the same through both kinds of transaction.

use redb::Table;

use super::super::{EdgeKind, Error, Garbage, Page, Result};
use super::codec::{ContentRow, Key, ManifestRow, RepositoryRow, Row, end_of};
use super::tables::{Bytes, Names, Rows};
use crate::oci::{Digest, RepositoryName};

/// The row of that key.
pub fn get<R: Row>(table: &impl Rows, key: &Key) -> Result<Option<R>> {
    table.get(key.as_slice())?.map(|value| R::decode(value.value())).transpose()
}

/// The row of that key, which another row says is there.
pub fn must_get<R: Row>(table: &impl Rows, key: &Key) -> Result<R> {
    get(table, key)?.ok_or_else(|| Error::Corrupt(format!("{} is missing", R::NAME)))
}

/// Whether there is such a row.
pub fn has(table: &impl Rows, key: &Key) -> Result<bool> {
    Ok(table.get(key.as_slice())?.is_some())
}

/// Adds or replaces a row.
pub fn put<R: Row>(table: &mut Table<'_, Bytes, Bytes>, key: &Key, row: &R) -> Result<()> {
    table.insert(key.as_slice(), row.encode().as_slice())?;
    Ok(())
}

/// Removes a row; whether there was one.
pub fn remove(table: &mut Table<'_, Bytes, Bytes>, key: &Key) -> Result<bool> {
    Ok(table.remove(key.as_slice())?.is_some())
}

/// Whether any key begins with `prefix`.
pub fn any(table: &impl Rows, prefix: &Key) -> Result<bool> {
    let end = end_of(prefix);
    Ok(table.range(prefix.as_slice()..end.as_slice())?.next().transpose()?.is_some())
}

/// Calls `each` with the keys and values whose key begins with `prefix` and comes after `after`,
/// in order, until it returns `false`.
pub fn each_after(
    table: &impl Rows,
    prefix: &Key,
    after: Option<&Key>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
) -> Result<()> {
    use std::ops::Bound::{Excluded, Included};
    let end = end_of(prefix);
    let start = after.map_or(Included(prefix.as_slice()), |after| Excluded(after.as_slice()));
    // Never empty: whatever `after` is, it begins with `prefix`.
    for row in table.range::<&[u8]>((start, Excluded(end.as_slice())))? {
        let (key, value) = row?;
        if !each(key.value(), value.value())? {
            break;
        }
    }
    Ok(())
}

/// A page of what [`each_after`] goes over; `item` may pass over a row.
pub fn page<T>(
    table: &impl Rows,
    prefix: &Key,
    after: Option<&Key>,
    limit: usize,
    mut item: impl FnMut(&[u8], &[u8]) -> Result<Option<T>>,
) -> Result<Page<T>> {
    let mut page = Page { items: Vec::new(), more: false };
    each_after(table, prefix, after, |key, value| {
        let Some(found) = item(key, value)? else {
            return Ok(true);
        };
        if page.items.len() >= limit {
            page.more = true;
            return Ok(false);
        }
        page.items.push(found);
        Ok(true)
    })?;
    Ok(page)
}

/// The id of a repository.
pub fn id_of(names: &impl Names, name: &RepositoryName) -> Result<Option<u64>> {
    Ok(names.get(name.as_str())?.map(|id| id.value()))
}

/// The row of a repository whose id is in use.
pub fn repository(repositories: &impl Rows, id: u64) -> Result<RepositoryRow> {
    must_get(repositories, &Key::number(id))
}

/// The row of a content.
pub fn content(blobs: &impl Rows, digest: &Digest) -> Result<Option<ContentRow>> {
    get(blobs, &Key::digest(digest))
}

/// The row of a manifest.
pub fn manifest(manifests: &impl Rows, id: u64, digest: &Digest) -> Result<Option<ManifestRow>> {
    get(manifests, &Key::number(id).and_digest(digest))
}

/// The key of a place in one of the collector's queues.
pub fn queue_key(at: u64, id: u64, digest: &Digest, garbage: Garbage) -> Key {
    let key = Key::number(at).and_number(id).and_digest(digest);
    match garbage {
        Garbage::Untagged => key,
        _ => key.and_garbage(garbage),
    }
}

/// Whether a manifest of a repository has a tag, an index that refers to it, or a subject that is
/// there.
pub fn is_manifest_held(
    tags_by_manifest: &impl Rows,
    edges: &impl Rows,
    manifests: &impl Rows,
    (id, digest): (u64, &Digest),
    subject: Option<Digest>,
) -> Result<bool> {
    let key = Key::number(id).and_digest(digest);
    if any(tags_by_manifest, &key)? || any(edges, &key.and_kind(EdgeKind::Child))? {
        return Ok(true);
    }
    match subject {
        Some(subject) => has(manifests, &Key::number(id).and_digest(&subject)),
        None => Ok(false),
    }
}
