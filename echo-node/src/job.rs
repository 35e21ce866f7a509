//! Work on a thread of its own, whose events JavaScript asks for one by one.
//!
//! A promise that waits keeps the process alive; work whose events nobody asks for does not. The
//! worker is a few events ahead of its reader at most. Cancelling settles a waiting promise at once;
//! the worker notices at its next decoder step.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use echo_core::{CancelToken, Error, Result};
use napi::bindgen_prelude::Object;
use napi::{Env, JsDeferred};
use napi_derive::napi;

use crate::event::{Event, SeenEvent};

/// Events that a worker may be ahead of its reader.
const READ_AHEAD: usize = 16;

type Resolve = Box<dyn FnOnce(Env) -> napi::Result<SeenEvent> + Send>;
type Waiting = JsDeferred<SeenEvent, Resolve>;

/// Work in progress.
#[napi]
pub struct Job {
    shared: Arc<Shared>,
    cancel: CancelToken,
}

/// The worker's end of a [`Job`].
pub(crate) struct Events(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    has_room: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Event>,
    waiting: Option<Waiting>,
    is_abandoned: bool,
    is_over: bool,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settle(waiting: Waiting, event: Event) {
    waiting.resolve(Box::new(move |_| Ok(event.seen())));
}

impl Events {
    /// Says something; an error tells the worker that nobody listens any more.
    pub(crate) fn send(&self, event: Event) -> Result<()> {
        let mut state = self.0.lock();
        loop {
            if state.is_abandoned {
                return Err(Error::Cancelled);
            }
            if let Some(waiting) = state.waiting.take() {
                settle(waiting, event);
                return Ok(());
            }
            if state.ready.len() < READ_AHEAD {
                state.ready.push_back(event);
                return Ok(());
            }
            state = self.0.has_room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Events {
    /// A worker that panicked ends here, too: whoever waits for it must not wait for ever.
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        if let Some(waiting) = state.waiting.take() {
            settle(waiting, no_answer());
        }
    }
}

fn no_answer() -> Event {
    let source = "its thread ended without an answer".into();
    Event::failed(&Error::Inference { context: "a job", source })
}

impl Job {
    /// Runs `work` on a thread of its own; its error becomes the last event.
    pub(crate) fn start<W>(cancel: CancelToken, work: W) -> napi::Result<Self>
    where
        W: FnOnce(&Events) -> Result<()> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let events = Events(Arc::clone(&shared));
        let run = move || {
            if let Err(error) = work(&events) {
                // Nobody needs to hear of an error after the last reader is gone.
                let _ = events.send(Event::failed(&error));
            }
        };
        std::thread::Builder::new().name("echo-job".to_owned()).spawn(run)?;
        Ok(Self { shared, cancel })
    }
}

#[napi]
impl Job {
    /// A promise of the next event.
    ///
    /// # Errors
    /// If the promise cannot be made.
    #[napi(ts_return_type = "Promise<SeenEvent>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (deferred, promise): (Waiting, _) = env.create_deferred()?;
        let mut state = self.shared.lock();
        if let Some(event) = state.ready.pop_front() {
            settle(deferred, event);
            self.shared.has_room.notify_one();
        } else if state.is_abandoned {
            settle(deferred, Event::failed(&Error::Cancelled));
        } else if state.is_over {
            settle(deferred, no_answer());
        } else if let Some(earlier) = state.waiting.replace(deferred) {
            // One reader asks at a time; a second one takes over.
            settle(earlier, Event::failed(&Error::Cancelled));
        }
        Ok(promise)
    }

    /// Stops the work; a promise that waits is settled at once.
    #[napi]
    pub fn cancel(&self) {
        self.cancel.cancel();
        let mut state = self.shared.lock();
        state.is_abandoned = true;
        state.ready.clear();
        if let Some(waiting) = state.waiting.take() {
            settle(waiting, Event::failed(&Error::Cancelled));
        }
        self.shared.has_room.notify_all();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.cancel();
    }
}
