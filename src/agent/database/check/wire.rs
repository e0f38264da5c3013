//! PostgreSQL's protocol, as much of it as a witness between client and server must understand.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much of a message is looked at, in bytes; the rest only passes through.
pub(super) const KEPT_BYTES: usize = 64 * 1024;
/// The longest start-up packet, as the server has it.
const MAX_STARTUP_BYTES: usize = 10_000;
/// The longest message that the protocol has.
const MAX_MESSAGE_BYTES: usize = 1 << 30;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// The head of a message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: u8,
    length: u32,
    /// The first [`KEPT_BYTES`] of what follows the length.
    pub(super) kept: Vec<u8>,
    /// How many bytes follow those.
    rest: usize,
}

/// Reads the packet that opens a connection; refuses encryption, which nobody needs on the loopback device.
pub(super) async fn opening<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    // libpq asks for each kind of encryption at most once.
    for _ in 0..4 {
        let length = stream.read_u32().await?;
        let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
        let body = body.filter(|body| (4..=MAX_STARTUP_BYTES).contains(body)).ok_or_else(malformed)?;
        let mut packet = length.to_be_bytes().to_vec();
        packet.resize(4 + body, 0);
        stream.read_exact(packet.get_mut(4..).unwrap_or_default()).await?;
        match packet.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes) {
            Some(SSL_REQUEST | GSS_REQUEST) if body == 4 => stream.write_all(b"N").await?,
            Some(_) | None => return Ok(packet),
        }
    }
    Err(malformed())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no message of PostgreSQL's protocol")
}

/// Reads the next message's head; `None` at the end of the stream. Its rest must be [passed on](pass_on) or
/// [dropped](drop_rest) before the next one.
pub(super) async fn next(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Message>> {
    let kind = match reader.read_u8().await {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = reader.read_u32().await?;
    let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(4)).ok_or_else(malformed)?;
    if body > MAX_MESSAGE_BYTES {
        return Err(malformed());
    }
    let mut kept = vec![0; body.min(KEPT_BYTES)];
    reader.read_exact(&mut kept).await?;
    let rest = body - kept.len();
    Ok(Some(Message { kind, length, kept, rest }))
}

/// Passes a message on, with its rest.
pub(super) async fn pass_on(
    message: &Message,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut head = Vec::with_capacity(5 + message.kept.len());
    head.push(message.kind);
    head.extend(message.length.to_be_bytes());
    head.extend(&message.kept);
    writer.write_all(&head).await?;
    let mut rest = reader.take(u64::try_from(message.rest).unwrap_or(u64::MAX));
    tokio::io::copy(&mut rest, writer).await?;
    writer.flush().await
}

/// Reads the rest of a message that is not passed on.
pub(super) async fn drop_rest(message: &Message, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut rest = reader.take(u64::try_from(message.rest).unwrap_or(u64::MAX));
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(|_| ())
}

impl Message {
    #[cfg(test)]
    pub(super) fn of(kind: u8, kept: &[u8]) -> Self {
        Self { kind, length: 0, kept: kept.to_vec(), rest: 0 }
    }

    /// The null-terminated texts at its start.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.kept.split(|byte| *byte == 0)
    }

    /// A field of an error or a notice, by its letter.
    pub(super) fn field(&self, letter: u8) -> Option<String> {
        let found = self.texts().find_map(|field| field.split_first().filter(|(first, _)| **first == letter));
        found.map(|(_, text)| String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn encryption_is_refused_and_the_start_is_read() {
        block_on(async {
            let (mut client, mut ours) = tokio::io::duplex(1024);
            client.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
            client.write_all(&[0, 0, 0, 9, 0, 3, 0, 0, 0]).await.unwrap();
            assert_eq!(opening(&mut ours).await.unwrap(), [0, 0, 0, 9, 0, 3, 0, 0, 0]);
            assert_eq!(client.read_u8().await.unwrap(), b'N');
        });
    }

    #[test]
    fn what_is_no_message_is_refused() {
        block_on(async {
            assert!(opening(&mut tokio_test_stream(b"GET / HTTP/1.1\r\n\r\n")).await.is_err());
            assert!(next(&mut &b"Q\0\0\0\x03"[..]).await.is_err());
            assert!(next(&mut &b"Q\xff\xff\xff\xff"[..]).await.is_err());
            assert!(next(&mut &b""[..]).await.unwrap().is_none());
        });
    }

    fn tokio_test_stream(bytes: &'static [u8]) -> impl AsyncRead + AsyncWrite + Unpin {
        tokio::io::join(bytes, tokio::io::sink())
    }

    #[test]
    fn fields_of_a_complaint_are_found_by_their_letters() {
        let kept = b"SERROR\0C42P01\0Mrelation \"x\" does not exist\0\0".to_vec();
        let message = Message::of(b'E', &kept);
        assert_eq!(message.field(b'C').as_deref(), Some("42P01"));
        assert_eq!(message.field(b'M').as_deref(), Some("relation \"x\" does not exist"));
        assert_eq!(message.field(b'X'), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_message_passes_unchanged(body in prop::collection::vec(any::<u8>(), 0..150_000)) {
            let mut bytes = vec![b'Q'];
            bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend(&body);
            bytes.extend(b"Z\0\0\0\x05I");
            let passed = block_on(async {
                let (mut reader, mut writer) = (&bytes[..], Vec::new());
                while let Some(message) = next(&mut reader).await.unwrap() {
                    pass_on(&message, &mut reader, &mut writer).await.unwrap();
                }
                writer
            });
            prop_assert_eq!(passed, bytes);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            block_on(async {
                let mut reader = &bytes[..];
                while let Ok(Some(message)) = next(&mut reader).await {
                    let _ = message.field(b'M');
                    if drop_rest(&message, &mut reader).await.is_err() {
                        break;
                    }
                }
                let _ = opening(&mut tokio::io::join(&bytes[..], tokio::io::sink())).await;
            });
        }
    }
}
