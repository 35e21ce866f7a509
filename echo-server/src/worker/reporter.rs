//! What a worker tells of a job while it goes on: progress, segments, and what is done for good.

use std::time::{Duration, Instant};

use echo_core::{Checkpoint, Progress, Segment, Stage};
use serde_json::value::{RawValue, to_raw_value};

use super::child::tell;
use super::{Event, Part};

/// Progress is told at most so often.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What earlier attempts have done, of the parts that they told; those that cannot be read or do not
/// follow are left out.
pub(super) fn joined(parts: &[Box<RawValue>]) -> Option<Checkpoint> {
    let mut all: Option<Checkpoint> = None;
    for (number, part) in parts.iter().enumerate() {
        match (serde_json::from_str::<Checkpoint>(part.get()), &mut all) {
            (Ok(part), Some(all)) => {
                let follows = all.append(part);
                tracing::debug!(number, follows, "a part of a checkpoint");
            }
            (Ok(part), None) => all = Some(part),
            (Err(error), _) => tracing::warn!(number, %error, "a part of a checkpoint is no use"),
        }
    }
    all
}

/// Gathers what a run says, and tells of it now and then.
#[derive(Default)]
pub(super) struct Reporter {
    latest: Option<Progress>,
    /// Segments so far, and how many of them were told by an earlier attempt.
    n_segments: u64,
    n_known: u64,
    /// The newest of them, which were not told.
    segments: Vec<Segment>,
    told: Option<Instant>,
    /// What was done and not told, and until when the sound was done when that was told.
    done: Option<Checkpoint>,
    reached: f64,
    /// Seconds of sound between two parts of a checkpoint.
    every: f64,
}

impl Reporter {
    /// Tells of a run that goes on from a checkpoint, if there is one.
    pub(super) fn new(every: f64, from: Option<&Checkpoint>) -> Self {
        let n_known = from.map_or(0, |from| from.segments().len() as u64);
        Self { every, n_known, reached: from.map_or(0.0, Checkpoint::reached), ..Self::default() }
    }

    /// Whether anybody wants to know what is done.
    pub(super) fn has_checkpoints(&self) -> bool {
        self.every > 0.0
    }

    /// The run does not go on from where it should have: it begins anew.
    pub(super) fn restart(&mut self, reason: &str) {
        (self.n_known, self.reached) = (0, 0.0);
        tell(&Event::Restarted { reason: reason.to_owned() });
    }

    pub(super) fn progress(&mut self, progress: Progress) {
        self.latest = Some(progress);
        if progress.stage != Stage::Transcribing {
            self.tell_done();
        }
        self.tell_sometimes();
    }

    pub(super) fn segment(&mut self, segment: Segment) {
        self.n_segments += 1;
        if self.n_segments > self.n_known {
            self.segments.push(segment);
            self.tell_sometimes();
        }
    }

    /// Takes what a batch added to what is done.
    pub(super) fn checkpoint(&mut self, next: Checkpoint) {
        let reached = next.reached();
        match &mut self.done {
            None => self.done = Some(next),
            Some(done) => {
                if !done.append(next) {
                    tracing::error!("a batch does not follow the last one");
                }
            }
        }
        if reached - self.reached >= self.every {
            self.tell_done();
        }
    }

    /// Tells what is done, if that is more than was told.
    pub(super) fn tell_done(&mut self) {
        let reached = |done: &Checkpoint| done.reached() > self.reached;
        if self.done.as_ref().is_some_and(reached) {
            self.tell(true);
        }
    }

    fn tell_sometimes(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= REPORT_INTERVAL) {
            self.tell(false);
        }
    }

    /// Tells the news, with what is done or without it.
    fn tell(&mut self, has_done: bool) {
        let Some(progress) = self.latest else { return };
        let Ok(segments) = to_raw_value(&self.segments) else { return };
        let first_segment = Some(self.n_segments - self.segments.len() as u64);
        self.segments.clear();
        self.told = Some(Instant::now());
        let checkpoint = self.done.take_if(|_| has_done).and_then(|done| {
            self.reached = done.reached();
            Some(Part { reached_s: self.reached, data: to_raw_value(&done).ok()? })
        });
        let stage = progress.stage.as_str().to_owned();
        let progress = progress.fraction;
        tell(&Event::Progress { progress, stage, segments, first_segment, checkpoint });
    }
}
