//! What a path of a store is, for the names of failpoints.

use std::path::Path;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    AboveRoot,
    Root,
    Private,
    Lock,
    Identity,
    NewIdentity,
    Database,
    /// The first page of the database, which says what the newest commit is.
    DatabaseHeader,
    NewDatabase,
    NewDatabaseHeader,
    Ballast,
    /// Another database beside it: before a schema changed, made of an export, or damaged.
    DatabaseCopy,
    Exports,
    Export,
    NewExport,
    Staging,
    Upload,
    UploadData,
    Quarantine,
    Quarantined,
    /// A store that is being restored.
    Restoring,
    Tree,
    Algorithm,
    Shard,
    Blob,
    BlobData,
    /// Neither in the store nor above it.
    Outside,
    Other,
}

impl Place {
    /// Its name in a failpoint's.
    pub fn name(self) -> &'static str {
        match self {
            Self::AboveRoot => "above-root",
            Self::Root => "root",
            Self::Private => "private",
            Self::Lock => "lock",
            Self::Identity => "identity",
            Self::NewIdentity => "new-identity",
            Self::Database => "database",
            Self::DatabaseHeader => "database-header",
            Self::NewDatabase => "new-database",
            Self::NewDatabaseHeader => "new-database-header",
            Self::Ballast => "ballast",
            Self::DatabaseCopy => "database-copy",
            Self::Exports => "exports",
            Self::Export => "export",
            Self::NewExport => "new-export",
            Self::Staging => "staging",
            Self::Upload => "upload",
            Self::UploadData => "upload-data",
            Self::Quarantine => "quarantine",
            Self::Quarantined => "quarantined",
            Self::Restoring => "restoring",
            Self::Tree => "tree",
            Self::Algorithm => "algorithm",
            Self::Shard => "shard",
            Self::Blob => "blob",
            Self::BlobData => "blob-data",
            Self::Outside => "outside",
            Self::Other => "other",
        }
    }

    /// The first page of this file, if that has a meaning of its own; else the file.
    pub(super) fn header(self) -> Self {
        match self {
            Self::Database => Self::DatabaseHeader,
            Self::NewDatabase => Self::NewDatabaseHeader,
            other => other,
        }
    }
}

/// What `path` is in the store below `root`.
pub(super) fn of(root: &Path, path: &Path) -> Place {
    let Ok(inner) = path.strip_prefix(root) else {
        return if root.starts_with(path) { Place::AboveRoot } else { Place::Outside };
    };
    let parts: Vec<&str> = inner.iter().map(|part| part.to_str().unwrap_or_default()).collect();
    match parts[..] {
        [] => Place::Root,
        ["kelson"] => Place::Private,
        ["kelson", "LOCK"] => Place::Lock,
        ["kelson", "store.json"] => Place::Identity,
        ["kelson", "store.json.tmp"] => Place::NewIdentity,
        ["kelson", "metadata.redb"] => Place::Database,
        ["kelson", "metadata.redb.new"] => Place::NewDatabase,
        ["kelson", "metadata.redb.ballast"] => Place::Ballast,
        ["kelson", name] if is_copy(name) => Place::DatabaseCopy,
        ["kelson", "exports"] => Place::Exports,
        ["kelson", "exports", "next.tmp"] => Place::NewExport,
        ["kelson", "exports", name] if name.ends_with(".export") => Place::Export,
        ["kelson", "staging"] => Place::Staging,
        ["kelson", "staging", _] => Place::Upload,
        ["kelson", "staging", _, "data"] => Place::UploadData,
        ["kelson", "quarantine"] => Place::Quarantine,
        ["kelson", "quarantine", _] => Place::Quarantined,
        [".kelson-restore", ..] => Place::Restoring,
        ["docker"] | ["docker", "registry"] | ["docker", "registry", "v2"] => Place::Tree,
        ["docker", "registry", "v2", "blobs", ref below @ ..] => match below {
            [] => Place::Tree,
            [_] => Place::Algorithm,
            [_, _] => Place::Shard,
            [_, _, _] => Place::Blob,
            [_, _, _, "data"] => Place::BlobData,
            _ => Place::Other,
        },
        _ => Place::Other,
    }
}

/// Whether this is `metadata.redb` with `copy`, a version, `import` or `damaged-` and a time.
fn is_copy(name: &str) -> bool {
    let Some(kind) = name.strip_prefix("metadata.redb.") else { return false };
    let version = kind.strip_prefix('v').is_some_and(|version| version.parse::<u32>().is_ok());
    version || kind == "copy" || kind == "import" || kind.starts_with("damaged-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_store_have_places() {
        let place = |path: &str| of(Path::new("/srv/r"), Path::new(path)).name();
        assert_eq!(place("/srv"), "above-root");
        assert_eq!(place("/srv/r"), "root");
        assert_eq!(place("/srv/r/kelson/staging/u/data"), "upload-data");
        assert_eq!(place("/srv/r/kelson/metadata.redb"), "database");
        assert_eq!(place("/srv/r/docker/registry/v2"), "tree");
        assert_eq!(place("/srv/r/docker/registry/v2/blobs/sha256"), "algorithm");
        assert_eq!(place("/srv/r/docker/registry/v2/blobs/sha256/ab/abc/data"), "blob-data");
        assert_eq!(place("/srv/r/kelson/metadata.redb.ballast"), "ballast");
        assert_eq!(place("/srv/r/kelson/exports/00000000000000000001.export"), "export");
        assert_eq!(place("/srv/r/kelson/exports/next.tmp"), "new-export");
        for copy in ["copy", "v1", "import", "damaged-1"] {
            let path = format!("/srv/r/kelson/metadata.redb.{copy}");
            assert_eq!(place(&path), "database-copy");
        }
        assert_eq!(place("/srv/r/.kelson-restore/LOCK"), "restoring");
        assert_eq!(place("/backups/generations/000001.export"), "outside");
        for strange in [
            "/srv/r/kelson/metadata.redb.vx",
            "/srv/r/kelson/x",
            "/srv/r/docker/registry/v2/repositories",
        ] {
            assert_eq!(place(strange), "other");
        }
    }
}
