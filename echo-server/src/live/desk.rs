//! Where sessions wait for a worker, which is not long: who finds none free is told so.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{LiveEvent, LiveInput, LiveOptions};

/// Longer than a free worker takes to come.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A session as its worker's supervisor has it.
#[derive(Debug)]
pub struct Session {
    /// What it is about.
    pub options: LiveOptions,
    /// What the client sends; ends when the client has gone.
    pub input: mpsc::Receiver<LiveInput>,
    /// What the client is told.
    pub events: mpsc::Sender<LiveEvent>,
    taken: oneshot::Sender<()>,
}

/// Sessions that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Desk {
    waiting: Mutex<VecDeque<Session>>,
    news: Notify,
    /// Every conversation holds a receiver, so that its end is heard of.
    open: watch::Sender<()>,
}

impl Desk {
    /// Offers a session to free workers; `None` if there is none.
    pub async fn offer(
        &self,
        options: LiveOptions,
        backlog: usize,
    ) -> Option<(mpsc::Sender<LiveInput>, mpsc::Receiver<LiveEvent>)> {
        let (inputs, input) = mpsc::channel(backlog);
        let (events, told) = mpsc::channel(backlog);
        let (taken, is_taken) = oneshot::channel();
        let session = Session { options, input, events, taken };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(session);
        self.news.notify_one();
        let taken = tokio::time::timeout(PATIENCE, is_taken).await;
        // One that nobody took is found abandoned by whoever looks next.
        matches!(taken, Ok(Ok(()))).then_some((inputs, told))
    }

    /// Counts a conversation as long as what is returned lives.
    pub fn enter(&self) -> watch::Receiver<()> {
        self.open.subscribe()
    }

    /// Waits until no conversation is left.
    pub async fn closed(&self) {
        self.open.closed().await;
    }

    /// The next session whose client still waits.
    pub async fn next(&self) -> Session {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(session) => {
                    let (gone, _) = oneshot::channel();
                    let Session { options, input, events, taken } = session;
                    if taken.send(()).is_ok() {
                        return Session { options, input, events, taken: gone };
                    }
                }
                None => self.news.notified().await,
            }
        }
    }
}
