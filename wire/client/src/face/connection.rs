//! One connection: bytes in, bytes out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;

use super::shared::Shared;
use crate::core::{ConnectionId, FrameReader, Transmit};

/// Bytes read at once: at least, and at most. A frame's length is only a claim until its bytes come.
const READ_BYTES: (usize, usize) = (64 << 10, 1 << 20);

/// Frames that leave in one go.
const FRAMES_AT_ONCE: usize = 64;

/// Opens the connection and serves it until it ends. Aborting the task closes it.
pub(super) async fn run(
    shared: Arc<Shared>,
    id: ConnectionId,
    address: String,
    frames: UnboundedReceiver<Transmit>,
) {
    let stream = match open(&address).await {
        Ok(stream) => stream,
        Err(error) => return shared.disconnected(id, &plain(&error)),
    };
    shared.with(|inner, now| inner.core.handle_connected(now, id));
    let (reader, writer) = stream.into_split();
    let ended = tokio::select! {
        ended = read(&shared, id, reader) => ended,
        ended = write(&shared, id, writer, frames) => ended,
    };
    let reason = match ended {
        Ok(()) => "the broker closed it".to_string(),
        Err(error) => plain(&error),
    };
    shared.disconnected(id, &reason);
}

async fn open(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A request must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The system's words without its numbers.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "the peer reset it".into(),
        io::ErrorKind::TimedOut => "timed out".into(),
        _ => error.to_string(),
    }
}

async fn read(shared: &Arc<Shared>, id: ConnectionId, mut stream: OwnedReadHalf) -> io::Result<()> {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    loop {
        let wanted = reader.wanted().clamp(READ_BYTES.0, READ_BYTES.1);
        reader.buffer().reserve(wanted);
        if stream.read_buf(reader.buffer()).await? == 0 {
            return Ok(());
        }
        let broken = loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !frames.is_empty() {
            shared.with(|inner, now| {
                for (header, payload) in frames.drain(..) {
                    inner.core.handle_frame(now, id, header, payload);
                }
            });
        }
        if let Some(error) = broken {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

async fn write(
    shared: &Arc<Shared>,
    id: ConnectionId,
    mut stream: OwnedWriteHalf,
    mut frames: UnboundedReceiver<Transmit>,
) -> io::Result<()> {
    let mut batch = Vec::new();
    let mut written = 0;
    loop {
        let count = frames.recv_many(&mut batch, FRAMES_AT_ONCE).await;
        if count == 0 {
            return Ok(());
        }
        let mut parts = Parts(
            batch
                .drain(..)
                .flat_map(|transmit| transmit.parts)
                .collect(),
        );
        stream.write_all_buf(&mut parts).await?;
        written += count as u64;
        shared.with(|inner, now| inner.core.handle_written(now, id, written));
    }
}

/// Buffers that leave together, by vectored writes.
struct Parts(VecDeque<Bytes>);

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0
            .iter()
            .find(|part| !part.is_empty())
            .map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.0.iter().filter(|part| !part.is_empty());
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(part) = self.0.front_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_in_order_across_their_bounds() {
        let texts = ["abc", "", "defgh", "i"];
        let mut parts = Parts(texts.iter().map(|text| Bytes::from(*text)).collect());
        assert_eq!(parts.remaining(), 9);
        parts.advance(2);
        assert_eq!(parts.chunk(), b"c");
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(parts.chunks_vectored(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"c"[..], &b"defgh"[..]));
        parts.advance(3);
        assert_eq!(parts.copy_to_bytes(4), "fghi");
        assert!(!parts.has_remaining());
        assert_eq!(parts.chunk(), b"");
    }
}
