//! What the demo says while it runs, and the table at its end.

use std::time::Duration;

use crate::host::progress::{Progress, seconds};

struct Row {
    mark: &'static str,
    what: String,
    detail: String,
    after: Duration,
}

/// Tells the acts and remembers what was shown.
pub struct Narration<'a> {
    progress: &'a Progress,
    rows: Vec<Row>,
    act: Option<String>,
}

impl<'a> Narration<'a> {
    /// Nothing was shown yet.
    pub fn new(progress: &'a Progress) -> Self {
        Self { progress, rows: Vec::new(), act: None }
    }

    /// Begins an act; it counts as failed until something is shown.
    pub fn act(&mut self, title: &str, text: &str) {
        eprintln!();
        self.progress.say(format!("{}. {title}. {text}", self.rows.len() + 1));
        self.act = Some(title.to_owned());
    }

    /// One line within an act.
    pub fn say(&self, text: impl AsRef<str>) {
        self.progress.say(format!("   {}", text.as_ref()));
    }

    /// Ends an act with what it has shown.
    pub fn shown(&mut self, what: &str, detail: impl Into<String>) {
        self.end("shown", what, detail.into());
    }

    /// An act that this cluster can't show.
    pub fn left_out(&mut self, what: &str, why: &str) {
        self.end("left out", what, why.to_owned());
    }

    /// The table of all acts.
    pub fn print_table(&mut self) {
        if let Some(act) = self.act.take() {
            self.end("FAILED", &act, String::new());
        }
        println!("\n  {:<9} {:<62} {:>12}", "", "What", "After");
        for row in &self.rows {
            println!("  {:<9} {:<62} {:>12}", row.mark, row.what, seconds(row.after));
            if !row.detail.is_empty() {
                println!("  {:<9}   {}", "", row.detail);
            }
        }
        println!();
    }

    fn end(&mut self, mark: &'static str, what: &str, detail: String) {
        if mark == "shown" {
            self.say(format!("shown: {what}: {detail}"));
        }
        self.act = None;
        self.rows.push(Row { mark, what: what.to_owned(), detail, after: self.progress.elapsed() });
    }
}
