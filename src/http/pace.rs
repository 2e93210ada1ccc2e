//! Whether a peer keeps up: an alarm clock for one connection, and its least rate of bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::ops::Clock;

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Wakes a task at a point of monotonic time. One sleep serves many deadlines: it is only set
/// anew when a deadline comes before it.
pub struct Alarm {
    clock: Arc<dyn Clock>,
    sleep: Option<(Duration, Sleep)>,
}

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarm").finish_non_exhaustive()
    }
}

impl Alarm {
    /// Set to no time yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sleep: None }
    }

    /// Monotonic time.
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Ready once it is `deadline`; else the task is woken then, or a little too early.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Duration) -> Poll<()> {
        loop {
            let now = self.clock.monotonic();
            if now >= deadline {
                return Poll::Ready(());
            }
            let (_, sleep) = match &mut self.sleep {
                Some(set) if set.0 <= deadline => set,
                stale => stale.insert((deadline, self.clock.sleep(deadline - now))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
    }
}

/// The least rate at which a peer must take or give bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes per second, on average over a window. Zero turns the check off.
    pub bytes_per_second: u64,
    /// The window.
    pub window: Duration,
}

impl Rate {
    /// Fewer bytes in a window are too few; at least one must come.
    fn least_size_bytes(&self) -> u64 {
        let window_ms = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        (self.bytes_per_second.saturating_mul(window_ms) / 1000).max(1)
    }
}

/// Measures a peer against a rate. Only time spent waiting for the peer counts, so that a slow
/// disk on our side is never held against it.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    size_bytes: u64,
    waited: Duration,
    waiting_since: Option<Duration>,
}

impl Pace {
    /// With a window that starts when the peer is first waited for.
    pub fn new(rate: Rate) -> Self {
        Self { rate, size_bytes: 0, waited: Duration::ZERO, waiting_since: None }
    }

    /// Starts over, for the next body.
    pub fn reset(&mut self) {
        *self = Self::new(self.rate);
    }

    /// So many bytes moved.
    pub fn moved(&mut self, size_bytes: usize, alarm: &Alarm) {
        self.size_bytes += size_bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += alarm.now().saturating_sub(since);
        }
    }

    /// None could move. Ready when the peer was too slow over a whole window.
    pub fn poll_waiting(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<()> {
        if self.rate.bytes_per_second == 0 {
            return Poll::Pending;
        }
        loop {
            let since = *self.waiting_since.get_or_insert_with(|| alarm.now());
            let left = self.rate.window.saturating_sub(self.waited);
            if alarm.poll(cx, since + left).is_pending() {
                return Poll::Pending;
            }
            if self.size_bytes < self.rate.least_size_bytes() {
                return Poll::Ready(());
            }
            self.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::ops::clock::SystemClock;

    const WINDOW: Duration = Duration::from_secs(2);

    fn alarm() -> Alarm {
        Alarm::new(Arc::new(SystemClock::start()))
    }

    async fn wait(pace: &mut Pace, alarm: &mut Alarm, at_most: Duration) -> bool {
        let slow = poll_fn(|cx| pace.poll_waiting(cx, alarm));
        tokio::time::timeout(at_most, slow).await.is_ok()
    }

    #[tokio::test]
    async fn a_peer_that_gives_nothing_is_too_slow_after_one_window() {
        let (mut alarm, rate) = (alarm(), Rate { bytes_per_second: 1, window: WINDOW / 20 });
        let mut pace = Pace::new(rate);
        assert!(wait(&mut pace, &mut alarm, WINDOW).await);
    }

    #[tokio::test]
    async fn a_peer_at_the_rate_is_not_too_slow() {
        let rate = Rate { bytes_per_second: 10, window: Duration::from_secs(1) };
        let (mut alarm, mut pace) = (alarm(), Pace::new(rate));
        for _ in 0..6 {
            assert!(!wait(&mut pace, &mut alarm, Duration::from_millis(250)).await);
            pace.moved(5, &alarm);
        }
        assert!(wait(&mut pace, &mut alarm, Duration::from_secs(2)).await);
    }

    #[tokio::test]
    async fn no_rate_means_no_check() {
        let (mut alarm, rate) = (alarm(), Rate { bytes_per_second: 0, window: WINDOW / 100 });
        let mut pace = Pace::new(rate);
        assert!(!wait(&mut pace, &mut alarm, WINDOW / 10).await);
    }

    #[tokio::test]
    async fn time_not_spent_waiting_does_not_count() {
        let rate = Rate { bytes_per_second: 100, window: Duration::from_secs(1) };
        let (mut alarm, mut pace) = (alarm(), Pace::new(rate));
        assert!(!wait(&mut pace, &mut alarm, Duration::from_millis(1)).await);
        pace.moved(1, &alarm);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert!(!wait(&mut pace, &mut alarm, Duration::from_millis(100)).await);
    }

    #[tokio::test]
    async fn an_earlier_deadline_replaces_a_later_one() {
        let mut alarm = alarm();
        let soon = alarm.now() + Duration::from_millis(20);
        let poll = poll_fn(|cx| {
            assert!(alarm.poll(cx, soon + Duration::from_secs(3600)).is_pending());
            alarm.poll(cx, soon)
        });
        assert!(tokio::time::timeout(Duration::from_secs(5), poll).await.is_ok());
    }
}
