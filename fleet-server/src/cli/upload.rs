//! Bodies of requests: bytes in memory, or a file that is streamed piece by piece.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

const PIECE: usize = 64 << 10;
/// Pieces read ahead of the network; the reader waits while they are full.
const AHEAD: usize = 4;

/// The body of a request.
pub(super) enum Outgoing {
    Bytes(Full<Bytes>),
    File(Stream),
}

/// A file on its way out.
pub(super) struct Stream {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    remaining: u64,
    sent: Arc<AtomicU64>,
}

impl Outgoing {
    pub(super) fn empty() -> Self {
        Self::Bytes(Full::default())
    }

    pub(super) fn bytes(bytes: Vec<u8>) -> Self {
        Self::Bytes(Full::new(bytes.into()))
    }

    /// The first `length` bytes of the file; `sent` counts them as they leave. Ends with an error where there are fewer.
    pub(super) fn file(path: PathBuf, length: u64, sent: Arc<AtomicU64>) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(path, length, &sender) {
                // A receiver that is gone has given the upload up already.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Self::File(Stream { pieces, remaining: length, sent })
    }
}

fn read(path: PathBuf, length: u64, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut file = File::open(path)?.take(length);
    loop {
        let mut piece = vec![0; PIECE];
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        piece.truncate(count);
        if sender.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(full) => Pin::new(full).poll_frame(context).map_err(|never| match never {}),
            Self::File(stream) => stream.poll_piece(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(full) => full.is_end_stream(),
            Self::File(stream) => stream.remaining == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(full) => full.size_hint(),
            Self::File(stream) => SizeHint::with_exact(stream.remaining),
        }
    }
}

impl Stream {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| {
            let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent");
            let piece = piece.unwrap_or_else(|| Err(cut()));
            if let Ok(piece) = &piece {
                self.remaining = self.remaining.saturating_sub(piece.len() as u64);
                self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            Some(piece.map(Frame::data))
        })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write scratch files")]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn collect(content: &[u8], length: u64) -> (Result<Bytes, io::Error>, u64) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(async {
            let body = Outgoing::file(file.path().to_owned(), length, Arc::clone(&sent));
            assert_eq!(body.size_hint().exact(), Some(length));
            body.collect().await.map(http_body_util::Collected::to_bytes)
        });
        (body, sent.load(Ordering::Relaxed))
    }

    #[test]
    fn a_file_of_many_pieces_arrives_whole() {
        let content: Vec<u8> = (0..10 * PIECE + 7).map(|i| i as u8).collect();
        let (body, sent) = collect(&content, content.len() as u64);
        assert_eq!((body.unwrap(), sent), (Bytes::from(content.clone()), content.len() as u64));
    }

    #[test]
    fn a_file_that_changed_its_length_never_sends_more_and_fails_on_less() {
        assert_eq!(collect(b"0123456789", 4).0.unwrap(), Bytes::from_static(b"0123"));
        assert_eq!(collect(b"0123", 10).0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_missing_file_ends_the_upload() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(async { Outgoing::file("/nonexistent".into(), 4, Arc::default()).collect().await });
        assert_eq!(body.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
