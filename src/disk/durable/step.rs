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
    /// The name of a new database, before `store.json` says that there is one.
    NewDatabaseName = 8,
    /// The name of the store's root.
    Root = 9,
    /// `store.json`, before it gets its name.
    IdentityData = 10,
    /// Its name, before there is anything that only a store has.
    IdentityName = 11,
    /// The names of the directories down to the tree of blobs, and with them that of `kelson/`.
    TreeParents = 12,
    /// The name of `blobs`.
    TreeBlobs = 13,
    /// The names of `staging` and its neighbours.
    TreePrivate = 14,
    /// The copy of a database before its schema changes, before the copy gets its name.
    DatabaseCopyData = 15,
    /// Its name, before the schema changes.
    DatabaseCopyName = 16,
    /// `store.json` of a restored store, before it gets its name.
    RestoredIdentityData = 17,
    /// Its name, before the store gets its place.
    RestoredIdentityName = 18,
    /// The name of a directory of backups and of those above it.
    DestinationRoot = 19,
    /// `backup.json`, before it gets its name.
    MarkerData = 20,
    /// Its name and that of `generations`, before anything else is in a backup.
    MarkerName = 21,
    /// The names of the contents of a backup or of a restored store.
    CopiedNames = 22,
    /// The export of a generation, before it gets its name.
    GenerationData = 23,
    /// Its name, before the backup is said to be finished.
    GenerationName = 24,
    /// The name of the root of a restored store and of those above it.
    RestoreRoot = 25,
    /// That a restored store is whole, before that is said.
    RestoreMarkerData = 26,
    /// The name of that, before anything gets its place.
    RestoreMarkerName = 27,
    /// The place of a part of a restored store, before the next gets its own.
    RestorePlace = 28,
    /// That a restore is over, before it is said to be.
    RestoreEnd = 29,
    /// The name of a database made of an export, and the new one of the database before it.
    RestoredDatabaseName = 30,
    /// The name of `exports`.
    ExportsFolder = 31,
    /// An automatic export, before it gets its name.
    ExportData = 32,
    /// Its name, before older ones are removed.
    ExportName = 33,
}

impl Step {
    /// Every step of a store that is served, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::UploadData,
        Self::UploadNames,
        Self::SpilledData,
        Self::SpilledNames,
        Self::KeptData,
        Self::PublishedNames,
        Self::DatabaseData,
        Self::NewDatabaseName,
        Self::Root,
        Self::IdentityData,
        Self::IdentityName,
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
