//! What a long command shows while it runs: a progress bar on a terminal, and what is found as
//! lines of text or JSON.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::ops::progress::{Event, Unit};

/// How often a bar moves that has nothing to count.
const TICK: Duration = Duration::from_millis(200);

/// Turns an item into a line for people; `None` shows nothing.
pub type Describe = fn(&Value) -> Option<String>;

/// Where a long command shows its news.
pub struct Display<'a> {
    out: &'a mut dyn Write,
    bar: ProgressBar,
    /// `None`: items are shown as JSON, one object a line.
    describe: Option<Describe>,
}

impl<'a> Display<'a> {
    /// Items go to `out`, as JSON or as `describe` says; the bar to standard error, if that is a
    /// terminal and `quiet` is not asked for.
    pub fn new(out: &'a mut dyn Write, json: bool, quiet: bool, describe: Describe) -> Self {
        let bar = ProgressBar::no_length();
        if quiet || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { out, bar, describe: (!json).then_some(describe) }
    }

    /// Shows one piece of news.
    pub fn show(&mut self, event: Event) -> std::io::Result<()> {
        match event {
            Event::Phase { name, total, unit } => self.begin(name, total, unit),
            Event::Advance { done } => self.bar.set_position(done),
            Event::Item { item } => return self.item(&item),
        }
        Ok(())
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn begin(&self, name: String, total: Option<u64>, unit: Unit) {
        let template = match (total, unit) {
            (None, Unit::Items) => "{spinner} {msg}: {human_pos}",
            (None, Unit::Bytes) => "{spinner} {msg}: {binary_bytes} at {binary_bytes_per_sec}",
            (Some(_), Unit::Items) => "{msg} [{bar:30}] {human_pos}/{human_len}, {eta} left",
            (Some(_), Unit::Bytes) => {
                "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} \
                 at {binary_bytes_per_sec}, {eta} left"
            }
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_message(name);
        self.bar.enable_steady_tick(TICK);
    }

    fn item(&mut self, item: &Value) -> std::io::Result<()> {
        let line = match self.describe {
            None => Some(item.to_string()),
            Some(describe) => describe(item),
        };
        let Some(line) = line else { return Ok(()) };
        let Self { out, bar, .. } = self;
        bar.suspend(|| writeln!(out, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(json: bool) -> String {
        let mut out = Vec::new();
        let describe = |item: &Value| item["name"].as_str().map(|name| format!("found {name}"));
        let mut display = Display::new(&mut out, json, true, describe);
        let phase = Event::Phase { name: "looking".to_owned(), total: None, unit: Unit::Bytes };
        for event in [
            phase,
            Event::Item { item: json!({ "kind": "thing", "name": "a" }) },
            Event::Advance { done: 7 },
            Event::Item { item: json!({ "kind": "nothing to say" }) },
        ] {
            display.show(event).unwrap();
        }
        display.finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn items_are_lines_for_people_or_for_scripts() {
        assert_eq!(shown(false), "found a\n");
        assert_eq!(
            shown(true),
            "{\"kind\":\"thing\",\"name\":\"a\"}\n{\"kind\":\"nothing to say\"}\n"
        );
    }
}
