//! SIGTERM and SIGINT. The first process of a container gets neither unless it asks for them.

use std::fmt;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, from now on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// A command was ended by a signal of that number.
#[derive(Debug)]
pub struct Interrupted(i32);

impl Signals {
    /// Only inside a runtime.
    pub fn new() -> io::Result<Self> {
        let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()];
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    /// Waits for either.
    pub async fn next(&mut self) -> Interrupted {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        Interrupted(kind.as_raw_value())
    }
}

/// Does `work`, unless a signal comes first.
pub async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut signals = Signals::new()?;
    tokio::select! {
        done = work => done,
        interrupted = signals.next() => Err(interrupted.into()),
    }
}

impl Interrupted {
    /// What a shell calls it: 128 and the number of the signal.
    pub fn exit_code(&self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; what was done until then stays done")
    }
}

impl std::error::Error for Interrupted {}
