//! The figures, as the table that docs/performance.md shows.

/// One row per figure.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<[String; 3]>,
}

impl Table {
    /// Adds a figure and what is wanted of it (empty when nothing is).
    pub fn add(&mut self, what: &str, figure: String, bound: &str) {
        eprintln!("  {what}: {figure}{}", if bound.is_empty() { String::new() } else { format!(" (wanted {bound})") });
        self.rows.push([what.to_owned(), figure, bound.to_owned()]);
    }

    /// The table as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = "| What | Measured | Wanted |\n|---|---|---|\n".to_owned();
        for [what, figure, bound] in &self.rows {
            text.push_str(&format!("| {what} | {figure} | {bound} |\n"));
        }
        text
    }
}

/// The middle of some figures, and the smallest and largest beside it.
pub fn spread(figures: &[f64], unit: &str) -> String {
    let sorted = sorted(figures);
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(most)) => {
            format!("{:.2} {unit} ({least:.2}–{most:.2}, n = {})", quantile(figures, 0.5), sorted.len())
        }
        _ => "nothing measured".to_owned(),
    }
}

/// The figure below which this share of all lies.
pub fn quantile(figures: &[f64], share: f64) -> f64 {
    let sorted = sorted(figures);
    let place = ((sorted.len().max(1) - 1) as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}
