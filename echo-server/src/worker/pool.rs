//! What is known of the workers: who is ready, who is busy, and how fast they are.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a worker is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotState {
    /// It is being started or loads its model.
    Starting,
    /// It waits for work.
    Free,
    /// It works.
    Busy,
    /// It could not be started; it is tried again.
    Unready(String),
}

/// All workers of this process.
#[derive(Debug)]
pub struct Pool {
    slots: Mutex<Vec<SlotState>>,
    /// Seconds of sound a second, as of late.
    speed: Mutex<f64>,
    /// When a worker on another machine was last heard.
    heard: Mutex<Option<Instant>>,
}

/// A worker elsewhere that was not heard for so long may be gone.
const SILENCE: Duration = Duration::from_secs(60);

impl Pool {
    /// So many workers, none of them ready.
    pub fn new(slots: usize) -> Self {
        Self {
            slots: Mutex::new(vec![SlotState::Starting; slots]),
            speed: Mutex::new(1.0),
            heard: Mutex::new(None),
        }
    }

    /// Notes what a worker is doing.
    pub fn set(&self, slot: usize, state: SlotState) {
        if let Some(known) = lock(&self.slots).get_mut(slot) {
            *known = state;
        }
    }

    /// What each worker is doing.
    pub fn slots(&self) -> Vec<SlotState> {
        lock(&self.slots).clone()
    }

    /// Whether somebody can do work, now or after what they are doing.
    pub fn is_ready(&self) -> bool {
        lock(&self.slots).iter().any(|slot| matches!(slot, SlotState::Free | SlotState::Busy))
            || lock(&self.heard).is_some_and(|heard| heard.elapsed() < SILENCE)
    }

    /// Notes that a worker on another machine was heard.
    pub fn hear(&self) {
        *lock(&self.heard) = Some(Instant::now());
    }

    /// Takes the speed of a finished job into account.
    pub fn ran(&self, audio_seconds: f64, busy_seconds: f64) {
        if busy_seconds > 0.0 && audio_seconds > 1.0 {
            let mut speed = lock(&self.speed);
            *speed = 0.8 * *speed + 0.2 * (audio_seconds / busy_seconds);
        }
    }

    /// Seconds until so many jobs of about a minute are done: 1 to 600.
    pub fn wait_seconds(&self, jobs: u64) -> u64 {
        let capacity = *lock(&self.speed) * lock(&self.slots).len().max(1) as f64;
        ((jobs as f64 * 60.0 / capacity.max(0.01)).ceil() as u64).clamp(1, 600)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
