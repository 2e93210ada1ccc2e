//! Locks whose order matters: the feature `shuttle` puts in others, under which tests decide who
//! runs next at each of them.

#[cfg(feature = "shuttle")]
pub use shuttle::sync::{Mutex, MutexGuard};
#[cfg(feature = "shuttle")]
pub use shuttle_tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
#[cfg(not(feature = "shuttle"))]
pub use std::sync::{Mutex, MutexGuard};
#[cfg(not(feature = "shuttle"))]
pub use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
