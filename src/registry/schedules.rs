//! Stripes under every schedule that shuttle finds: `cargo test --features shuttle schedules`.
//!
//! Each rule is also left out once, and shuttle must then find the schedule that breaks it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use shuttle::future::{block_on, spawn};
use shuttle::sync::Mutex;

use super::stripes::Stripes;
use crate::oci::{Algorithm, Digest};

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
