//! Reads head and tail of a container's log in bounded memory, whatever the container prints.
//!
//! The API server hands a log out from its start, or from a number of lines before its end; not from a number of bytes
//! before its end, and not how long it is. So what is not short is read twice: its first MiB, and so many last lines as
//! should fit into another one.

use super::LogError;
use crate::agent::{Log, PART_BYTES};
use crate::cluster::Cluster;

/// The most that is read at once, in bytes. What is not longer is known as a whole.
pub(super) const ONCE: usize = 1 << 20;
/// How many last lines are asked for first: a whole tail of lines of 64 to 256 bytes.
const LINES: u32 = 4096;
/// How many are asked for when not one line ended in what was read: kubelet counts each 16 KiB of it as one.
const LINES_WITHOUT_END: u32 = 16;
/// How often a tail is asked for.
const TRIES: u32 = 5;
/// Kubelet's own words in place of a log that it does not have any more; they come with the status of success.
const UNRETRIEVABLE: &[u8] = b"unable to retrieve container logs for ";

/// The log as it is now. `None`: nothing was printed.
///
/// # Errors
/// When kubelet does not have it any more, or the API server or kubelet refuses, does not answer in time or breaks off.
pub(super) async fn read(cluster: &Cluster, container: [&str; 3]) -> Result<Option<Log>, LogError> {
    let mut first = Edges::default();
    let is_whole = cluster.read_log(container, None, ONCE, |part| first.take(part)).await?;
    let first = first.ended();
    if first.lines <= 1 && first.head.starts_with(UNRETRIEVABLE) {
        return Err(LogError::Gone);
    }
    if first.head.is_empty() {
        return Ok(None);
    }
    if is_whole {
        return Ok(Some(Log::new(first.head, first.tail, Some(first.left_out))));
    }
    Ok(Some(Log::new(first.head, tail(cluster, container).await?, None)))
}

/// The last lines, as long as a tail may be where that can be had.
async fn tail(cluster: &Cluster, container: [&str; 3]) -> Result<Vec<u8>, LogError> {
    let mut lines = LINES;
    // The most lines that were read to their end, with what they are, and the fewest that were not.
    let mut whole: Option<(u32, Vec<u8>)> = None;
    let mut cut = None;
    for _ in 0..TRIES {
        let mut read = Edges { is_tail: true, ..Edges::default() };
        let is_whole = cluster.read_log(container, Some(lines), ONCE, |part| read.take(part)).await?;
        let read = read.ended();
        let is_enough = is_whole && read.tail.len() >= PART_BYTES;
        let ended = read.lines;
        if is_whole {
            whole = Some((lines, read.tail));
        } else {
            cut = Some((lines, ended, read.tail));
        }
        let next = match (&whole, &cut) {
            (Some((fine, tail)), None) => more(*fine, tail.len()),
            (None, Some((many, ended, _))) => fewer(*many, *ended),
            (Some((fine, tail)), Some((many, ..))) => more(*fine, tail.len()).min(between(*fine, *many)),
            (None, None) => lines,
        };
        if is_enough || next == lines {
            break;
        }
        lines = next;
    }
    // Of a log that outruns whoever reads it there is no end: what was read last of it.
    Ok(whole.map(|(_, tail)| tail).or(cut.map(|(_, _, tail)| tail)).unwrap_or_default())
}

/// How many lines give a whole tail, when so many gave so few bytes.
fn more(lines: u32, bytes: usize) -> u32 {
    let wanted = u64::from(lines).saturating_mul(length(2 * PART_BYTES)) / length(bytes).max(1);
    u32::try_from(wanted).unwrap_or(u32::MAX).clamp(lines, u32::try_from(PART_BYTES).unwrap_or(u32::MAX).max(lines))
}

/// How many lines give a tail that can be read to its end, when so many gave more than is read, of which so many ended.
fn fewer(lines: u32, ended: usize) -> u32 {
    let fitting = u32::try_from(ended / 2).unwrap_or(u32::MAX);
    fitting.max(LINES_WITHOUT_END).min(lines / 4).max(1)
}

/// Where lines are of very different lengths: their number in the middle, as a factor.
fn between(fine: u32, many: u32) -> u32 {
    (u64::from(fine) * u64::from(many)).isqrt().try_into().unwrap_or(fine)
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The first and the last bytes of what comes.
#[derive(Debug, Default)]
struct Edges {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// What was forgotten between them, in bytes.
    left_out: u64,
    /// How many lines ended.
    lines: usize,
    /// There is no head: all of it belongs to the tail.
    is_tail: bool,
}

impl Edges {
    fn take(&mut self, part: &[u8]) {
        self.lines += part.iter().filter(|byte| **byte == b'\n').count();
        let room = if self.is_tail { 0 } else { PART_BYTES.saturating_sub(self.head.len()) };
        let (head, rest) = part.split_at(room.min(part.len()));
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        // Not at each part: what stays is moved.
        if self.tail.len() > 2 * PART_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let excess = self.tail.len().saturating_sub(PART_BYTES);
        self.tail.drain(..excess);
        self.left_out = self.left_out.saturating_add(length(excess));
    }

    fn ended(mut self) -> Self {
        self.cut();
        self.tail.shrink_to_fit();
        self
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
