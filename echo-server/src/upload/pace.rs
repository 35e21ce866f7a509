//! How fast a sender has to be, for every body that is read: nobody is waited for without an end.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::aborted;
use crate::error::Problem;

/// The longest silence of a sender.
const IDLE: Duration = Duration::from_secs(30);
/// The least average rate after that time.
const MIN_BYTES_PER_SECOND: u64 = 4096;

/// How fast a sender is.
pub(crate) struct Pace {
    began: Instant,
    bytes: u64,
    idle: Duration,
}

impl Pace {
    /// Of a body that begins now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), bytes: 0, idle: IDLE }
    }

    /// Waits for the sender, but not for ever.
    pub(crate) async fn wait<T>(&self, next: impl Future<Output = T>) -> Result<T, Problem> {
        let idle = || Problem::new(408, "upload_aborted", "nothing was sent for 30 s").closing();
        timeout(self.idle, next).await.map_err(|_| idle())
    }

    /// Counts bytes that came.
    pub(crate) fn got(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes += bytes as u64;
        let time = self.began.elapsed();
        let least = time.saturating_sub(self.idle).as_secs() * MIN_BYTES_PER_SECOND;
        if self.bytes < least {
            let detail = "the body came slower than 4 KiB/s";
            return Err(Problem::new(408, "upload_aborted", detail).closing());
        }
        Ok(())
    }
}

/// A body that is gathered in memory.
pub(crate) struct Gathering {
    body: BodyDataStream,
    pace: Pace,
    bytes: BytesMut,
}

impl Gathering {
    /// Of a body of which nothing was read yet.
    pub(crate) fn of(body: Body) -> Self {
        Self { body: body.into_data_stream(), pace: Pace::new(), bytes: BytesMut::new() }
    }

    /// Reads until there are more than so many bytes; says whether the body has ended before.
    pub(crate) async fn has_ended_within(&mut self, most_bytes: usize) -> Result<bool, Problem> {
        while self.bytes.len() <= most_bytes {
            let Some(chunk) = self.pace.wait(self.body.next()).await? else { return Ok(true) };
            let chunk = chunk.map_err(|_| aborted())?;
            self.pace.got(chunk.len())?;
            self.bytes.extend_from_slice(&chunk);
        }
        Ok(false)
    }

    /// What was read.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Reads a body of at most so many bytes.
///
/// # Errors
/// If it is longer, ends early, or comes too slowly.
pub(crate) async fn gather(body: Body, most_bytes: usize) -> Result<Bytes, Problem> {
    let mut gathering = Gathering::of(body);
    if gathering.has_ended_within(most_bytes).await? {
        return Ok(gathering.into_bytes());
    }
    let detail = format!("more than {most_bytes} bytes");
    Err(Problem::new(413, "body_too_large", detail).closing())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    /// A body that goes on for ever with a byte after each pause.
    fn dripping(pause: Duration) -> Body {
        let bytes = stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        });
        Body::from_stream(bytes)
    }

    async fn refusal(body: Body) -> (u16, String) {
        let mut gathering = Gathering::of(body);
        gathering.pace.idle = Duration::from_millis(200);
        let refused = gathering.has_ended_within(1 << 20).await.unwrap_err();
        assert!(refused.closes);
        (refused.status.as_u16(), refused.detail)
    }

    #[tokio::test]
    async fn a_sender_that_falls_silent_or_drips_is_cut_off() {
        let silent = refusal(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()));
        assert_eq!(silent.await, (408, "nothing was sent for 30 s".to_owned()));
        let drips = refusal(dripping(Duration::from_millis(50))).await;
        assert_eq!(drips, (408, "the body came slower than 4 KiB/s".to_owned()));
    }

    #[tokio::test]
    async fn a_body_is_gathered_up_to_its_limit() {
        assert_eq!(gather(Body::from("12345"), 5).await.unwrap(), "12345");
        assert_eq!(gather(Body::empty(), 0).await.unwrap(), "");
        assert_eq!(gather(Body::from("123456"), 5).await.unwrap_err().code, "body_too_large");
    }
}
