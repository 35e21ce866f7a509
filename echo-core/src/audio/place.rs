//! Where decoded samples belong on the media timeline, which starts at 0 as in a video player.
//!
//! Within a track samples are counted; the container's times decide where it starts, and whether
//! something is missing in between. What lies before 0 is cut (encoder delay, Opus pre-skip), as is
//! what lies behind the end that the container names (padding); a late start and gaps become
//! silence.

/// Packets whose time differs less than this from what the samples add up to follow each other:
/// Matroska rounds to milliseconds, and recorders in browsers stamp by a clock that wavers.
const GAP_TOLERANCE_SECONDS: f64 = 0.1;

/// More silence than this in all is not inserted: a damaged time must not fill the memory.
const MAX_INSERTED_SECONDS: f64 = 3_600.0;

/// The times that come with a packet, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// Of its first sample; `None`: right after the last packet.
    pub(super) start: Option<f64>,
    /// To cut from its ends.
    pub(super) trim_start: f64,
    pub(super) trim_end: f64,
}

/// What to do with a decoded packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placement {
    /// Seconds of silence to insert before it.
    pub(super) silence: f64,
    /// Whether there was sound before the silence.
    pub(super) is_gap: bool,
    /// The samples of it that are heard.
    pub(super) from: usize,
    pub(super) to: usize,
    /// Seconds by which its time jumps, if that is too far to be believed.
    pub(super) ignored_jump: Option<f64>,
}

/// The place of the next sample.
#[derive(Debug)]
pub(super) struct Place {
    /// The time that counts as 0.
    origin: f64,
    /// Where the next sample belongs; before 0 while the encoder's delay is being cut.
    position: Option<f64>,
    end: Option<f64>,
    tolerance: f64,
    inserted: f64,
    /// Length of the parts of the source that came before this one.
    earlier: f64,
}

impl Default for Place {
    fn default() -> Self {
        let tolerance = GAP_TOLERANCE_SECONDS;
        Self { origin: 0.0, position: None, end: None, tolerance, inserted: 0.0, earlier: 0.0 }
    }
}

impl Place {
    /// Begins a track, or a later part of the source with times of its own.
    pub(super) fn begin(&mut self, origin: f64, end: Option<f64>, tolerance: Option<f64>) {
        self.earlier = self.reached();
        self.origin = origin;
        self.end = end;
        self.tolerance = tolerance.unwrap_or(GAP_TOLERANCE_SECONDS);
        self.position = None;
    }

    /// Seconds of sound so far, over all parts.
    pub(super) fn reached(&self) -> f64 {
        self.earlier + self.position.unwrap_or(0.0).max(0.0)
    }

    /// Places `length` samples at `rate` a second.
    pub(super) fn place(&mut self, times: Times, length: usize, rate: f64) -> Placement {
        let samples = |seconds: f64| (seconds * rate).round().max(0.0) as usize;
        let start = times.start.map(|start| start - self.origin).filter(|start| start.is_finite());
        let is_gap = self.position.is_some();
        let mut silence = 0.0;
        let mut ignored_jump = None;
        let mut position = match (start, self.position) {
            (Some(start), Some(position)) if start > position + self.tolerance => start,
            (_, Some(position)) => position,
            (start, None) => start.unwrap_or(0.0),
        };
        let expected = self.position.unwrap_or(0.0).max(0.0);
        if position > expected {
            silence = position - expected;
            if self.inserted + silence > MAX_INSERTED_SECONDS {
                ignored_jump = Some(silence);
                (position, silence) = (expected, 0.0);
            }
            self.inserted += silence;
        }
        let before_zero = samples(-position).min(length);
        let from = before_zero.max(samples(times.trim_start).min(length));
        let mut to = length.saturating_sub(samples(times.trim_end)).max(from);
        // Samples cut for no reason of time take no time.
        let dropped = (from - before_zero) as f64 / rate;
        if let Some(end) = self.end {
            to = to.min(from + samples(end - position - before_zero as f64 / rate));
        }
        let to = to.max(from);
        self.position = Some(position + to as f64 / rate - dropped);
        Placement { silence, is_gap, from, to, ignored_jump }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 1_000.0;

    fn at(start: f64) -> Times {
        Times { start: Some(start), ..Times::default() }
    }

    fn heard(placement: Placement) -> (f64, usize, usize) {
        ((placement.silence * RATE).round() / RATE, placement.from, placement.to)
    }

    #[test]
    fn encoder_delay_is_cut_even_when_it_is_longer_than_a_packet() {
        let mut place = Place::default();
        assert_eq!(heard(place.place(at(-0.25), 100, RATE)), (0.0, 100, 100));
        assert_eq!(heard(place.place(Times::default(), 100, RATE)), (0.0, 100, 100));
        assert_eq!(heard(place.place(Times::default(), 100, RATE)), (0.0, 50, 100));
        assert_eq!(heard(place.place(at(0.05), 100, RATE)), (0.0, 0, 100));
        assert!((place.reached() - 0.15).abs() < 1e-9);
    }

    #[test]
    fn a_late_start_and_a_gap_become_silence_and_wavering_times_do_not() {
        let mut place = Place::default();
        assert_eq!(heard(place.place(at(2.0), 100, RATE)), (2.0, 0, 100));
        assert_eq!(heard(place.place(at(2.13), 100, RATE)), (0.0, 0, 100));
        assert_eq!(heard(place.place(at(2.7), 100, RATE)), (0.5, 0, 100));
        assert_eq!(heard(place.place(at(1.0), 100, RATE)), (0.0, 0, 100));
    }

    #[test]
    fn times_count_from_where_the_media_begins() {
        let mut place = Place::default();
        place.begin(1_000.0, None, None);
        assert_eq!(heard(place.place(at(1_000.5), 100, RATE)), (0.5, 0, 100));
    }

    #[test]
    fn padding_behind_the_end_is_cut() {
        let mut place = Place::default();
        place.begin(0.0, Some(0.15), None);
        assert_eq!(heard(place.place(at(-0.02), 100, RATE)), (0.0, 20, 100));
        assert_eq!(heard(place.place(Times::default(), 100, RATE)), (0.0, 0, 70));
        assert_eq!(heard(place.place(Times::default(), 100, RATE)), (0.0, 0, 0));
        let trim = Times { trim_start: 0.02, trim_end: 0.03, ..at(0.0) };
        assert_eq!(heard(Place::default().place(trim, 100, RATE)), (0.0, 20, 70));
    }

    #[test]
    fn a_time_out_of_this_world_is_ignored() {
        let mut place = Place::default();
        place.place(at(0.0), 100, RATE);
        let placement = place.place(at(1e9), 100, RATE);
        assert_eq!(heard(placement), (0.0, 0, 100));
        assert!(placement.ignored_jump.is_some());
        assert_eq!(heard(place.place(at(f64::NAN), 100, RATE)), (0.0, 0, 100));
    }

    #[test]
    fn a_later_part_goes_on_where_the_one_before_ended() {
        let mut place = Place::default();
        place.place(at(0.0), 3_000, RATE);
        place.begin(0.0, None, None);
        assert_eq!(heard(place.place(at(-0.01), 100, RATE)), (0.0, 10, 100));
        assert!((place.reached() - 3.09).abs() < 1e-9);
    }
}
