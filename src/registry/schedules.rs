//! Stripes and leases under every schedule that shuttle finds:
//! `cargo test --features shuttle --lib schedules`.
//!
//! Each rule is also left out once, and shuttle must then find the schedule that breaks it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use shuttle::future::{block_on, spawn};
use shuttle::sync::Mutex;

use super::lease::Leases;
use super::stripes::Stripes;
use crate::oci::{Algorithm, Digest, RepositoryName};

const SCHEDULES: usize = 2000;

/// Runs `test` under many schedules, the random and the adverse.
fn check(test: fn()) {
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, 3);
}

fn refute(mutant: fn()) {
    let found = catch_unwind(AssertUnwindSafe(|| check(mutant)));
    assert!(found.is_err(), "no schedule breaks it");
}

fn digest(number: u8) -> Digest {
    Digest::of(Algorithm::Sha256, &[number])
}

/// Where one content stands.
#[derive(Debug, Default)]
struct Content {
    /// Its row is there; `true`: live, else unlinking.
    row: Option<bool>,
    file: bool,
}

#[derive(Debug)]
struct Store {
    stripes: Stripes,
    content: Mutex<Content>,
}

impl Store {
    fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        let mut content = self.content.lock().unwrap();
        let answer = change(&mut content);
        // Facts never point at bytes that are not there (R1).
        assert!(content.row != Some(true) || content.file, "a live row without its file");
        answer
    }

    async fn upload(&self, takes_stripe: bool) {
        let _stripe = if takes_stripe { Some(self.stripes.lock(&digest(0)).await) } else { None };
        if self.with(|content| content.row != Some(true)) {
            self.with(|content| content.file = true);
        }
        self.with(|content| content.row = Some(true));
    }

    async fn collect(&self, takes_stripe: bool, looks_again: bool) {
        let doomed = self.with(|content| {
            content.row = content.row.map(|_| false);
            content.row.is_some()
        });
        if !doomed {
            return;
        }
        {
            let digest = digest(0);
            let stripe = self.stripes.lock(&digest);
            let _stripe = if takes_stripe { Some(stripe.await) } else { None };
            if self.with(|content| content.row == Some(false)) || !looks_again {
                self.with(|content| content.file = false);
            }
        }
        self.with(|content| {
            if content.row == Some(false) {
                content.row = None;
            }
        });
    }
}

/// Two uploads beside a collector; each may do without the stripe, the collector without
/// reading the row again.
fn upload_beside_collect(upload_takes: bool, collect_takes: bool, looks_again: bool) {
    block_on(async move {
        let content = Content { row: Some(true), file: true };
        let store = Store { stripes: Stripes::new(), content: Mutex::new(content) };
        let store = Arc::new(store);
        let uploads = [0, 1].map(|_| {
            let store = Arc::clone(&store);
            spawn(async move { store.upload(upload_takes).await })
        });
        store.collect(collect_takes, looks_again).await;
        for upload in uploads {
            upload.await.unwrap();
        }
    });
}

#[test]
fn a_file_goes_only_from_under_a_row_that_is_unlinking() {
    check(|| upload_beside_collect(true, true, true));
    refute(|| upload_beside_collect(false, true, true));
    refute(|| upload_beside_collect(true, false, true));
    refute(|| upload_beside_collect(true, true, false));
}

/// Two batches that name the same digests in opposite orders.
fn opposite_batches(at_once: bool) {
    block_on(async move {
        let stripes = Arc::new(Stripes::new());
        let batches = [[0, 1], [1, 0]].map(|order| {
            let stripes = Arc::clone(&stripes);
            spawn(async move {
                let digests = order.map(digest);
                if at_once {
                    let _held = stripes.lock_all(digests.iter()).await;
                    return;
                }
                let _first = stripes.lock(&digests[0]).await;
                let _second = stripes.lock(&digests[1]).await;
            })
        });
        for batch in batches {
            batch.await.unwrap();
        }
    });
}

#[test]
fn batches_never_wait_for_each_other_in_a_circle() {
    check(|| opposite_batches(true));
    refute(|| opposite_batches(false));
}

/// The time at which everything happens.
const NOW: Duration = Duration::from_secs(3600);

/// A link, as the database has it.
#[derive(Debug, Default)]
struct Link {
    held: bool,
    condemned: bool,
    /// Its grace began anew: it is not chosen again.
    young: bool,
    gone: bool,
}

#[derive(Debug)]
struct Leased {
    leases: Leases,
    repository: RepositoryName,
    link: Mutex<Link>,
}

/// What a client was told: whether it may rely on the link for a lease from now on.
type Told = bool;

impl Leased {
    fn transact<T>(&self, change: impl FnOnce(&mut Link) -> T) -> T {
        change(&mut self.link.lock().unwrap())
    }

    fn head(&self, lease_first: bool) -> Told {
        let read = || self.transact(|link| (link.gone, link.held, link.condemned));
        let early = (!lease_first).then(read);
        let lease = self.leases.take(&self.repository, &digest(0), NOW);
        match early.unwrap_or_else(read) {
            // Held: its grace, once that use ends, is as long as a lease. Not looked at here.
            (true, ..) | (_, true, _) => false,
            (_, _, false) => {
                lease.keep(NOW);
                true
            }
            (_, _, true) => self.transact(|link| {
                link.condemned = false;
                link.young = true;
                !link.gone
            }),
        }
    }

    fn collect(&self, looks: bool) {
        let condemned = self.transact(|link| {
            link.condemned = !link.held && !link.young;
            link.condemned
        });
        if !condemned {
            return;
        }
        let leased = self.leases.leased_until(&self.repository, &digest(0), NOW).is_some();
        self.transact(|link| {
            if leased && looks {
                link.condemned = false;
            }
            link.gone = link.condemned;
        });
    }
}

/// Two clients ask while the link loses its last use and the collector passes.
fn heads_beside_collect(lease_first: bool, looks: bool) {
    let leased = Leased {
        leases: Leases::new(NOW),
        repository: RepositoryName::parse("a").unwrap(),
        link: Mutex::new(Link { held: true, ..Link::default() }),
    };
    let leased = Arc::new(leased);
    let heads = [0, 1].map(|_| {
        let leased = Arc::clone(&leased);
        shuttle::thread::spawn(move || leased.head(lease_first))
    });
    leased.transact(|link| link.held = false);
    leased.collect(looks);
    let told = heads.map(|head| head.join().unwrap());
    assert!(!told.contains(&true) || leased.transact(|link| !link.gone), "told, and gone");
}

#[test]
fn what_a_client_was_told_stays() {
    check(|| heads_beside_collect(true, true));
    refute(|| heads_beside_collect(false, true));
    refute(|| heads_beside_collect(true, false));
}
