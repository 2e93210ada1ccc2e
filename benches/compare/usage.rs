//! What a process has used, as `/proc` tells it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Resident memory in bytes.
///
/// # Errors
/// There is no such process.
pub fn memory_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib = line.trim().trim_end_matches("kB").trim();
    Ok(kib.parse::<u64>()? * 1024)
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
