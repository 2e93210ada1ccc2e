//! What this machine can do at most, measured in the same run: nothing that has to hash, to be
//! durable or to cross the wire is faster.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use redb::{Database, Durability, TableDefinition};
use sha2::{Digest as _, Sha256};

use crate::common::{random_bytes, scratch};

/// How long each is measured.
const TIME: Duration = Duration::from_secs(2);
const BYTES: usize = 64 << 20;
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bound");

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes that one core hashes in a second.
    pub sha256_bytes: f64,
    /// Bytes that one core sends over loopback in a second, by `sendfile`.
    pub sendfile_bytes: f64,
    /// Appends of 4 KiB to a file that are made durable in a second, one after the other.
    pub fdatasync: f64,
    /// Transactions of one row in a second, immediate and in two phases.
    pub commits: f64,
}

impl Bounds {
    /// Measures them; a few seconds each.
    ///
    /// # Errors
    /// The disk or the loopback interface does not work.
    pub fn measure() -> Result<Self> {
        let folder = scratch()?;
        Ok(Self {
            sha256_bytes: sha256()?,
            sendfile_bytes: sendfile(&folder.path().join("sent"))?,
            fdatasync: fdatasync(&folder.path().join("synced"))?,
            commits: commits(&folder.path().join("committed.redb"))?,
        })
    }
}

/// How often `work` was done in a second.
fn rate(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < TIME {
        work()?;
        count += 1;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}

fn sha256() -> Result<f64> {
    let bytes = random_bytes(BYTES)?;
    let hashed = rate(|| {
        black_box(Sha256::digest(&bytes));
        Ok(())
    });
    Ok(hashed? * BYTES as f64)
}

fn sendfile(path: &Path) -> Result<f64> {
    fs::write(path, random_bytes(BYTES)?)?;
    let file = File::open(path)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    let mut receiver = listener.accept()?.0;
    let reader = std::thread::spawn(move || -> std::io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        while receiver.read(&mut buffer)? > 0 {}
        Ok(())
    });
    let sent = rate(|| {
        let mut offset = 0;
        while offset < BYTES as u64 {
            let left = BYTES - usize::try_from(offset)?;
            rustix::fs::sendfile(&socket, &file, Some(&mut offset), left)?;
        }
        Ok(())
    });
    drop(socket);
    reader.join().map_err(|_| anyhow!("the receiver panicked"))?.context("the receiver")?;
    Ok(sent? * BYTES as f64)
}

fn fdatasync(path: &Path) -> Result<f64> {
    let mut file = File::create(path)?;
    let block = random_bytes(4 << 10)?;
    rate(|| {
        file.write_all(&block)?;
        Ok(file.sync_data()?)
    })
}

fn commits(path: &Path) -> Result<f64> {
    let database = Database::create(path)?;
    let (value, mut key) = (random_bytes(100)?, 0);
    rate(|| {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        key += 1;
        transaction.open_table(TABLE)?.insert(key, value.as_slice())?;
        Ok(transaction.commit()?)
    })
}
