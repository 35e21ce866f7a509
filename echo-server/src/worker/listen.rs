//! A live session in the worker process: sound in orders, words in events.

use std::sync::mpsc::Receiver;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use echo_core::{Audio, CancelToken, Error, Language, Mode, TranscribeOptions, Transcriber};

use super::child::{Task, tell};
use super::{Event, Order};
use crate::live::{Heard, LiveEvent, LiveOptions, LiveWord, Scheme};

/// What Whisper hears.
const RATE_HZ: u32 = 16_000;
/// New sound that is worth a look, in samples of 16 kHz.
const LOOK_SAMPLES: usize = 4_000;

/// Hears a session to its end.
pub(super) fn attend(
    transcriber: &Transcriber,
    session: &LiveOptions,
    cancel: &CancelToken,
    orders: &Receiver<Task>,
) {
    let mut intake = Intake::new(session.sample_rate_hz);
    let (mut scheme, mut ear) = (Scheme::default(), Ear::new(transcriber, session, cancel));
    let mut busy_seconds = 0.0;
    let outcome = loop {
        let Some(asked) = gather(&mut intake, session, orders) else { return };
        let began = Instant::now();
        let stepped = listen(&mut scheme, &mut ear, &mut intake.ready, &asked, session);
        busy_seconds += began.elapsed().as_secs_f64();
        match stepped {
            Ok(()) if asked == Asked::Stop => break Ok(()),
            Ok(()) => tell(&Event::Live(LiveEvent::Heard { seconds: scheme.seconds() })),
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = outcome
        && !matches!(error, Error::Cancelled)
    {
        tracing::error!(%error, "live sound could not be transcribed");
        let (code, message) = ("engine_failed".to_owned(), error.to_string());
        tell(&Event::Live(LiveEvent::Error { code, message }));
    }
    tell(&Event::Live(LiveEvent::Done { duration: scheme.seconds(), busy_seconds }));
}

/// What the client wants beside more words.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Final,
    Stop,
}

/// Waits for sound or for a wish; `None` when the server is gone.
fn gather(intake: &mut Intake, session: &LiveOptions, orders: &Receiver<Task>) -> Option<Asked> {
    loop {
        let next = if intake.ready.len() < LOOK_SAMPLES {
            Some(orders.recv().ok()?)
        } else {
            orders.try_recv().ok()
        };
        match next.map(|task| task.order) {
            None => return Some(Asked::Nothing),
            Some(Order::Audio(text)) => {
                let bytes = STANDARD.decode(text).unwrap_or_default();
                intake.push(&session.encoding.samples(&bytes));
            }
            Some(Order::Finalize) => {
                intake.finish();
                return Some(Asked::Final);
            }
            // Whatever else comes does not belong to a session.
            Some(_) => {
                intake.finish();
                return Some(Asked::Stop);
            }
        }
    }
}

/// Decodes what has come and tells of it.
fn listen(
    scheme: &mut Scheme,
    ear: &mut Ear<'_>,
    waiting: &mut Vec<f32>,
    asked: &Asked,
    session: &LiveOptions,
) -> Result<(), Error> {
    loop {
        // A window that is full gets room by being decoded.
        let taken = scheme.push(waiting);
        waiting.drain(..taken);
        let is_all = waiting.is_empty();
        let ends = is_all && *asked != Asked::Nothing;
        if ends || scheme.is_due() {
            for event in scheme.step(ends, &mut |window| ear.hear(window))? {
                if let LiveEvent::Final(utterance) = &event {
                    ear.settle(utterance.words.len());
                }
                if session.has_partials || !matches!(event, LiveEvent::Partial(_)) {
                    tell(&Event::Live(event));
                }
            }
        }
        if is_all {
            return Ok(());
        }
    }
}

/// The recogniser, as a session uses it.
struct Ear<'a> {
    transcriber: &'a Transcriber,
    options: TranscribeOptions,
    cancel: &'a CancelToken,
    detected: Option<Language>,
}

impl<'a> Ear<'a> {
    fn new(transcriber: &'a Transcriber, session: &LiveOptions, cancel: &'a CancelToken) -> Self {
        let mut options = session.options.to_core();
        options.words = true;
        options.mode = Mode::Batched;
        // A word late is worse than a word wrong, which the next decoding rights.
        options.decode.beam_size = 1;
        options.decode.temperatures = vec![0.0];
        // The words have times of their own.
        options.decode.without_timestamps = true;
        Self { transcriber, options, cancel, detected: None }
    }

    fn hear(&mut self, window: &[f32]) -> Result<Heard, Error> {
        let audio = Audio::from_samples(window, RATE_HZ)?;
        let request = self.transcriber.request(audio).options(self.options.clone());
        let transcript = request.cancel_with(self.cancel.clone()).run()?;
        let words = transcript.words().map(|word| LiveWord {
            start: word.start,
            end: word.end,
            word: word.text.clone(),
            score: word.probability,
        });
        let words: Heard = words.filter(|word| !word.word.is_empty()).collect();
        self.detected = transcript.language;
        Ok(words)
    }

    /// After a few words the language is known, and is not looked for again.
    fn settle(&mut self, words: usize) {
        if words >= 3 && self.options.language.is_none() {
            self.options.language = self.detected;
        }
    }
}

/// Brings sound of any rate to 16 kHz piece by piece.
///
/// A resampler looks to both sides of a sample. Each piece is resampled with its neighbours, and only
/// its own part is kept; pieces are whole numbers of samples at both rates, so nothing drifts.
struct Intake {
    rate_hz: usize,
    /// Samples of the smallest piece, at the rate they come in and at 16 kHz.
    piece: (usize, usize),
    /// Pieces on each side that are only looked at.
    context: usize,
    raw: Vec<f32>,
    /// Pieces of `raw` that went into `ready` before.
    done: usize,
    ready: Vec<f32>,
}

impl Intake {
    fn new(rate_hz: u32) -> Self {
        let rate_hz = (rate_hz as usize).max(1);
        let common = greatest_common_divisor(rate_hz, RATE_HZ as usize);
        let piece = (rate_hz / common, RATE_HZ as usize / common);
        // 20 ms are more than the resampler's filter is long.
        let context =
            if rate_hz == RATE_HZ as usize { 0 } else { (rate_hz / 50).div_ceil(piece.0) };
        Self { rate_hz, piece, context, raw: Vec::new(), done: 0, ready: Vec::new() }
    }

    fn push(&mut self, samples: &[f32]) {
        if self.context == 0 {
            self.ready.extend_from_slice(samples);
            return;
        }
        self.raw.extend_from_slice(samples);
        let whole = (self.raw.len() / self.piece.0).saturating_sub(self.context);
        // A few pieces at once are cheaper than each by itself.
        if whole >= self.done + self.context {
            self.take(whole);
        }
    }

    /// Takes what is there, to the last whole piece.
    fn finish(&mut self) {
        if self.context > 0 {
            self.take(self.raw.len() / self.piece.0);
        }
    }

    fn take(&mut self, until: usize) {
        let Ok(all) = Audio::from_samples(self.raw.as_slice(), self.rate_hz as u32) else { return };
        let (from, to) = (self.done * self.piece.1, until * self.piece.1);
        let all = all.samples();
        self.ready.extend_from_slice(all.get(from..to.min(all.len())).unwrap_or_default());
        let forgotten = until.saturating_sub(self.context);
        self.raw.drain(..forgotten * self.piece.0);
        self.done = until - forgotten;
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_in_pieces_becomes_what_it_becomes_as_a_whole() {
        for rate_hz in [8_000, 16_000, 22_050, 44_100, 48_000] {
            let tone: Vec<f32> =
                (0..rate_hz * 2).map(|n| (n as f32 * 900.0 / rate_hz as f32).sin() * 0.5).collect();
            let whole = Audio::from_samples(tone.clone(), rate_hz).unwrap();
            let mut intake = Intake::new(rate_hz);
            for piece in tone.chunks(777) {
                intake.push(piece);
            }
            intake.finish();
            assert!(whole.samples().len() - intake.ready.len() < 700, "{rate_hz}");
            // The last samples have nothing after them in either.
            let pairs = whole.samples().iter().zip(&intake.ready).take(intake.ready.len() - 400);
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Filters are cut off where they are below a thousandth.
            assert!(worst < 2e-3, "{rate_hz}: {worst}");
        }
    }
}
