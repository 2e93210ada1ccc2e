//! Commands. Only here and in `main` errors are plain texts with their causes.

mod admin;
mod backup;
mod config_check;
mod display;
mod explain;
mod fsck;
mod garbage_collect;
mod health;
mod human;
mod ls;
mod migrate;
mod restore;
mod serve;
mod signals;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::oci::Digest;

/// A container registry that replaces `registry:2` in place.
///
/// Blobs are content-addressed files, everything else is one transactional database; pushes
/// survive a power cut, and listings are instant.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Try it:
  kelson serve                                  a registry on 127.0.0.1:5000, store in ./kelson-data
  docker push 127.0.0.1:5000/busybox            from another terminal
  kelson ls                                     what is in it

Exit codes: 0 done; 1 it failed, the message says why and what to do; 2 the command line is wrong;
3 what was checked is not as it should be; 130 and 143 it was ended by SIGINT or SIGTERM.";

/// What was checked is not as it should be.
const FINDINGS: u8 = 3;

/// Where the configuration comes from.
#[derive(Debug, Clone, clap::Args)]
struct ConfigArg {
    /// Configuration file in distribution's format. Without it: the environment variable
    /// REGISTRY_CONFIGURATION_PATH, else embedded defaults. REGISTRY_* variables override it.
    config: Option<PathBuf>,
}

/// The configuration of commands whose argument is something else.
#[derive(Debug, Clone, clap::Args)]
struct ConfigOption {
    /// Configuration file of the registry. Without it: the environment variable
    /// REGISTRY_CONFIGURATION_PATH, else the image's file if it exists, else embedded defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the registry until it gets SIGTERM or SIGINT.
    Serve(ConfigArg),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List repositories, or the tags, manifests and blobs of one. Works beside a running server.
    Ls {
        /// The repository to look into; without it, all repositories are listed.
        repository: Option<String>,
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Check that a store is sound: facts against each other, rows against files, contents against
    /// their digests. Works beside a running server and without one.
    ///
    /// Exit codes: 0 sound, or everything found was repaired; 3 something is not as it should be:
    /// see the findings; 1 the check failed; 2 the command line is wrong.
    Fsck(fsck::Arguments),
    /// Remove what nothing needs any more, beside a running server or without one.
    ///
    /// A server does so by itself; this shows what is left, deletes untagged manifests on demand,
    /// or works without a server. What lost its last use less than kelson.gc.grace ago is kept.
    #[command(name = "garbage-collect")]
    GarbageCollect(garbage_collect::Arguments),
    /// Tell who holds a content (repositories, manifests, tags, leases), and when it may go.
    Explain {
        /// Of a blob or a manifest.
        #[arg(value_parser = parse_digest)]
        digest: Digest,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Back up the store while it is being pushed to, list or verify backups. Works beside a
    /// running server.
    Backup(backup::Arguments),
    /// Make a store out of a backup, or a lost metadata.redb out of an export.
    Restore(restore::Arguments),
    /// Tell the schema of the store, or bring it up to this release's.
    Migrate(migrate::Arguments),
    /// Ask the running server whether it is ready: exit code 0 if so, 1 if not.
    Health(ConfigOption),
    /// List where a build for the crash tests can be made to die.
    #[cfg(feature = "failpoints")]
    Failpoints,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective settings and where each came from; fail on a wrong one.
    Check {
        #[command(flatten)]
        config: ConfigArg,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Whether all it does is in its output: a reader that has seen enough has all it wanted. Of
    /// others the exit code says whether the work was done.
    fn only_shows(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Ls { .. } | Self::Explain { .. } | Self::Health(_))
    }
}

/// Parses the command line and runs it.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // Not locked: the access log of `serve` is written to it from another thread.
    let out = &mut std::io::LineWriter::new(std::io::stdout());
    let only_shows = cli.command.only_shows();
    let result = match cli.command {
        Command::Serve(config) => serve::run(config.config.as_deref()),
        Command::Config(ConfigCommand::Check { config, json }) => {
            let messages = &mut std::io::stderr().lock();
            config_check::run(config.config.as_deref(), json, out, messages).map_err(Into::into)
        }
        Command::Ls { repository, json, config } => ls::run(repository, json, config.config, out),
        Command::Fsck(arguments) => match fsck::run(arguments, out) {
            Ok(false) => return ExitCode::from(FINDINGS),
            other => other.map(|_| ()),
        },
        Command::Explain { digest, json, config } => {
            explain::run(&digest, json, config.config, out)
        }
        Command::GarbageCollect(arguments) => garbage_collect::run(arguments, out),
        Command::Backup(arguments) => match backup::run(arguments, out) {
            Ok(false) => return ExitCode::from(FINDINGS),
            other => other.map(|_| ()),
        },
        Command::Restore(arguments) => restore::run(arguments, out),
        Command::Migrate(arguments) => migrate::run(arguments, out),
        Command::Health(config) => health::run(config.config, out),
        #[cfg(feature = "failpoints")]
        Command::Failpoints => crate::disk::failpoint::list()
            .try_for_each(|line| writeln!(out, "{line}"))
            .map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if only_shows && is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            let interrupted = error.downcast_ref::<signals::Interrupted>();
            interrupted.map_or(ExitCode::FAILURE, |it| ExitCode::from(it.exit_code()))
        }
    }
}

fn parse_digest(text: &str) -> Result<Digest, String> {
    Digest::parse(text).map_err(|error| error.to_string())
}

/// Whether the reader of our output, such as `head`, has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
