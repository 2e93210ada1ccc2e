//! What clients asked and were answered, as lines of JSON.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::linear::{Entry, Model, check};

/// A request: what it was about, its call, its return and its answer. Without them its outcome
/// is unknown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record<O, A> {
    pub client: usize,
    /// What it was asked of: requests to different things are checked apart.
    pub key: String,
    pub op: O,
    pub called_ns: u64,
    pub returned_ns: Option<u64>,
    pub answer: Option<A>,
}

/// An operation and its answer, as models take them; `None`: unknown.
pub type Event<O, A> = (O, Option<A>);

/// Writes records from many threads; time begins with it.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    path: PathBuf,
    file: Mutex<BufWriter<File>>,
}

impl Recorder {
    pub fn create(path: &Path) -> Self {
        let file = Mutex::new(BufWriter::new(File::create(path).unwrap()));
        Self { began: Instant::now(), path: path.to_owned(), file }
    }

    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    pub fn write<O: Serialize, A: Serialize>(&self, record: &Record<O, A>) {
        let mut line = serde_json::to_vec(record).unwrap();
        line.push(b'\n');
        self.file.lock().unwrap().write_all(&line).unwrap();
    }

    /// Writes everything out and reads it back.
    pub fn read<O: DeserializeOwned, A: DeserializeOwned>(self) -> Vec<Record<O, A>> {
        self.file.into_inner().unwrap().flush().unwrap();
        let lines = BufReader::new(File::open(&self.path).unwrap()).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }
}

/// The records of one key.
pub fn entries<O: Clone, A: Clone>(records: &[Record<O, A>], key: &str) -> Vec<Entry<Event<O, A>>> {
    let of_key = records.iter().filter(|record| record.key == key);
    let entry = |record: &Record<O, A>| Entry {
        event: (record.op.clone(), record.answer.clone()),
        called: record.called_ns,
        returned: record.answer.as_ref().and(record.returned_ns),
    };
    of_key.map(entry).collect()
}

/// Checks the records key by key; the error names the key.
pub fn check_all<O, A, M>(model: &M, records: &[Record<O, A>]) -> Result<(), String>
where
    O: Clone,
    A: Clone,
    M: Model<Event = Event<O, A>>,
{
    let mut keys: Vec<_> = records.iter().map(|record| record.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        check(model, &entries(records, key)).map_err(|error| format!("{key}: {error}"))?;
    }
    Ok(())
}
