//! What the fuzz targets share.
#![forbid(unsafe_code)]

pub mod damage;
pub mod model;
pub mod store;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kelson::ops::{Clock, Random, Timestamp};
use regex::Regex;
use tokio::runtime::Builder;
use tokio::time::Instant;

/// A pattern that matches whole texts.
pub fn whole(pattern: &str) -> Regex {
    Regex::new(&format!(r"(?s)\A(?:{pattern})\z")).expect("a pattern of ours")
}

/// Runs `work` on one thread, where time passes only while everything waits for it: timeouts are
/// met at once, and every run is the same.
pub fn virtual_time<T>(work: impl Future<Output = T>) -> T {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(work)
}

/// The clock of [`virtual_time`].
#[derive(Debug)]
pub struct VirtualClock(Instant);

impl VirtualClock {
    /// Starts now; needs the runtime.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Random bytes that count up, so that inputs can name upload ids that will come.
#[derive(Debug, Default)]
pub struct Numbered(AtomicU64);

impl Random for Numbered {
    fn bytes(&self) -> [u8; 16] {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        bytes
    }
}
