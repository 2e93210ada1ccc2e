//! Leases: what clients were told that they need not upload (`docs/design/collector.md`).
//!
//! A lease is on (repository, digest), in memory. It is taken before the row is read, and stays
//! only when the row says that nothing holds what was asked for: so there are never more than
//! there is garbage, and requests that run. When there is no room for another, the collector
//! stands still for as long as a lease.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::oci::{Digest, RepositoryName};
use crate::ops::sync::{Mutex, MutexGuard};

/// Maps, so that requests rarely meet.
const SHARDS: usize = 64;

/// Leases at once, and repositories that have one; some 20 MiB of each.
const LEASES_MAX: usize = 100_000;

/// A lease lives on while an upload that was begun before its end receives bytes, but no longer
/// than this: nothing is uploaded for a week.
const EXTENDED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Uploads of a repository that were begun in the same quarter of a lease's duration count as one:
/// so a repository is a handful of groups, and one more for each upload that takes longer.
const GROUPS_PER_LEASE: u64 = 4;

type Key = (RepositoryName, Digest);

/// What is known of one (repository, digest).
#[derive(Debug, Default)]
struct Entry {
    /// Requests that have not read the row yet, or have not answered.
    requests: usize,
    /// The end of the newest lease that was kept, in time of the clock.
    until: Option<Duration>,
}

/// Uploads of a repository that has leases. Of others nothing is remembered: what was received
/// before a lease was taken cannot extend it.
#[derive(Debug, Default)]
struct Activity {
    /// The end of its newest lease, if no upload extends that.
    kept_until: Duration,
    /// When an upload of each group last received bytes.
    groups: BTreeMap<u64, Duration>,
}

/// All leases of this process.
#[derive(Debug)]
pub struct Leases {
    duration: Duration,
    leases_max: usize,
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<Key, Entry>>>,
    length: AtomicUsize,
    activity: Mutex<HashMap<RepositoryName, Activity>>,
    /// Until then nothing is collected: a lease found no room.
    closed_until_ms: AtomicU64,
}

/// A request's own lease. Dropping it gives it back; those of other requests stay.
#[derive(Debug)]
#[must_use = "a lease ends when it is dropped"]
pub struct Lease<'a> {
    leases: &'a Leases,
    /// `None`: there was no room, and the collector stands still instead.
    key: Option<Key>,
}

impl Lease<'_> {
    /// The row waits: the lease lives for as long as a lease does.
    pub fn keep(self, now: Duration) {
        let Some(key) = &self.key else { return };
        let until = now + self.leases.duration;
        if let Some(entry) = self.leases.shard(key).get_mut(key) {
            entry.until = entry.until.max(Some(until));
        }
        self.leases.await_uploads(&key.0, until, now);
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let mut shard = self.leases.shard(key);
        let Some(entry) = shard.get_mut(key) else { return };
        entry.requests = entry.requests.saturating_sub(1);
        if entry.requests == 0 && entry.until.is_none() {
            shard.remove(key);
            self.leases.length.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Leases {
    /// None yet; each lives for `duration`.
    pub fn new(duration: Duration) -> Self {
        Self {
            duration,
            leases_max: LEASES_MAX,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            length: AtomicUsize::new(0),
            activity: Mutex::new(HashMap::new()),
            closed_until_ms: AtomicU64::new(0),
        }
    }

    /// How long a lease lives.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Entry>> {
        let index = self.hasher.hash_one(key) % SHARDS as u64;
        self.shards[index as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn activity(&self) -> MutexGuard<'_, HashMap<RepositoryName, Activity>> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease, before the row is read; `now` is the clock's time.
    pub fn take(&self, repo: &RepositoryName, digest: &Digest, now: Duration) -> Lease<'_> {
        let key = (repo.clone(), *digest);
        let mut shard = self.shard(&key);
        if let Some(entry) = shard.get_mut(&key) {
            entry.requests += 1;
            drop(shard);
            return Lease { leases: self, key: Some(key) };
        }
        // Requests that meet here may be some too many, never many: each shard is locked.
        if self.length.load(Ordering::Relaxed) >= self.leases_max {
            drop(shard);
            self.close(now);
            return Lease { leases: self, key: None };
        }
        self.length.fetch_add(1, Ordering::Relaxed);
        shard.insert(key.clone(), Entry { requests: 1, until: None });
        drop(shard);
        Lease { leases: self, key: Some(key) }
    }

    fn close(&self, now: Duration) {
        let until = milliseconds(now + self.duration).saturating_add(1);
        if self.closed_until_ms.fetch_max(until, Ordering::AcqRel) < milliseconds(now) {
            tracing::warn!(
                lease_seconds = self.duration.as_secs(),
                "too many leases: nothing is collected for as long as one lasts"
            );
        }
    }

    /// From now on uploads of the repository are remembered.
    fn await_uploads(&self, repo: &RepositoryName, until: Duration, now: Duration) {
        let mut activity = self.activity();
        if let Some(known) = activity.get_mut(repo) {
            known.kept_until = known.kept_until.max(until);
        } else if activity.len() < self.leases_max {
            let groups = BTreeMap::new();
            activity.insert(repo.clone(), Activity { kept_until: until, groups });
        } else {
            drop(activity);
            self.close(now);
        }
    }

    /// An upload of the repository, begun at `begun`, received bytes. Zero: by an earlier process.
    pub fn touch(&self, repo: &RepositoryName, begun: Duration, now: Duration) {
        if let Some(known) = self.activity().get_mut(repo) {
            known.groups.insert(self.group(begun), now);
        }
    }

    fn group(&self, begun: Duration) -> u64 {
        milliseconds(begun) / (milliseconds(self.duration) / GROUPS_PER_LEASE).max(1)
    }

    /// Until when somebody relies on the digest in that repository; `None`: nobody does. Looked at
    /// after the commit that condemned it.
    pub fn leased_until(
        &self,
        repo: &RepositoryName,
        digest: &Digest,
        now: Duration,
    ) -> Option<Duration> {
        let closed = Duration::from_millis(self.closed_until_ms.load(Ordering::Acquire));
        let key = (repo.clone(), *digest);
        let own = match self.shard(&key).get(&key) {
            Some(entry) if entry.requests > 0 => Some(now + self.duration),
            Some(entry) => entry.until.map(|until| self.extended(repo, until)),
            None => None,
        };
        own.max(Some(closed)).filter(|until| *until > now)
    }

    /// The end of a lease whose client may have uploaded since. Uploads that were begun later are
    /// of other pushes: they must not keep the garbage of a repository that is never quiet.
    fn extended(&self, repo: &RepositoryName, until: Duration) -> Duration {
        let activity = self.activity();
        let begun_in_time = activity.get(repo).map(|of| of.groups.range(..=self.group(until)));
        let last = begun_in_time.into_iter().flatten().map(|(_, last)| *last).max();
        until.max((last.unwrap_or_default() + self.duration).min(until + EXTENDED_MAX))
    }

    /// Forgets what has ended.
    pub fn sweep(&self, now: Duration) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|(repo, _), entry| {
                let until = entry.until.map(|until| self.extended(repo, until));
                entry.until = entry.until.filter(|_| until > Some(now));
                entry.requests > 0 || entry.until.is_some()
            });
            self.length.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
        self.activity().retain(|_, Activity { kept_until, groups }| {
            groups.retain(|_, last| *last + self.duration > now);
            *kept_until > now || (!groups.is_empty() && *kept_until + EXTENDED_MAX > now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    const HOUR: Duration = Duration::from_secs(3600);

    fn repo(name: &str) -> RepositoryName {
        RepositoryName::parse(name).unwrap()
    }

    fn digest(n: u8) -> Digest {
        Digest::of(Algorithm::Sha256, &[n])
    }

    fn leases(leases_max: usize) -> Leases {
        Leases { leases_max, ..Leases::new(6 * HOUR) }
    }

    #[test]
    fn a_lease_holds_while_its_request_runs_and_as_long_as_it_is_kept() {
        let leases = leases(9);
        let until = |now| leases.leased_until(&repo("a"), &digest(1), now);
        assert_eq!(until(HOUR), None);
        let lease = leases.take(&repo("a"), &digest(1), HOUR);
        assert_eq!(until(90 * HOUR), Some(96 * HOUR));
        assert_eq!(leases.leased_until(&repo("b"), &digest(1), HOUR), None);
        drop(lease);
        assert_eq!(until(HOUR), None);
        leases.take(&repo("a"), &digest(1), HOUR).keep(HOUR);
        assert_eq!(until(6 * HOUR), Some(7 * HOUR));
        assert_eq!(until(7 * HOUR), None);
    }

    #[test]
    fn only_the_own_lease_is_given_back() {
        let leases = leases(9);
        let until = |now| leases.leased_until(&repo("a"), &digest(1), now);
        let earlier = leases.take(&repo("a"), &digest(1), HOUR);
        leases.take(&repo("a"), &digest(1), HOUR).keep(HOUR);
        drop(earlier);
        assert_eq!(until(2 * HOUR), Some(7 * HOUR));
        // An older one that is kept later does not shorten it.
        let running = leases.take(&repo("a"), &digest(1), 2 * HOUR);
        running.keep(Duration::ZERO);
        assert_eq!(until(2 * HOUR), Some(7 * HOUR));
    }

    #[test]
    fn bytes_of_an_upload_of_the_repository_extend_its_leases_for_a_week_at_most() {
        let leases = leases(9);
        let until = |now| leases.leased_until(&repo("a"), &digest(1), now);
        leases.take(&repo("a"), &digest(1), HOUR).keep(HOUR);
        leases.touch(&repo("b"), 6 * HOUR, 6 * HOUR);
        leases.touch(&repo("a"), 2 * HOUR, 5 * HOUR);
        assert_eq!(until(6 * HOUR), Some(11 * HOUR));
        leases.sweep(8 * HOUR);
        assert_eq!(until(8 * HOUR), Some(11 * HOUR));
        leases.touch(&repo("a"), 2 * HOUR, 1000 * HOUR);
        assert_eq!(until(8 * HOUR), Some(7 * HOUR + EXTENDED_MAX));
    }

    #[test]
    fn uploads_that_were_begun_after_its_end_do_not_extend_a_lease() {
        let leases = leases(1000);
        let until = |now| leases.leased_until(&repo("a"), &digest(1), now);
        leases.take(&repo("a"), &digest(1), HOUR).keep(HOUR);
        for hour in 1..100 {
            let now = hour * HOUR + HOUR / 2;
            leases.touch(&repo("a"), hour * HOUR, now);
            leases.sweep(now);
            // The last one that counts was begun at seven, and sent at half past.
            assert_eq!(until(now).is_some(), hour < 13, "{hour}");
        }
        leases.take(&repo("a"), &digest(1), 100 * HOUR).keep(100 * HOUR);
        leases.touch(&repo("a"), Duration::ZERO, 103 * HOUR);
        assert_eq!(until(104 * HOUR), Some(109 * HOUR), "by an upload of an earlier process");
    }

    #[test]
    fn uploads_that_are_begun_all_the_time_are_counted_in_groups() {
        let leases = leases(1000);
        let groups = || leases.activity().values().map(|of| of.groups.len()).sum::<usize>();
        leases.take(&repo("a"), &digest(1), Duration::ZERO).keep(Duration::ZERO);
        for second in 0..24 * 3600 {
            let now = Duration::from_secs(second);
            leases.touch(&repo("a"), now, now);
        }
        assert_eq!(groups(), 16);
        leases.sweep(24 * HOUR);
        assert_eq!(groups(), 4);
        leases.touch(&repo("a"), HOUR, 29 * HOUR);
        leases.sweep(30 * HOUR);
        assert_eq!(groups(), 1, "that of the upload that goes on");
        leases.sweep(35 * HOUR);
        assert!(leases.activity().is_empty());
    }

    #[test]
    fn what_has_ended_makes_room() {
        let leases = leases(2);
        leases.take(&repo("a"), &digest(1), HOUR).keep(HOUR);
        leases.take(&repo("a"), &digest(2), HOUR).keep(2 * HOUR);
        leases.sweep(7 * HOUR);
        assert_eq!(leases.length.load(Ordering::Relaxed), 1);
        leases.take(&repo("a"), &digest(3), 8 * HOUR).keep(8 * HOUR);
        assert_eq!(leases.leased_until(&repo("z"), &digest(9), 8 * HOUR), None);
    }

    #[test]
    fn nothing_is_collected_when_a_lease_finds_no_room() {
        let leases = leases(1);
        leases.take(&repo("a"), &digest(1), HOUR).keep(HOUR);
        leases.take(&repo("a"), &digest(2), 2 * HOUR).keep(2 * HOUR);
        let until = |now| leases.leased_until(&repo("z"), &digest(9), now);
        assert!(until(8 * HOUR).is_some());
        assert_eq!(until(9 * HOUR), None);
    }

    /// Every name would otherwise be one, and any client could keep the collector from working.
    #[test]
    fn uploads_to_repositories_without_a_lease_are_not_remembered() {
        let leases = leases(2);
        let until = |now| leases.leased_until(&repo("z"), &digest(9), now);
        for name in ["a", "b", "c", "d"] {
            leases.touch(&repo(name), HOUR, HOUR);
        }
        assert!(leases.activity().is_empty());
        assert_eq!(until(HOUR), None);
        leases.take(&repo("a"), &digest(1), HOUR).keep(HOUR);
        leases.touch(&repo("a"), Duration::ZERO, 2 * HOUR);
        leases.sweep(9 * HOUR);
        assert!(leases.activity().is_empty(), "the lease has ended, and so has the upload");
        leases.take(&repo("a"), &digest(1), 10 * HOUR).keep(10 * HOUR);
        for hour in 10..400 {
            leases.touch(&repo("a"), 10 * HOUR, hour * HOUR);
            leases.sweep(hour * HOUR);
            assert_eq!(leases.activity().is_empty(), hour * HOUR >= 16 * HOUR + EXTENDED_MAX);
        }
    }

    #[test]
    fn requests_that_meet_count_right() {
        let leases = std::sync::Arc::new(leases(1000));
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let leases = &leases;
                scope.spawn(move || {
                    for n in 0..200_u8 {
                        let lease = leases.take(&repo("a"), &digest(n % 7), HOUR);
                        if n % 50 == thread {
                            lease.keep(HOUR);
                        }
                    }
                });
            }
        });
        let kept = leases.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>();
        assert_eq!(leases.length.load(Ordering::Relaxed), kept);
        leases.sweep(8 * HOUR);
        assert_eq!(leases.length.load(Ordering::Relaxed), 0);
    }
}
