//! Work on a thread of its own, whose events Python takes as they come.
//!
//! The waiting side looks for signals every few milliseconds, so that Ctrl-C ends a wait at once
//! even while a long kernel runs; the worker notices its token at the next decoder step. The channel
//! is bounded: work does not run far ahead of a reader who takes segments one by one.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use echo_core::{CancelToken, Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::error::exception;

/// How often a waiting thread looks for signals.
const SIGNAL_PERIOD: Duration = Duration::from_millis(20);

/// Events that a worker may be ahead of its reader.
const READ_AHEAD: usize = 16;

/// Makes a Python object of what a worker found, once the lock is held.
type Convert = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Py<PyAny>> + Send>;

/// What a worker says: a word for its kind, and what goes with it.
type Event = (&'static str, Convert);

/// An event as Python sees it.
type Seen = (&'static str, Py<PyAny>);

/// Called after each event, for readers that do not wait on the channel.
type Listener = Arc<Mutex<Option<Py<PyAny>>>>;

/// Work in progress. Dropping it stops the work.
#[pyclass(frozen, module = "echo._echo")]
#[derive(Debug)]
pub(crate) struct Job {
    receiver: Mutex<Receiver<Event>>,
    listener: Listener,
    cancel: CancelToken,
}

/// The worker's end of a [`Job`].
pub(crate) struct Events {
    sender: Option<SyncSender<Event>>,
    listener: Listener,
}

impl Events {
    /// Says something; an error tells the worker that nobody listens any more.
    pub(crate) fn send<F>(&self, kind: &'static str, convert: F) -> Result<()>
    where
        F: for<'py> FnOnce(Python<'py>) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        let sender = self.sender.as_ref().ok_or(Error::Cancelled)?;
        sender.send((kind, Box::new(convert))).map_err(|_| Error::Cancelled)?;
        self.ring();
        Ok(())
    }

    /// Tells the listener, if there is one, that there is something to take.
    fn ring(&self) {
        let is_heard = self.listener.lock().is_ok_and(|listener| listener.is_some());
        if !is_heard {
            return;
        }
        // `None` while the interpreter shuts down, when nobody listens.
        let _ = Python::try_attach(|py| {
            let callable = self.listener.lock().ok()?.as_ref()?.clone_ref(py);
            // An event loop that is closed has nobody waiting in it.
            callable.call0(py).ok()
        });
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.sender = None; // the reader must see the end when it is told of it
        self.ring();
    }
}

impl Job {
    /// Runs `work` on a thread of its own; its error becomes the last event.
    pub(crate) fn start<W>(py: Python<'_>, cancel: CancelToken, work: W) -> PyResult<Self>
    where
        W: FnOnce(&Events) -> Result<()> + Send + 'static,
    {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        let listener = Listener::default();
        let events = Events { sender: Some(sender), listener: Arc::clone(&listener) };
        let run = move || {
            if let Err(error) = work(&events) {
                // Nobody needs to hear of an error after the last reader is gone.
                let _ = events.send("failed", move |py| Err(exception(py, &error)));
            }
        };
        std::thread::Builder::new()
            .name("echo-job".to_owned())
            .spawn(run)
            .map_err(|error| no_thread(py, error))?;
        Ok(Self { receiver: Mutex::new(receiver), listener, cancel })
    }
}

/// A system that is out of threads.
fn no_thread(py: Python<'_>, error: std::io::Error) -> PyErr {
    let context = "starting a thread";
    exception(py, &Error::Inference { context, source: error.into() })
}

/// A worker that ended without an answer: it panicked, and said so on standard error.
fn no_answer(py: Python<'_>) -> PyErr {
    let source = "its thread ended without an answer".into();
    exception(py, &Error::Inference { context: "a job", source })
}

#[pymethods]
impl Job {
    /// Waits for the next event, without the interpreter's lock. Signals interrupt it.
    fn wait(&self, py: Python<'_>) -> PyResult<Seen> {
        loop {
            let received = py.detach(|| {
                let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
                receiver.recv_timeout(SIGNAL_PERIOD)
            });
            match received {
                Ok((kind, convert)) => return Ok((kind, convert(py)?)),
                Err(RecvTimeoutError::Timeout) => py.check_signals()?,
                Err(RecvTimeoutError::Disconnected) => return Err(no_answer(py)),
            }
        }
    }

    /// The next event, if there is one by now.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Seen>> {
        let received =
            py.detach(|| self.receiver.lock().unwrap_or_else(PoisonError::into_inner).try_recv());
        match received {
            Ok((kind, convert)) => Ok(Some((kind, convert(py)?))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(no_answer(py)),
        }
    }

    /// Has `callable` called, on the worker's thread, whenever there is something to take.
    fn listen(&self, py: Python<'_>, callable: Py<PyAny>) {
        // The worker may hold this lock while it waits for the interpreter's.
        py.detach(|| {
            *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(callable);
        });
    }

    /// Asks the work to stop.
    fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
