//! The body of a form, measured on its way to the reader of forms.
//!
//! That reader keeps what comes until it finds the next part, and asks for more as long as there is any.
//! So what it is given is counted here, and given in steps: between two chunks it looks at what it has.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::multipart::MultipartError;
use futures_util::Stream;

use super::{Pace, bad_form};
use crate::error::Problem;

/// The most before the first part, and the longest headers of one.
const MAX_GAP_BYTES: usize = 64 * 1024;

/// Tells the measured body where its reader is.
#[derive(Clone)]
pub(super) struct Meter(Arc<Mutex<State>>);

struct State {
    pace: Pace,
    left_bytes: u64,
    place: Place,
    refusal: Option<Problem>,
    too_large: Problem,
}

enum Place {
    /// So many bytes after the last part, or after the beginning.
    Between(usize),
    Part,
    /// The rest is read for courtesy.
    Over,
}

impl Meter {
    /// Measures a body; what is longer is refused with `too_large`.
    pub(super) fn of(body: Body, most_bytes: u64, too_large: Problem) -> (Self, Body) {
        let state = State {
            pace: Pace::new(),
            left_bytes: most_bytes,
            place: Place::Between(0),
            refusal: None,
            too_large,
        };
        let meter = Self(Arc::new(Mutex::new(state)));
        let body = body.into_data_stream();
        let measured = Measured { body, meter: meter.clone(), has_given: false };
        (meter, Body::from_stream(measured))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part begins.
    pub(super) fn part(&self) {
        self.state().place = Place::Part;
    }

    /// It has ended.
    pub(super) fn gap(&self) {
        self.state().place = Place::Between(0);
    }

    /// Nothing is wanted of the rest.
    pub(super) fn over(&self) {
        self.state().place = Place::Over;
    }

    /// Waits for what the reader reads next, but not for ever.
    pub(super) async fn wait<T>(
        &self,
        next: impl Future<Output = Result<T, MultipartError>>,
    ) -> Result<T, Problem> {
        let read = Pace::new().wait(next).await?;
        read.map_err(|error| self.state().refusal.take().unwrap_or_else(|| bad_form(&error)))
    }
}

impl State {
    fn count(&mut self, bytes: usize) -> Result<(), Problem> {
        match &mut self.place {
            Place::Over => return Ok(()),
            Place::Part => {}
            Place::Between(gap_bytes) if *gap_bytes >= MAX_GAP_BYTES => {
                let detail = "more than 64 KiB before the next part";
                return Err(Problem::new(400, "bad_multipart", detail).closing());
            }
            // The end of this chunk may be the beginning of a part.
            Place::Between(gap_bytes) => *gap_bytes += bytes,
        }
        let left_bytes = self.left_bytes.checked_sub(bytes as u64);
        self.left_bytes = left_bytes.ok_or_else(|| self.too_large.clone().closing())?;
        self.pace.got(bytes)
    }
}

struct Measured {
    body: BodyDataStream,
    meter: Meter,
    has_given: bool,
}

impl Stream for Measured {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.has_given) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(chunk) = ready!(Pin::new(&mut self.body).poll_next(context)?) else {
            return Poll::Ready(None);
        };
        self.has_given = true;
        let mut state = self.meter.state();
        if let Err(problem) = state.count(chunk.len()) {
            let error = axum::Error::new(problem.detail.clone());
            state.refusal = Some(problem);
            return Poll::Ready(Some(Err(error)));
        }
        drop(state);
        Poll::Ready(Some(Ok(chunk)))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::{FromRequest, Multipart, Request};
    use futures_util::stream;

    use super::*;

    /// What comes of a form that begins so and goes on with `more` for ever, and the bytes it gave.
    async fn read(head: &'static str, more: &'static [u8]) -> (&'static str, usize) {
        let given = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&given);
        let head = [Ok(Bytes::from_static(head.as_bytes()))];
        let rest = stream::repeat_with(move || {
            counted.fetch_add(more.len(), Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(more))
        });
        let body = Body::from_stream(stream::StreamExt::chain(stream::iter(head), rest));
        let too_large = Problem::new(413, "file_too_large", "");
        let (meter, body) = Meter::of(body, 1 << 20, too_large);
        let mut request = Request::new(body);
        let kind = "multipart/form-data; boundary=sep".parse().unwrap();
        request.headers_mut().insert("content-type", kind);
        let mut form = Multipart::from_request(request, &()).await.unwrap();
        let refused = loop {
            let mut field = match meter.wait(form.next_field()).await {
                Ok(field) => field.unwrap(),
                Err(problem) => break problem,
            };
            meter.part();
            let ended = loop {
                match meter.wait(field.chunk()).await {
                    Ok(Some(_)) => {}
                    ended => break ended,
                }
            };
            if let Err(problem) = ended {
                break problem;
            }
            meter.gap();
        };
        (refused.code, given.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn what_never_becomes_a_part_is_not_kept() {
        let kib = &[b'x'; 1024];
        for head in ["", "--sep\r\n", "--sep\r\ncontent-disposition: form-data; name=\"a", "--sep "]
        {
            let (code, bytes) = read(head, kib).await;
            assert!(code == "bad_multipart" && bytes <= 66 * 1024, "{head:?}: {code} {bytes}");
        }
        let part = "--sep\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n";
        let (code, bytes) = read(part, kib).await;
        assert!(code == "file_too_large" && bytes <= 1025 * 1024, "{code} {bytes}");
    }

    #[tokio::test]
    async fn many_parts_are_no_gap() {
        let part = b"--sep\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nb\r\n";
        assert_eq!(read("", part).await.0, "file_too_large");
    }
}
