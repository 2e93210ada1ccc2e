//! `kelson explain`: who holds a content, and when it may go.

use std::io::Write;
use std::path::PathBuf;

use super::admin::{self, Admin};
use super::human;
use crate::oci::Digest;
use crate::registry::explain::{Explained, Held, Use};

/// Explains why a content is kept.
pub fn run(
    digest: &Digest,
    json: bool,
    config: Option<PathBuf>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let options = admin::options(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let explained: Explained = runtime.block_on(Admin::with(options, async |admin| {
        admin.get("/explain", &[("digest", Some(&digest.to_string()))]).await
    }))?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&explained)?)?;
        return Ok(());
    }
    show(&explained, out)
}

fn show(explained: &Explained, out: &mut dyn Write) -> anyhow::Result<()> {
    let Explained { digest, size_bytes, state, place, repositories, holders, .. } = explained;
    let place = match place.as_str() {
        "database" => "in the database",
        "both" => "in its file and in the database",
        _ => "in its file",
    };
    writeln!(out, "{digest}  {}  {state}, {place}", human::size(*size_bytes))?;
    if let Some(seconds) = explained.may_go_in_seconds {
        writeln!(out, "no repository has it: {}", when(seconds))?;
    }
    for held in holders {
        show_holder(held, out)?;
    }
    let more = repositories.saturating_sub(holders.len() as u64);
    if more > 0 {
        writeln!(out, "and {more} more repositories")?;
    }
    Ok(())
}

fn show_holder(held: &Held, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "{}", held.repository)?;
    for tag in &held.tags {
        writeln!(out, "  held by tag {tag}")?;
    }
    for parent in &held.parents {
        writeln!(out, "  held as {} of {}", parent.kind, parent.digest)?;
    }
    match (&held.subject, held.subject_is_there) {
        (Some(subject), true) => writeln!(out, "  held by its subject {subject}")?,
        (Some(subject), false) => writeln!(out, "  its subject {subject} is not there")?,
        (None, _) => {}
    }
    if held.more {
        writeln!(out, "  and by more")?;
    }
    waits("blob: no manifest of the repository refers to it", held.blob.as_ref(), out)?;
    waits("manifest: no tag, index or subject holds it", held.manifest.as_ref(), out)?;
    if let Some(seconds) = held.leased_seconds {
        let seconds = human::duration(seconds);
        writeln!(out, "  leased: a client was told that it is there; for {seconds}")?;
    }
    Ok(())
}

fn waits(what: &str, usage: Option<&Use>, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(seconds) = usage.and_then(|usage| usage.may_go_in_seconds) {
        writeln!(out, "  {what}; {}", when(seconds))?;
    }
    Ok(())
}

fn when(seconds: u64) -> String {
    match seconds {
        0 => "it may go now".to_owned(),
        seconds => format!("it may go in {}", human::duration(seconds)),
    }
}
