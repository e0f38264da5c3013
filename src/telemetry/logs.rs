//! Logs: JSON for machines or lines for people, on standard error.

use std::io::{self, Write};

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Lines for people.
    Text,
}

/// Starts logging. `filter` has the grammar of `RUST_LOG`; what can't be parsed falls back to `info`.
///
/// Both formats escape control characters in values: a log line stays one line.
pub fn init_logs(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::registry().with(filter).with(lines(format, io::stderr)).try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
}

/// Writes events as lines of that format.
fn lines<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    match format {
        LogFormat::Json => Box::new(fmt::layer().json().flatten_event(true).with_writer(writer)),
        LogFormat::Text => Box::new(fmt::layer().with_ansi(false).with_writer(OneLine(writer))),
    }
}

/// Escapes control characters inside of an event, which the format for people leaves as they are in fields: words of an
/// API server or a registry must neither look like a line of ours nor paint the terminal.
struct OneLine<W>(W);

impl<'writer, W: MakeWriter<'writer>> MakeWriter<'writer> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'writer self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    /// One event, whole: so it is handed over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        let mut escaped = String::with_capacity(event.len());
        for character in String::from_utf8_lossy(line).chars() {
            if character.is_control() {
                escaped.extend(character.escape_default());
            } else {
                escaped.push(character);
            }
        }
        if line.len() < event.len() {
            escaped.push('\n');
        }
        self.0.write_all(escaped.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What one warning with these words of a stranger looks like.
    fn logged(format: LogFormat, words: &str) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::registry().with(lines(format, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("reconcile", kind = "PipelineRun").entered();
            tracing::warn!(error = %words, run = "a", "reconcile failed");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const FORGED: &str = "refused\r\n2026-01-01T00:00:00Z  INFO all is well\n\u{1b}[31mred";

    #[test]
    fn a_line_of_text_stays_one_line_and_names_what_happened() {
        let text = logged(LogFormat::Text, FORGED);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.ends_with('\n') && !text.contains(['\r', '\u{1b}']), "{text:?}");
        for part in ["WARN", "reconcile failed", "kind=\"PipelineRun\"", "refused\\r\\n2026"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_line_of_json_is_one_object_with_the_words_as_they_were() {
        let text = logged(LogFormat::Json, FORGED);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((line["level"].as_str(), line["error"].as_str()), (Some("WARN"), Some(FORGED)));
        assert_eq!((line["message"].as_str(), line["run"].as_str()), (Some("reconcile failed"), Some("a")));
    }
}
