//! Time as an argument. Wall time is for display and tokens only; every age and timeout is
//! measured on the monotonic clock, so that a jump of the wall clock deletes nothing.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point of wall time: milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

/// Where time comes from.
pub trait Clock: Send + Sync + Debug + 'static {
    /// Wall time.
    fn now(&self) -> Timestamp;
    /// Time since this clock was made; never runs backwards.
    fn monotonic(&self) -> Duration;
    /// Completes after this much monotonic time.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that tests move by hand; sleeps never end by themselves.
#[cfg(any(test, feature = "conformance", feature = "sim"))]
#[derive(Debug, Default)]
pub struct ManualClock {
    monotonic_ms: std::sync::atomic::AtomicU64,
}

#[cfg(any(test, feature = "conformance", feature = "sim"))]
impl ManualClock {
    /// Lets this much time pass.
    pub fn advance(&self, duration: Duration) {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.monotonic_ms.fetch_add(milliseconds, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(any(test, feature = "conformance", feature = "sim"))]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.monotonic_ms.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now().0)
    }

    fn sleep(&self, _duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}
