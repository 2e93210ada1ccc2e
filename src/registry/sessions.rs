//! Upload sessions of this process: which exist, and who may write to each.
//!
//! A session that received nothing exists only here, and may be evicted to make room: its loss
//! costs the client a retry. One that received bytes has a row too, and comes back after a restart.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;

use super::error::{Error, Result};
use crate::blob::Staging;
use crate::meta::{Timestamp, UploadRecord};
use crate::oci::{Algorithm, RepositoryName, UploadId};

/// What a session holds.
#[derive(Debug)]
pub enum State {
    /// Nothing was received yet.
    Empty,
    /// Bytes are in a staging file.
    Open(Box<dyn Staging>),
    /// Bytes are in a staging file that nobody has open, durable up to this offset.
    Suspended(u64),
    /// Finished, cancelled, or lost.
    Closed,
}

/// One upload session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: UploadId,
    /// The repository that it was opened in.
    pub repository: RepositoryName,
    /// What is hashed as bytes arrive.
    pub algorithm: Algorithm,
    /// When it was opened.
    pub started_at: Timestamp,
    /// Accumulated uptime at which it was opened.
    pub started_uptime_seconds: u64,
    offset: AtomicU64,
    durable: AtomicU64,
    /// A commit said so many bytes, and failed: it may be there after a crash all the same.
    doubtful: AtomicBool,
    writer: Mutex<CancellationToken>,
    state: tokio::sync::Mutex<State>,
}

/// The right to write to a session, until a newer request asks for it.
#[derive(Debug)]
pub struct Turn<'a> {
    /// What the session holds.
    pub state: MutexGuard<'a, State>,
    /// Cancelled when a newer request wants the session.
    pub superseded: CancellationToken,
}

impl Session {
    /// A new session without bytes.
    pub fn new(
        id: UploadId,
        repository: RepositoryName,
        algorithm: Algorithm,
        started_at: Timestamp,
        started_uptime_seconds: u64,
    ) -> Self {
        Self {
            id,
            repository,
            algorithm,
            started_at,
            started_uptime_seconds,
            offset: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            doubtful: AtomicBool::new(false),
            writer: Mutex::default(),
            state: tokio::sync::Mutex::new(State::Empty),
        }
    }

    /// The session of an earlier process.
    pub fn suspended(record: UploadRecord) -> Self {
        Self {
            id: record.id,
            repository: record.repository,
            algorithm: record.algorithm,
            started_at: record.started_at,
            started_uptime_seconds: record.started_uptime_seconds,
            offset: AtomicU64::new(record.offset),
            durable: AtomicU64::new(record.offset),
            doubtful: AtomicBool::new(false),
            writer: Mutex::default(),
            state: tokio::sync::Mutex::new(State::Suspended(record.offset)),
        }
    }

    /// Bytes received so far; exact whenever nobody is writing.
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Tells how many bytes were received.
    pub fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Release);
    }

    /// Bytes that its row says are durable.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Tells what its row says now.
    pub fn set_durable(&self, offset: u64) {
        self.durable.store(offset, Ordering::Release);
        self.doubtful.store(false, Ordering::Release);
    }

    /// Ends the request that writes now, and waits until it has kept its prefix (R5).
    pub async fn take_over(&self) -> Result<Turn<'_>> {
        let superseded = CancellationToken::new();
        let older = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *writer, superseded.clone())
        };
        older.cancel();
        let state = self.state.lock().await;
        if superseded.is_cancelled() {
            return Err(Error::UploadSuperseded);
        }
        match *state {
            State::Closed => return Err(Error::UploadUnknown),
            // What an abandoned request received beyond its durable bytes is gone.
            State::Suspended(offset) => self.set_offset(offset),
            State::Empty | State::Open(_) => {}
        }
        Ok(Turn { state, superseded })
    }

    /// The session, if nobody is writing to it.
    pub fn try_idle(&self) -> Option<MutexGuard<'_, State>> {
        self.state.try_lock().ok()
    }

    /// Closes its file, unless a request has it. What the file holds is durable by then.
    fn suspend(&self) {
        if let Some(mut state) = self.try_idle()
            && matches!(*state, State::Open(_))
        {
            *state = State::Suspended(self.durable());
        }
    }

    /// Whether its row may say more after a crash than [`Session::durable`].
    pub fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Acquire)
    }

    /// A commit of its row begins; [`Session::set_durable`] ends the doubt.
    pub fn set_doubtful(&self) {
        self.doubtful.store(true, Ordering::Release);
    }

    /// What the database is told: the bytes up to `offset` are durable.
    pub fn record(&self, offset: u64) -> UploadRecord {
        UploadRecord {
            id: self.id,
            repository: self.repository.clone(),
            offset,
            algorithm: self.algorithm,
            started_at: self.started_at,
            started_uptime_seconds: self.started_uptime_seconds,
        }
    }
}

/// The sessions of this process.
#[derive(Debug)]
pub struct Sessions {
    per_repository_max: usize,
    max: usize,
    open_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Entry {
    age: u64,
    /// Its key in [`Table::open`], if it is there.
    open_since: Option<u64>,
    session: Arc<Session>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    sessions: HashMap<UploadId, Entry>,
    counts: HashMap<RepositoryName, usize>,
    /// All by age, the oldest first.
    ages: BTreeMap<u64, UploadId>,
    /// Those without bytes.
    empty: BTreeMap<u64, UploadId>,
    /// Those that kept a file open after a request, the longest ago first.
    open: BTreeMap<u64, UploadId>,
}

impl Sessions {
    /// No sessions; at most `max` in all and `per_repository_max` in one repository, of which at
    /// most `open_max` keep a file open while no request has them.
    pub fn new(per_repository_max: usize, max: usize, open_max: usize) -> Self {
        Self { per_repository_max, max, open_max, table: Mutex::default() }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session. In a repository with too many, the oldest one without bytes makes room, and
    /// when all have bytes, the newcomer is refused with [`Error::TooManyUploads`]. When there are
    /// too many in all, the oldest idle one makes room: if it has bytes, it comes back from its
    /// row when it is asked for.
    pub fn insert(&self, session: Arc<Session>) -> Result<()> {
        let mut table = self.table();
        let in_repository = table.counts.get(&session.repository).copied().unwrap_or_default();
        if in_repository >= self.per_repository_max {
            let same = |other: &Session| other.repository == session.repository;
            let victim = table.oldest_idle(&table.empty, same);
            table.remove(victim.ok_or(Error::TooManyUploads)?);
        } else if table.sessions.len() >= self.max {
            let victim = table.oldest_idle(&table.ages, |_| true);
            table.remove(victim.ok_or(Error::TooManyUploads)?);
        }
        table.insert(session);
        Ok(())
    }

    /// The session of that id that was loaded or opened by this process.
    pub fn get(&self, id: UploadId) -> Option<Arc<Session>> {
        self.table().sessions.get(&id).map(|entry| Arc::clone(&entry.session))
    }

    /// Adds a session that is known from its row, unless a concurrent request has just done so.
    /// When there are too many, the oldest idle one goes back to its own; where none is idle,
    /// each belongs to a request, and those are bounded.
    pub fn adopt(&self, session: Session) -> Arc<Session> {
        let mut table = self.table();
        if let Some(existing) = table.sessions.get(&session.id) {
            return Arc::clone(&existing.session);
        }
        if table.sessions.len() >= self.max
            && let Some(victim) = table.oldest_idle(&table.ages, |_| true)
        {
            table.remove(victim);
        }
        let session = Arc::new(session);
        table.insert(Arc::clone(&session));
        session
    }

    /// The session has bytes now: it is no longer evicted.
    pub fn mark_filled(&self, id: UploadId) {
        let mut table = self.table();
        if let Some(age) = table.sessions.get(&id).map(|entry| entry.age) {
            table.empty.remove(&age);
        }
    }

    /// The session keeps its file open, for the next request. Beyond `open_max` such sessions the
    /// one that waits longest closes its file, and costs its next request a second hashing.
    pub fn keep_open(&self, id: UploadId) {
        let mut table = self.table();
        let table = &mut *table;
        table.next += 1;
        let Some(entry) = table.sessions.get_mut(&id) else { return };
        let before = entry.open_since.replace(table.next);
        before.map(|since| table.open.remove(&since));
        table.open.insert(table.next, id);
        while table.open.len() > self.open_max {
            let victim = table.open.pop_first().and_then(|(_, id)| table.sessions.get_mut(&id));
            let Some(victim) = victim else { continue };
            victim.open_since = None;
            victim.session.suspend();
        }
    }

    /// Forgets a session.
    pub fn remove(&self, id: UploadId) {
        self.table().remove(id);
    }

    /// Sessions opened before that accumulated uptime.
    pub fn started_before(&self, uptime_seconds: u64) -> Vec<Arc<Session>> {
        let table = self.table();
        let sessions = table.sessions.values().map(|entry| &entry.session);
        let old = sessions.filter(|session| session.started_uptime_seconds < uptime_seconds);
        let mut old: Vec<_> = old.map(Arc::clone).collect();
        old.sort_by_key(|session| session.id);
        old
    }
}

impl Table {
    fn insert(&mut self, session: Arc<Session>) {
        self.next += 1;
        *self.counts.entry(session.repository.clone()).or_default() += 1;
        self.ages.insert(self.next, session.id);
        if session.offset() == 0 {
            self.empty.insert(self.next, session.id);
        }
        let entry = Entry { age: self.next, open_since: None, session };
        self.sessions.insert(entry.session.id, entry);
    }

    fn remove(&mut self, id: UploadId) {
        let Some(Entry { age, open_since, session }) = self.sessions.remove(&id) else { return };
        open_since.map(|since| self.open.remove(&since));
        self.ages.remove(&age);
        self.empty.remove(&age);
        if let Some(count) = self.counts.get_mut(&session.repository) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&session.repository);
            }
        }
    }

    /// The oldest of these sessions that no request holds. Requests get theirs from this table
    /// alone, so one that only the table holds stays so while it is locked.
    fn oldest_idle(
        &self,
        ages: &BTreeMap<u64, UploadId>,
        wanted: impl Fn(&Session) -> bool,
    ) -> Option<UploadId> {
        let idle = |id: &UploadId| {
            let session = &self.sessions.get(id)?.session;
            (Arc::strong_count(session) == 1 && wanted(session)).then_some(*id)
        };
        ages.values().find_map(idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8, repository: &str) -> Arc<Session> {
        let repository = RepositoryName::parse(repository).unwrap();
        let id = UploadId::from_random([number; 16]);
        Arc::new(Session::new(id, repository, Algorithm::Sha256, Timestamp(0), u64::from(number)))
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn the_oldest_empty_session_of_the_repository_makes_room() {
        let sessions = Sessions::new(2, 10, 10);
        let ids = [(1, "b"), (2, "a"), (3, "a"), (4, "a")].map(|(number, repository)| {
            let session = session(number, repository);
            let id = session.id;
            sessions.insert(session).unwrap();
            id
        });
        assert!(sessions.get(ids[1]).is_none());
        for kept in [ids[0], ids[2], ids[3]] {
            assert!(sessions.get(kept).is_some());
        }
    }

    #[test]
    fn sessions_in_use_are_never_evicted() {
        let sessions = Sessions::new(1, 10, 10);
        let held = session(1, "a");
        sessions.insert(Arc::clone(&held)).unwrap();
        assert!(matches!(sessions.insert(session(2, "a")), Err(Error::TooManyUploads)));
        drop(held);
        sessions.insert(session(2, "a")).unwrap();
    }

    #[test]
    fn sessions_with_bytes_fill_a_repository_and_leave_memory_when_all_are_too_many() {
        let sessions = Sessions::new(2, 2, 2);
        for number in [1, 2] {
            let session = session(number, "a");
            let id = session.id;
            sessions.insert(session).unwrap();
            sessions.mark_filled(id);
        }
        assert!(matches!(sessions.insert(session(3, "a")), Err(Error::TooManyUploads)));
        sessions.insert(session(4, "b")).unwrap();
        assert!(sessions.get(session(1, "a").id).is_none());
    }

    #[test]
    fn sessions_that_come_back_from_their_rows_are_no_more_than_others() {
        let sessions = Sessions::new(10, 2, 2);
        let known = |number| Arc::into_inner(session(number, "a")).unwrap();
        let ids = [1, 2, 3].map(|number| sessions.adopt(known(number)).id);
        assert!(sessions.get(ids[0]).is_none());
        let held = [ids[1], ids[2]].map(|id| sessions.get(id).unwrap());
        let fourth = sessions.adopt(known(4)).id;
        assert!(sessions.get(fourth).is_some(), "all others are in use");
        drop(held);
    }

    #[tokio::test]
    async fn a_newer_request_ends_the_older_one() {
        let session = session(1, "a");
        let older = session.take_over().await.unwrap();
        let mut newer = std::pin::pin!(session.take_over());
        assert!(poll(newer.as_mut()).is_pending());
        assert!(older.superseded.is_cancelled());
        drop(older);
        let newer = newer.await.unwrap();
        assert!(!newer.superseded.is_cancelled());
    }

    #[tokio::test]
    async fn of_two_waiting_requests_only_the_newest_gets_the_session() {
        let session = session(1, "a");
        let holder = session.take_over().await.unwrap();
        let mut first = std::pin::pin!(session.take_over());
        let mut second = std::pin::pin!(session.take_over());
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        drop(holder);
        assert!(matches!(first.await, Err(Error::UploadSuperseded)));
        assert!(second.await.is_ok());
    }
}
