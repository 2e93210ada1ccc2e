//! `kelson fsck`: whether a store is sound, and repairing it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Value, json};

use super::admin::{self, Admin};
use super::display::Display;
use crate::registry::fsck::{FsckOptions, FsckReport};

/// What to check.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Configuration file of the registry. Without it: the environment variable
    /// REGISTRY_CONFIGURATION_PATH, else the image's file if it exists, else embedded defaults.
    #[arg(value_name = "CONFIG")]
    file: Option<PathBuf>,
    /// The same, as other commands take it.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Rebuild rows that follow from others, quarantine what is damaged, move files without a row
    /// to kelson/quarantine. Nothing that is right is removed.
    #[arg(long)]
    repair: bool,
    /// Read and hash the contents, too.
    #[arg(long)]
    read_data: bool,
    /// Read at most so much in a second.
    #[arg(long, value_name = "100MB/s", value_parser = budget, requires = "read_data")]
    budget: Option<u64>,
    /// Read only one part of the contents: 1/7 today, 2/7 tomorrow.
    #[arg(long, value_name = "N/PARTS", value_parser = subset, requires = "read_data")]
    subset: Option<(u32, u32)>,
    /// Print JSON, one object a line, the report last.
    #[arg(long)]
    json: bool,
}

/// Checks the store; whether it is sound.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut options = admin::options(arguments.config.or(arguments.file))?;
    // What redb would trust is what is to be checked.
    options.database.verify = true;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let asked = FsckOptions {
        repair: arguments.repair,
        read_data: arguments.read_data,
        bytes_per_second: arguments.budget,
        subset: arguments.subset,
    };
    let json = arguments.json;
    let report: FsckReport = runtime.block_on(Admin::with(options, async |admin| {
        let mut display = Display::new(out, json, json, describe);
        let report = admin.run("/fsck", &asked, &mut display).await;
        report.context("the store could not be checked")
    }))?;
    if json {
        let report = serde_json::to_value(report)?;
        writeln!(
            out,
            "{}",
            json!({ "kind": "report", "sound": is_sound(&report), "report": report })
        )?;
    } else {
        summarise(&report, out)?;
    }
    Ok(report.is_sound())
}

fn is_sound(report: &Value) -> bool {
    report["findings"] == report["repaired"]
}

fn summarise(report: &FsckReport, out: &mut dyn Write) -> std::io::Result<()> {
    let FsckReport { contents, read_bytes, findings, repaired, quarantined } = report;
    writeln!(out, "{contents} contents looked at, {read_bytes} bytes read")?;
    if *findings == 0 {
        return writeln!(out, "the store is sound");
    }
    writeln!(out, "{findings} findings, {repaired} repaired")?;
    if *quarantined > 0 {
        writeln!(out, "{quarantined} contents are quarantined: push them again to heal them")?;
    }
    Ok(())
}

fn describe(item: &Value) -> Option<String> {
    let text = |name: &str| item[name].as_str().unwrap_or_default();
    let action = item["action"].as_str().map_or_else(String::new, |action| format!("; {action}"));
    let left = if text("kind") == "left" { "not repaired: " } else { "" };
    Some(format!("{left}{}: {}: {}{action}", text("what"), text("about"), text("detail")))
}

/// `100MB/s`, `64MiB`, `1048576`: bytes per second.
fn budget(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    let amount = text.trim().trim_end_matches("/s");
    let unit = UNITS.iter().find_map(|(unit, size)| Some((amount.strip_suffix(unit)?, *size)));
    let (number, size) = unit.unwrap_or((amount, 1));
    let number: Option<u64> = number.trim().parse().ok();
    let budget = number.and_then(|number| number.checked_mul(size)).filter(|budget| *budget > 0);
    budget.ok_or_else(|| "a budget is a size per second, such as 100MB/s".to_owned())
}

/// `1/7`: the first of seven parts.
fn subset(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('/');
    let parsed =
        parts.and_then(|(number, parts)| Some((number.parse().ok()?, parts.parse().ok()?)));
    let valid = parsed.filter(|(number, parts): &(u32, u32)| (1..=*parts).contains(number));
    valid.ok_or_else(|| "a subset is one of equal parts, such as 1/7".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_and_subsets_are_read_or_refused() {
        let budgets = [("100MB/s", 100_000_000), ("64MiB", 64 << 20), ("7", 7), ("2 kB/s", 2000)];
        for (text, expected) in budgets {
            assert_eq!(budget(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "MB/s", "-1MB", "1XB", "99999999999GiB"] {
            assert!(budget(text).is_err(), "{text}");
        }
        assert_eq!(subset("1/7"), Ok((1, 7)));
        assert_eq!(subset("7/7"), Ok((7, 7)));
        for text in ["0/7", "8/7", "1", "/", "1/0", "a/b"] {
            assert!(subset(text).is_err(), "{text}");
        }
    }
}
