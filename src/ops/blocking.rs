//! The one way into blocking work.

/// How blocking work (files, hashing, commits) is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blocking {
    /// On the runtime's blocking threads.
    #[default]
    Pool,
    /// In place, after letting others go first: for simulation and for tests, where one thread
    /// makes every order repeatable.
    Inline,
}

impl Blocking {
    /// Runs `work` and returns what it returns; a panic in it continues in the caller.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Self::Inline => {
                tokio::task::yield_now().await;
                work()
            }
            Self::Pool => match tokio::task::spawn_blocking(work).await {
                Ok(value) => value,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only a runtime that is being dropped cancels blocking work.
                    Err(_) => std::future::pending().await,
                },
            },
        }
    }

    /// Starts `work` on a thread of its own, for loops that live as long as the process.
    /// `Inline` starts none: simulation drives such loops step by step.
    pub fn thread(self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        if self == Self::Pool {
            std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        }
        Ok(())
    }
}
