#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::atomic::Ordering;

use super::*;
use crate::cluster::fake::FakeApi;

const CONTAINER: [&str; 3] = ["ci", "run-1-0123456789-abcde", "job"];

/// What is read of a log that is answered with these, one after the other, and what was asked for each time.
async fn read_of(answers: Vec<Vec<u8>>) -> (Result<Option<Log>, LogError>, Vec<String>) {
    let (cluster, mut api) = FakeApi::cluster();
    let server = async {
        let mut queries = Vec::new();
        for answer in answers {
            let asked = api.next().await;
            assert_eq!(asked.path, "/api/v1/namespaces/ci/pods/run-1-0123456789-abcde/log");
            queries.push(asked.query.trim_start_matches(['&', '?']).to_owned());
            asked.answer_bytes(answer);
        }
        queries
    };
    tokio::join!(read(&cluster, CONTAINER), server)
}

fn lines(query: &str) -> Option<u32> {
    query.split('&').find_map(|pair| pair.strip_prefix("tailLines=")?.parse().ok())
}

#[tokio::test]
async fn a_short_log_is_read_once_and_kept_as_it_is() {
    let (log, asked) = read_of(vec![b"caf\xe9 \xff\xfe\r\nend".to_vec()]).await;
    assert_eq!(log.unwrap().unwrap(), Log::new(b"caf\xe9 \xff\xfe\r\nend".to_vec(), Vec::new(), Some(0)));
    assert!(asked[0].contains("container=job") && asked[0].contains("limitBytes=1048577"), "{asked:?}");
    assert_eq!(lines(&asked[0]), None);
}

#[tokio::test]
async fn what_is_missing_in_the_middle_of_a_log_is_counted_as_long_as_all_of_it_is_read() {
    let (log, _) = read_of(vec![vec![b'x'; ONCE]]).await;
    let log = log.unwrap().unwrap();
    assert_eq!((log.head().len(), log.tail().len()), (PART_BYTES, PART_BYTES));
    assert_eq!(log, Log::new(vec![b'x'; PART_BYTES], vec![b'x'; PART_BYTES], Some(length(ONCE - 2 * PART_BYTES))));
}

#[tokio::test]
async fn of_a_long_log_so_many_last_lines_are_read_as_fill_a_tail() {
    let long = vec![b'x'; ONCE + 1];
    let (short_lines, enough) = (b"123456789\n".repeat(4096), b"abcdefghi\n".repeat(52_428));
    let (log, asked) = read_of(vec![long, short_lines, enough.clone()]).await;
    assert_eq!(asked.iter().map(|query| lines(query)).collect::<Vec<_>>(), [None, Some(4096), Some(52_428)]);
    let expected = enough[enough.len() - PART_BYTES..].to_vec();
    assert_eq!(log.unwrap().unwrap(), Log::new(vec![b'x'; PART_BYTES], expected, None));
}

#[tokio::test]
async fn the_end_of_a_line_without_end_is_read_too() {
    let long = vec![b'x'; ONCE + 1];
    let end = [vec![b'y'; PART_BYTES - 3], b"end".to_vec()].concat();
    let (log, asked) = read_of(vec![long.clone(), long, end.clone()]).await;
    assert_eq!(asked.iter().map(|query| lines(query)).collect::<Vec<_>>(), [None, Some(4096), Some(16)]);
    assert_eq!(log.unwrap().unwrap().tail(), end);
}

/// Megabytes without a line's end, then short lines.
#[tokio::test]
async fn of_lines_of_very_different_lengths_the_last_ones_are_read() {
    let long = vec![b'x'; ONCE + 1];
    let short = |count: usize| b"123456789\n".repeat(count);
    let answers = vec![long.clone(), long.clone(), short(16), short(256), long, short(512)];
    let (log, asked) = read_of(answers).await;
    let lines: Vec<_> = asked.iter().map(|query| lines(query)).collect();
    assert_eq!(lines, [None, Some(4096), Some(16), Some(256), Some(1024), Some(512)]);
    assert_eq!(log.unwrap().unwrap().tail(), short(512));
}

#[tokio::test]
async fn a_log_that_grows_faster_than_it_is_read_comes_to_an_end() {
    let (cluster, mut api) = FakeApi::cluster();
    let text = [b'x'; 8192].as_slice();
    let server = async {
        let mut taken = Vec::new();
        for _ in ["head", "4096 lines", "16", "4", "1"] {
            taken.push(api.next().await.answer_endlessly(&[b'x'; 8192]));
        }
        taken
    };
    let (log, taken) = tokio::join!(read(&cluster, CONTAINER), server);
    let log = log.unwrap().unwrap();
    assert_eq!((log.head().len(), log.tail().len()), (PART_BYTES, PART_BYTES));
    // Some more are on their way in buffers.
    let most = ONCE / text.len() + 16;
    assert!(taken.iter().all(|taken| taken.load(Ordering::Relaxed) <= most), "{taken:?}");
}

#[tokio::test]
async fn an_empty_log_is_none_and_kubelets_words_for_one_that_is_gone_are_no_log() {
    assert!(matches!(read_of(vec![Vec::new()]).await.0, Ok(None)));
    let words = b"unable to retrieve container logs for containerd://0123".to_vec();
    assert!(matches!(read_of(vec![words.clone()]).await.0, Err(LogError::Gone)));
    let job = [words, b"\nsays the job\n".to_vec()].concat();
    assert!(matches!(read_of(vec![job]).await.0, Ok(Some(_))));
}

#[tokio::test]
async fn a_refusal_is_an_error_and_no_log() {
    let (cluster, mut api) = FakeApi::cluster();
    let server = async { api.next().await.refuse(404, "NotFound") };
    let (log, ()) = tokio::join!(read(&cluster, CONTAINER), server);
    assert!(matches!(log, Err(LogError::Read(_))), "{log:?}");
}
