//! Limits of the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open whatever clients do: the store's, logs, sockets, a spill, syncs.
const OWN_FILES: u64 = 64;

/// Raises the soft limit of open files to the hard one; returns what holds now.
pub fn raise_open_files() -> std::io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The limit of open files that holds now.
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many files clients may keep open in which way, so that none of it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// Connections, each with a file that it sends or receives.
    pub connections: usize,
    /// Uploads that wait for their next request.
    pub uploads: usize,
}

impl OpenFiles {
    /// Under this limit of open files.
    pub fn within(limit: u64) -> Self {
        let files = limit.saturating_sub(OWN_FILES);
        let uploads = (files / 4).clamp(1, 1024);
        let connections = (files.saturating_sub(uploads) / 2).max(1);
        let count = |files| usize::try_from(files).unwrap_or(usize::MAX);
        Self { connections: count(connections), uploads: count(uploads) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_may_open_fits_under_the_limit() {
        for limit in [0, 64, 70, 256, 1024, 20_000, 1_048_576, u64::MAX] {
            let OpenFiles { connections, uploads } = OpenFiles::within(limit);
            let all = (connections as u64).saturating_mul(2) + uploads as u64;
            assert!(all + OWN_FILES <= limit.max(OWN_FILES + 3), "{limit}: {all}");
            assert!(connections >= 1 && uploads >= 1);
        }
        assert_eq!(OpenFiles::within(256), OpenFiles { connections: 72, uploads: 48 });
    }
}
