//! The allocator's heaps.
//!
//! glibc gives its threads up to eight heaps a processor and reserves 64 MiB of addresses for each:
//! more than a gigabyte on two processors, and each keeps what was freed in it. It takes another
//! number from its environment only, when a program starts (`mallopt` is not safe code).

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// glibc's variable for the number of heaps.
const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// Enough that threads seldom wait for each other: most bytes are in buffers of their own.
const HEAPS: &str = "2";

/// Starts this program again in its place with few heaps, unless its environment says how many
/// there are. To be called before anything else; returns where it cannot be done.
pub fn limit() {
    if !cfg!(target_env = "gnu") || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("kelson"));
    // As it is now, even if another release has taken its place on the disk.
    let mut again = Command::new("/proc/self/exe");
    let error = again.arg0(name).args(arguments).env(VARIABLE, HEAPS).exec();
    tracing::debug!(%error, "the number of heaps is as it is");
}
