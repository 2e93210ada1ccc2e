//! What a process has used, as `/proc` tells it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Memory in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident now.
    pub resident_bytes: u64,
    /// The most that ever was.
    pub peak_bytes: u64,
}

/// Memory of a process.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bytes = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.with_context(|| name.to_owned())?.trim().trim_end_matches("kB").trim();
        Ok(kib.parse::<u64>()? * 1024)
    };
    Ok(Memory { resident_bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")? })
}

/// Processor time of all its threads, user and system; in steps of a clock tick.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field, the name, may hold spaces; it ends at the last parenthesis.
    let (_, after) = text.rsplit_once(") ").context("no name in stat")?;
    let fields: Vec<_> = after.split(' ').collect();
    let ticks = |at: usize| -> Result<u64> { Ok(fields.get(at).context("too short")?.parse()?) };
    let per_second = rustix::param::clock_ticks_per_second();
    // Fields 14 and 15 (proc_pid_stat(5)), counted behind the name.
    let ticks = ticks(11)? + ticks(12)?;
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}
