//! Instruments: time, randomness, blocking work, progress, shutdown, logs. Imports nothing of ours.

pub mod blocking;
pub mod clock;
pub mod limits;
pub mod progress;
pub mod random;
pub mod sync;
pub mod telemetry;

pub use blocking::Blocking;
pub use clock::{Clock, Timestamp};
pub use progress::Progress;
pub use random::Random;
