//! Where the segments of a channel gather: their words are placed, they are kept and passed on.

use super::Outlet;
use super::aligning::Placer;
use crate::error::Result;
use crate::progress::Stage;
use crate::transcript::{Segment, SpeakerId};

/// Takes the segments of one channel, in order.
pub(super) struct Collector<'a, 'e, 'f> {
    /// What places their words, if words are wanted.
    pub(super) placer: Option<Placer<'a>>,
    /// Who says all of them, if that is known.
    pub(super) speaker: Option<SpeakerId>,
    /// The segments so far.
    pub(super) segments: Vec<Segment>,
    pub(super) outlet: &'a mut Outlet<'e, 'f>,
}

impl Collector<'_, '_, '_> {
    /// Takes segments; so much of the channel is done with them.
    pub(super) fn collect(&mut self, reached: f64, mut segments: Vec<Segment>) -> Result<()> {
        if let Some(placer) = &mut self.placer {
            placer.place(&mut segments)?;
        }
        for segment in &mut segments {
            segment.speaker.clone_from(&self.speaker);
        }
        self.pass_on(segments)?;
        self.outlet.progress(Stage::Transcribing, reached)
    }

    /// Takes segments as they left another run, whose last word ended at `floor`.
    pub(super) fn restore(&mut self, segments: Vec<Segment>, floor: f64) -> Result<()> {
        if let Some(placer) = &mut self.placer {
            placer.floor = floor;
        }
        self.pass_on(segments)
    }

    fn pass_on(&mut self, segments: Vec<Segment>) -> Result<()> {
        for segment in segments {
            self.segments.push(segment.clone());
            self.outlet.segment(segment)?;
        }
        Ok(())
    }

    /// Where the last word ends.
    pub(super) fn floor(&self) -> f64 {
        self.placer.as_ref().map_or(0.0, |placer| placer.floor)
    }

    /// The acoustic model that places words, if one does.
    pub(super) fn aligner_name(&self) -> Option<&str> {
        self.placer.as_ref().and_then(Placer::aligner_name)
    }
}
