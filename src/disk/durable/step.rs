//! Why something is synced. Each call of [`super`]'s helpers names its own step, once in the
//! whole code (`tests/tidy.rs` counts them). In the simulator every step has a mutant, which
//! leaves that sync out; one that goes unnoticed would mean that the sync is not needed, or that
//! the simulated disk is too kind.

/// What a sync protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Step {
    /// The bytes of an upload, before an answer or a row says how many they are.
    UploadData = 1,
    /// The name of an upload's file and of its directory, likewise.
    UploadNames = 2,
    /// The bytes of small contents, before their files get their names.
    SpilledData = 3,
    /// The names of those files, before their directories are renamed.
    SpilledNames = 4,
    /// The bytes of a file that is kept at its digest's path, whoever wrote it.
    KeptData = 5,
    /// The new names of contents, before a row refers to them.
    PublishedNames = 6,
    /// What a commit wrote to the database.
    DatabaseData = 7,
    /// A new database, before it gets its name.
    NewDatabaseData = 8,
    /// Its name, before `store.json` says that there is one.
    NewDatabaseName = 9,
    /// The name of the store's root.
    Root = 10,
    /// The name of `kelson/`.
    Own = 11,
    /// `store.json`, before it gets its name.
    IdentityData = 12,
    /// Its name, before there is anything that only a store has.
    IdentityName = 13,
    /// The name of the root of the tree of blobs.
    TreeRoot = 14,
    /// The names of the directories down to that tree.
    TreeParents = 15,
    /// The name of `blobs`.
    TreeBlobs = 16,
    /// The names of `staging` and its neighbours.
    TreePrivate = 17,
    /// The copy of a database before its schema changes, before the copy gets its name.
    DatabaseCopyData = 18,
    /// Its name, before the schema changes.
    DatabaseCopyName = 19,
    /// `store.json` of a restored store, before it gets its name.
    RestoredIdentityData = 20,
    /// Its name, before the store gets its place.
    RestoredIdentityName = 21,
    /// The name of a directory of backups and of those above it.
    DestinationRoot = 22,
    /// `backup.json`, before it gets its name.
    MarkerData = 23,
    /// Its name and that of `generations`, before anything else is in a backup.
    MarkerName = 24,
    /// The names of the contents of a backup or of a restored store.
    CopiedNames = 25,
    /// The export of a generation, before it gets its name.
    GenerationData = 26,
    /// Its name, before the backup is said to be finished.
    GenerationName = 27,
    /// The name of the root of a restored store and of those above it.
    RestoreRoot = 28,
    /// That a restored store is whole, before that is said.
    RestoreMarkerData = 29,
    /// The name of that, before anything gets its place.
    RestoreMarkerName = 30,
    /// The place of a part of a restored store, before the next gets its own.
    RestorePlace = 31,
    /// That a restore is over, before it is said to be.
    RestoreEnd = 32,
    /// The name of a database made of an export, and the new one of the database before it.
    RestoredDatabaseName = 33,
    /// The name of `exports`.
    ExportsFolder = 34,
    /// An automatic export, before it gets its name.
    ExportData = 35,
    /// Its name, before older ones are removed.
    ExportName = 36,
}

impl Step {
    /// Every step of a store that is served, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::UploadData,
        Self::UploadNames,
        Self::SpilledData,
        Self::SpilledNames,
        Self::KeptData,
        Self::PublishedNames,
        Self::DatabaseData,
        Self::NewDatabaseData,
        Self::NewDatabaseName,
        Self::Root,
        Self::Own,
        Self::IdentityData,
        Self::IdentityName,
        Self::TreeRoot,
        Self::TreeParents,
        Self::TreeBlobs,
        Self::TreePrivate,
        Self::DatabaseCopyData,
        Self::DatabaseCopyName,
    ];

    /// Every step of backups, restores and exports, likewise.
    pub const BACKUPS: [Self; 17] = [
        Self::RestoredIdentityData,
        Self::RestoredIdentityName,
        Self::DestinationRoot,
        Self::MarkerData,
        Self::MarkerName,
        Self::CopiedNames,
        Self::GenerationData,
        Self::GenerationName,
        Self::RestoreRoot,
        Self::RestoreMarkerData,
        Self::RestoreMarkerName,
        Self::RestorePlace,
        Self::RestoreEnd,
        Self::RestoredDatabaseName,
        Self::ExportsFolder,
        Self::ExportData,
        Self::ExportName,
    ];
}
