//! The export of a metadata store: one file, written and read as a stream in bounded memory.
//!
//! ```text
//! magic    8 bytes  "KELSONMX"
//! frame*   length u32 (of what follows it), kind u8, body
//! ```
//!
//! | kind | frame | body |
//! |---|---|---|
//! | 1 | header | format u32, schema u32, store 16 bytes, transactions, uptime, time u64, release |
//! | 2 | content | flags u8 (1: has a file, 2: its bytes are in the export), size u64, digest |
//! | 3 | table | kind of keys and values u8, name |
//! | 4 | row | length of the key u32, key, value |
//! | 5 | end | contents u64, tables u64, rows u64, SHA-256 of everything before this frame |
//!
//! Integers are big-endian, texts are UTF-8 and come last. There is one header, then contents in
//! the order of their digests, then each table with its rows in the order of their keys, then the
//! end, then nothing. Rows are those of the database with the schema that the header names: what
//! is derived comes with what it is derived from, and the import checks one against the other.
//!
//! The reader takes any bytes: it never panics, and allocates what it was given, not what a
//! length says.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use super::Timestamp;
use crate::oci::Digest;

const MAGIC: [u8; 8] = *b"KELSONMX";
/// The format that this release writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// The longest frame: a row has a content of at most 1 MiB, or the references of a manifest.
pub const FRAME_SIZE_BYTES_MAX: usize = 64 << 20;
/// The longest name of a table or a release.
const NAME_SIZE_BYTES_MAX: usize = 64;

const HEADER: u8 = 1;
const CONTENT: u8 = 2;
const TABLE: u8 = 3;
const ROW: u8 = 4;
const END: u8 = 5;

const HAS_FILE: u8 = 1;
const HAS_BYTES: u8 = 2;

/// Why an export cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what a writer made.
    #[error("the export is damaged: {0}")]
    Damaged(String),
    /// A newer release wrote it.
    #[error("the export has format {found}, this release knows up to {FORMAT}")]
    TooNew {
        /// Its format.
        found: u32,
    },
    /// The stream failed.
    #[error("the export: {0}")]
    Io(#[from] io::Error),
}

/// Result of reading or writing an export.
pub type Result<T> = std::result::Result<T, Error>;

/// What an export is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The schema of its rows.
    pub schema: u32,
    /// The store that the database belongs to.
    pub store_id: [u8; 16],
    /// Transactions that the database had committed.
    pub transactions: u64,
    /// Time that the store had been open, in seconds.
    pub uptime_seconds: u64,
    /// When the export was made.
    pub created_at: Timestamp,
    /// The release that made it.
    pub release: String,
}

/// A content that the database knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Its name.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// Whether it must have a file.
    pub has_file: bool,
    /// Whether its bytes are in the export.
    pub has_bytes: bool,
}

/// What the keys and values of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// Bytes to bytes.
    Bytes,
    /// Texts to bytes.
    Texts,
    /// Texts to numbers.
    Names,
    /// Numbers to bytes.
    Numbers,
}

impl TableKind {
    /// Every kind with its code.
    const CODES: [(Self, u8); 4] =
        [(Self::Bytes, 0), (Self::Texts, 1), (Self::Names, 2), (Self::Numbers, 3)];

    fn code(self) -> u8 {
        let found = Self::CODES.iter().find(|(kind, _)| *kind == self);
        found.map_or(u8::MAX, |(_, code)| *code)
    }

    fn of(code: u8) -> Option<Self> {
        Self::CODES.iter().find(|(_, known)| *known == code).map(|(kind, _)| *kind)
    }

    /// Whether a row can stand in such a table.
    fn takes(self, key: &[u8], value: &[u8]) -> bool {
        let text = || std::str::from_utf8(key).is_ok();
        match self {
            Self::Bytes => true,
            Self::Texts => text(),
            Self::Names => text() && value.len() == 8,
            Self::Numbers => key.len() == 8,
        }
    }
}

/// A part of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A content; they come first.
    Content(Content),
    /// A table begins.
    Table(TableKind, &'a str),
    /// A row of the table: key and value. Numbers are eight bytes, big-endian.
    Row(&'a [u8], &'a [u8]),
}

/// What was in an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Contents.
    pub contents: u64,
    /// Tables.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Length of the export.
    pub size_bytes: u64,
}

/// Writes an export.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    hash: Sha256,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Begins an export. `out` should be buffered.
    pub fn new(out: W, header: &Header) -> Result<Self> {
        let mut writer = Self { out, hash: Sha256::new(), totals: Totals::default() };
        writer.put(&MAGIC)?;
        let numbers = [header.transactions, header.uptime_seconds, header.created_at.0];
        let parts = [
            &FORMAT.to_be_bytes()[..],
            &header.schema.to_be_bytes(),
            &header.store_id,
            &numbers.map(u64::to_be_bytes).concat(),
            header.release.as_bytes(),
        ];
        writer.frame(HEADER, &parts)?;
        Ok(writer)
    }

    /// Adds a content; in the order of digests, before any table.
    pub fn content(&mut self, content: &Content) -> Result<()> {
        self.totals.contents += 1;
        let flags = if content.has_file { HAS_FILE } else { 0 }
            | if content.has_bytes { HAS_BYTES } else { 0 };
        let size_bytes = content.size_bytes.to_be_bytes();
        self.frame(CONTENT, &[&[flags], &size_bytes, content.digest.to_string().as_bytes()])
    }

    /// Begins a table.
    pub fn table(&mut self, kind: TableKind, name: &str) -> Result<()> {
        self.totals.tables += 1;
        self.frame(TABLE, &[&[kind.code()], name.as_bytes()])
    }

    /// Adds a row to the table; in the order of keys.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.totals.rows += 1;
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        self.frame(ROW, &[&length.to_be_bytes(), key, value])
    }

    /// Ends the export and flushes it.
    pub fn finish(mut self) -> Result<Totals> {
        let sum = self.hash.clone().finalize();
        let Totals { contents, tables, rows, .. } = self.totals;
        let counts = [contents, tables, rows].map(u64::to_be_bytes).concat();
        self.frame(END, &[&counts, &sum])?;
        self.out.flush()?;
        Ok(self.totals)
    }

    fn frame(&mut self, kind: u8, parts: &[&[u8]]) -> Result<()> {
        let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
        if length > FRAME_SIZE_BYTES_MAX {
            return Err(Error::Damaged(format!("a row of {length} bytes does not fit into it")));
        }
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.put(&length.to_be_bytes())?;
        self.put(&[kind])?;
        parts.iter().try_for_each(|part| self.put(part))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.totals.size_bytes += bytes.len() as u64;
        self.out.write_all(bytes)?;
        Ok(())
    }
}

/// Reads an export, record by record.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    hash: Sha256,
    header: Header,
    totals: Totals,
    /// The body of the frame read last.
    frame: Vec<u8>,
    table: Option<TableKind>,
    /// What the next one must be greater than.
    last_digest: Option<Digest>,
    last_key: Option<Vec<u8>>,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads magic and header. `input` should be buffered.
    ///
    /// # Errors
    /// [`Error::TooNew`], [`Error::Damaged`] for what is no export, and those of `input`.
    pub fn new(input: R) -> Result<Self> {
        let header = Header {
            schema: 0,
            store_id: [0; 16],
            transactions: 0,
            uptime_seconds: 0,
            created_at: Timestamp::default(),
            release: String::new(),
        };
        let mut reader = Self {
            input,
            hash: Sha256::new(),
            header,
            totals: Totals::default(),
            frame: Vec::new(),
            table: None,
            last_digest: None,
            last_key: None,
            ended: false,
        };
        let mut magic = [0; MAGIC.len()];
        fill(&mut reader.input, &mut magic)?;
        if magic != MAGIC {
            return Err(damaged("it does not begin as an export does"));
        }
        reader.hash.update(magic);
        reader.totals.size_bytes += magic.len() as u64;
        if reader.next_frame()? != HEADER {
            return Err(damaged("it has no header"));
        }
        reader.header = header_of(&reader.frame)?;
        Ok(reader)
    }

    /// What the export is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The next record; `None` at the end, when all of it was read and agrees with its sum. What
    /// came before is to be believed only then.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>> {
        if self.ended {
            return Ok(None);
        }
        match self.next_frame()? {
            CONTENT => self.content().map(|content| Some(Record::Content(content))),
            TABLE => self.table().map(Some),
            ROW => self.row().map(Some),
            END => self.end().map(|()| None),
            _ => Err(damaged("it has a frame of an unknown kind")),
        }
    }

    /// Reads to the end; what was in it.
    pub fn verify(mut self) -> Result<(Header, Totals)> {
        while self.next_record()?.is_some() {}
        Ok((self.header, self.totals))
    }

    fn content(&mut self) -> Result<Content> {
        let content = content_of(&self.frame)?;
        if self.table.is_some() {
            return Err(damaged("a content stands behind a table"));
        }
        if self.last_digest.is_some_and(|last| last >= content.digest) {
            return Err(damaged("contents are not in the order of their digests"));
        }
        self.last_digest = Some(content.digest);
        self.totals.contents += 1;
        Ok(content)
    }

    fn table(&mut self) -> Result<Record<'_>> {
        let (kind, name) = table_of(&self.frame)?;
        self.table = Some(kind);
        self.last_key = None;
        self.totals.tables += 1;
        Ok(Record::Table(kind, name))
    }

    fn row(&mut self) -> Result<Record<'_>> {
        let kind = self.table.ok_or_else(|| damaged("a row stands in no table"))?;
        let (key, value) = row_of(&self.frame, kind)?;
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(damaged("rows are not in the order of their keys"));
        }
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        self.totals.rows += 1;
        Ok(Record::Row(key, value))
    }

    fn end(&mut self) -> Result<()> {
        let Totals { contents, tables, rows, .. } = self.totals;
        let mut expected = [contents, tables, rows].map(u64::to_be_bytes).concat();
        expected.extend_from_slice(&self.hash.clone().finalize());
        if self.frame != expected {
            return Err(damaged("its bytes do not agree with its sum"));
        }
        if self.input.read(&mut [0])? > 0 {
            return Err(damaged("it goes on behind its end"));
        }
        self.ended = true;
        Ok(())
    }

    /// Reads the body of a frame; its kind. Everything but the end is hashed.
    fn next_frame(&mut self) -> Result<u8> {
        let mut head = [0; 5];
        fill(&mut self.input, &mut head)?;
        let [a, b, c, d, kind] = head;
        let length = u32::from_be_bytes([a, b, c, d]);
        if length == 0 || length as usize > FRAME_SIZE_BYTES_MAX {
            return Err(damaged("a frame has an impossible length"));
        }
        let body = u64::from(length) - 1;
        self.frame.clear();
        // Grows with what arrives: a wrong length costs nothing.
        let read = (&mut self.input).take(body).read_to_end(&mut self.frame)?;
        if (read as u64) < body {
            return Err(cut());
        }
        if kind != END {
            self.hash.update(head);
            self.hash.update(&self.frame);
        }
        self.totals.size_bytes += head.len() as u64 + body;
        Ok(kind)
    }
}

fn damaged(is: &str) -> Error {
    Error::Damaged(is.to_owned())
}

fn cut() -> Error {
    damaged("it is cut off")
}

fn fill(input: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => cut(),
        _ => Error::Io(error),
    })
}

/// The first `N` bytes; what is left stays in `body`.
fn take<const N: usize>(body: &mut &[u8]) -> Result<[u8; N]> {
    let (taken, rest) = body.split_first_chunk().ok_or_else(|| damaged("a frame is too short"))?;
    *body = rest;
    Ok(*taken)
}

fn take_u64(body: &mut &[u8]) -> Result<u64> {
    take(body).map(u64::from_be_bytes)
}

fn name_of(body: &[u8]) -> Result<&str> {
    let name = std::str::from_utf8(body).ok();
    let sound = |name: &&str| {
        let plain = |it: u8| it.is_ascii_graphic();
        (1..=NAME_SIZE_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
    };
    name.filter(sound).ok_or_else(|| damaged("it has an impossible name"))
}

fn header_of(mut body: &[u8]) -> Result<Header> {
    let body = &mut body;
    let format = u32::from_be_bytes(take(body)?);
    if format == 0 {
        return Err(damaged("it has no format"));
    }
    if format > FORMAT {
        return Err(Error::TooNew { found: format });
    }
    Ok(Header {
        schema: u32::from_be_bytes(take(body)?),
        store_id: take(body)?,
        transactions: take_u64(body)?,
        uptime_seconds: take_u64(body)?,
        created_at: Timestamp(take_u64(body)?),
        release: name_of(body)?.to_owned(),
    })
}

fn content_of(mut body: &[u8]) -> Result<Content> {
    let [flags] = take(&mut body)?;
    if flags & !(HAS_FILE | HAS_BYTES) != 0 {
        return Err(damaged("a content has unknown flags"));
    }
    let size_bytes = take_u64(&mut body)?;
    let digest = std::str::from_utf8(body).ok().and_then(|text| Digest::parse(text).ok());
    Ok(Content {
        digest: digest.ok_or_else(|| damaged("a content has no digest"))?,
        size_bytes,
        has_file: flags & HAS_FILE != 0,
        has_bytes: flags & HAS_BYTES != 0,
    })
}

fn table_of(mut body: &[u8]) -> Result<(TableKind, &str)> {
    let [code] = take(&mut body)?;
    let kind = TableKind::of(code).ok_or_else(|| damaged("a table is of an unknown kind"))?;
    Ok((kind, name_of(body)?))
}

fn row_of(mut body: &[u8], kind: TableKind) -> Result<(&[u8], &[u8])> {
    let length = u32::from_be_bytes(take(&mut body)?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (key, value) =
        body.split_at_checked(length).ok_or_else(|| damaged("a key is longer than its row"))?;
    if !kind.takes(key, value) {
        return Err(damaged("a row is not of the kind of its table"));
    }
    Ok((key, value))
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
