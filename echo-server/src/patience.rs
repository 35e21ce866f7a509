//! A connection whose other end must take what it is sent, if slowly.
//!
//! HTTP has time limits for what is received; nothing limits how long an answer may wait for a reader
//! that has stopped reading. Its connection, and the file or the task behind it, would be held for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream that fails when nothing could be written for so long.
#[derive(Debug)]
pub struct Impatient<S> {
    stream: S,
    at_most: Duration,
    /// When patience ends; set while a write waits.
    deadline: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl<S> Impatient<S> {
    /// Waits at most so long for each piece to be taken.
    pub fn new(stream: S, at_most: Duration) -> Self {
        Self { stream, at_most, deadline: Box::pin(sleep(at_most)), is_waiting: false }
    }

    /// What came of a write, or that it waited too long.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.is_waiting = false;
            return poll;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.at_most);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other end does not read")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, poll)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn who_reads_slowly_is_waited_for_and_who_does_not_is_not() {
        let (near, mut far) = duplex(16);
        let mut stream = Impatient::new(near, Duration::from_millis(2000));
        let reader = tokio::spawn(async move {
            let mut got = 0;
            // Longer in all than is waited for any piece.
            for _ in 0..8 {
                sleep(Duration::from_millis(300)).await;
                got += far.read(&mut [0; 16]).await.unwrap();
            }
            (got, far)
        });
        stream.write_all(&[1; 128]).await.unwrap();
        let (got, far) = reader.await.unwrap();
        assert_eq!(got, 128);
        let failure = stream.write_all(&[1; 128]).await.unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
        drop(far);
    }
}
