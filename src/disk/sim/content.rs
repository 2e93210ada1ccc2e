//! Bytes of a simulated file: pages that are shared until one of them is written.

use std::sync::Arc;

/// Bytes of a page.
pub const PAGE_SIZE_BYTES: usize = 4096;
/// What a disk writes whole or not at all.
pub const SECTOR_SIZE_BYTES: usize = 512;

type Page = [u8; PAGE_SIZE_BYTES];

/// What a file holds; a missing page is zeros.
#[derive(Debug, Clone, Default)]
pub struct Content {
    size_bytes: u64,
    pages: Vec<Option<Arc<Page>>>,
}

impl Content {
    /// Length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills `out` from `offset`; `false` when the content ends before.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> bool {
        if offset + out.len() as u64 > self.size_bytes {
            return false;
        }
        let mut position = offset as usize;
        let mut rest = out;
        while !rest.is_empty() {
            let (page, start) = (position / PAGE_SIZE_BYTES, position % PAGE_SIZE_BYTES);
            let length = (PAGE_SIZE_BYTES - start).min(rest.len());
            let (part, after) = rest.split_at_mut(length);
            match self.pages.get(page) {
                Some(Some(bytes)) => part.copy_from_slice(&bytes[start..start + length]),
                _ => part.fill(0),
            }
            position += length;
            rest = after;
        }
        true
    }

    /// Writes, and extends when the end lies beyond.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.extend_to(offset + bytes.len() as u64);
        let mut position = offset as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (page, start) = (position / PAGE_SIZE_BYTES, position % PAGE_SIZE_BYTES);
            let length = (PAGE_SIZE_BYTES - start).min(rest.len());
            let (part, after) = rest.split_at(length);
            let slot = &mut self.pages[page];
            match (slot.as_mut(), <&Page>::try_from(part)) {
                (_, Ok(whole)) => *slot = Some(Arc::new(*whole)),
                (Some(page), _) => {
                    Arc::make_mut(page)[start..start + length].copy_from_slice(part);
                }
                (None, _) => {
                    let mut page = [0; PAGE_SIZE_BYTES];
                    page[start..start + length].copy_from_slice(part);
                    *slot = Some(Arc::new(page));
                }
            }
            position += length;
            rest = after;
        }
    }

    /// Extends with zeros; never cuts.
    pub fn extend_to(&mut self, size_bytes: u64) {
        if size_bytes > self.size_bytes {
            self.size_bytes = size_bytes;
            self.pages.resize((size_bytes as usize).div_ceil(PAGE_SIZE_BYTES), None);
        }
    }

    /// Cuts or extends with zeros.
    pub fn set_size(&mut self, size_bytes: u64) {
        if size_bytes >= self.size_bytes {
            return self.extend_to(size_bytes);
        }
        self.size_bytes = size_bytes;
        self.pages.truncate((size_bytes as usize).div_ceil(PAGE_SIZE_BYTES));
        let kept = size_bytes as usize % PAGE_SIZE_BYTES;
        if let (true, Some(Some(page))) = (kept > 0, self.pages.last_mut()) {
            Arc::make_mut(page)[kept..].fill(0);
        }
    }
}
