//! Files as streams, for formats that are written and read from front to back.

use std::io;
use std::sync::Arc;

use super::VfsFile;

/// Kept in memory between two calls of the file.
const BUFFER_SIZE_BYTES: usize = 256 << 10;

/// Writes a file from its beginning. What was written is in the file after a flush.
#[derive(Debug)]
pub struct FileWriter {
    file: Arc<dyn VfsFile>,
    offset: u64,
    buffer: Vec<u8>,
}

impl FileWriter {
    /// Writes to a new file.
    pub fn new(file: Arc<dyn VfsFile>) -> Self {
        Self { file, offset: 0, buffer: Vec::with_capacity(BUFFER_SIZE_BYTES) }
    }
}

impl io::Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= BUFFER_SIZE_BYTES {
            self.flush()?;
        }
        let room = BUFFER_SIZE_BYTES.saturating_sub(self.buffer.len());
        let taken = &bytes[..bytes.len().min(room)];
        self.buffer.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset).map_err(to_io)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a file from its beginning.
#[derive(Debug)]
pub struct FileReader {
    file: Arc<dyn VfsFile>,
    offset: u64,
    size_bytes: u64,
    buffer: Vec<u8>,
    taken: usize,
}

impl FileReader {
    /// Reads what the file holds now.
    pub fn new(file: Arc<dyn VfsFile>) -> super::Result<Self> {
        let size_bytes = file.size_bytes()?;
        Ok(Self { file, offset: 0, size_bytes, buffer: Vec::new(), taken: 0 })
    }
}

impl io::Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() {
            let left = self.size_bytes - self.offset;
            let length = left.min(BUFFER_SIZE_BYTES as u64);
            self.buffer.resize(length as usize, 0);
            self.file.read_exact_at(&mut self.buffer, self.offset).map_err(to_io)?;
            self.offset += length;
            self.taken = 0;
        }
        let part = &self.buffer[self.taken..];
        let length = part.len().min(out.len());
        out[..length].copy_from_slice(&part[..length]);
        self.taken += length;
        Ok(length)
    }
}

/// An I/O error of the same kind that names the path.
fn to_io(error: super::Error) -> io::Error {
    io::Error::new(error.source.kind(), error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::disk::{Open, OsVfs, Vfs};

    #[test]
    fn what_is_written_is_read_across_buffers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream");
        let bytes: Vec<u8> = (0..BUFFER_SIZE_BYTES * 2 + 77).map(|it| (it % 251) as u8).collect();
        let mut writer = FileWriter::new(OsVfs.open(&path, Open::Create { mode: 0o600 }).unwrap());
        bytes.chunks(100_001).for_each(|part| writer.write_all(part).unwrap());
        writer.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let mut reader = FileReader::new(OsVfs.open(&path, Open::Read).unwrap()).unwrap();
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert_eq!(found, bytes);
    }
}
