//! Instruments: time, randomness, blocking work, progress, shutdown, logs, metrics. Imports nothing
//! of ours.

pub mod blocking;
pub mod clock;
pub mod heap;
pub mod limits;
pub mod metrics;
pub mod progress;
pub mod random;
pub mod sync;
pub mod telemetry;

pub use blocking::Blocking;
pub use clock::{Clock, Timestamp};
pub use metrics::Metrics;
pub use progress::Progress;
pub use random::Random;
