//! Words from sound that is still coming: the utterance at hand is decoded again and again.
//!
//! Whisper hears windows, not streams. The window here is the utterance so far; each decoding of it is
//! a hypothesis, told as partial. It becomes final when its speaker pauses, when the client says so, or
//! when it gets long: then up to where the last two hypotheses agree, and the rest begins the next
//! window (Liu et al. 2020, "local agreement"; Macháček et al. 2023 for Whisper). Silence is kept only
//! so long that no beginning of a word is lost.
//!
//! The decoder is a function, so that the rules can be tested without one.

use super::{LiveEvent, LiveWord, Utterance};

/// Whisper wants 16 kHz.
const RATE_HZ: usize = 16_000;
/// New sound that is worth another decoding, in seconds.
const STEP: f64 = 0.3;
/// A speaker who is silent for so long has ended.
const PAUSE: f64 = 0.8;
/// An utterance longer than this is cut where hypotheses agree.
const LONG: f64 = 8.0;
/// The longest window, whatever hypotheses agree on.
const LONGEST: f64 = 20.0;
/// Silence kept before speech: the decoder may hear nothing in the first second of a sentence.
const PREROLL: f64 = 1.5;
/// Words end a little later than attention says.
const TAIL: f64 = 0.2;

/// What a decoding heard: words with seconds from the start of its samples.
pub type Heard = Vec<LiveWord>;

/// The state of a session.
#[derive(Debug, Default)]
pub struct Scheme {
    /// Sound that was not decoded for good yet, at 16 kHz.
    window: Vec<f32>,
    /// Samples before the window.
    passed: usize,
    /// Samples of the window at the last decoding.
    decoded: usize,
    /// The last hypothesis, with seconds from the start of the session.
    hypothesis: Vec<LiveWord>,
    is_speaking: bool,
}

impl Scheme {
    /// Takes sound, at most to the end of the longest window; says how many samples it took.
    pub fn push(&mut self, samples: &[f32]) -> usize {
        let room = (LONGEST * RATE_HZ as f64) as usize - self.window.len().min(20 * RATE_HZ);
        let taken = samples.len().min(room);
        self.window.extend_from_slice(&samples[..taken]);
        taken
    }

    /// Seconds of sound so far.
    pub fn seconds(&self) -> f64 {
        seconds(self.passed + self.window.len())
    }

    /// Whether enough is new.
    pub fn is_due(&self) -> bool {
        seconds(self.window.len() - self.decoded) >= STEP
    }

    /// Decodes the window and tells what follows. `ends` makes everything final.
    ///
    /// # Errors
    /// Those of the decoder.
    pub fn step<E>(
        &mut self,
        ends: bool,
        decode: &mut dyn FnMut(&[f32]) -> Result<Heard, E>,
    ) -> Result<Vec<LiveEvent>, E> {
        let mut events = Vec::new();
        if self.window.is_empty()
            || (self.decoded == self.window.len() && self.hypothesis.is_empty())
        {
            return Ok(events);
        }
        // Nothing new since the last decoding: its words are as good as any.
        let words = if self.decoded == self.window.len() {
            self.hypothesis.clone()
        } else {
            self.on_clock(decode(&self.window)?)
        };
        self.decoded = self.window.len();
        let now = self.seconds();
        let Some(last) = words.last() else {
            self.fall_silent(&mut events);
            return Ok(events);
        };
        if !self.is_speaking {
            self.is_speaking = true;
            events.push(LiveEvent::SpeechStarted { start: words[0].start });
        }
        let end = last.end;
        if ends || now - end >= PAUSE {
            events.push(LiveEvent::Final(utterance(&words)));
            events.push(LiveEvent::UtteranceEnd { end });
            self.is_speaking = false;
            self.hypothesis.clear();
            // What follows the last word may be the beginning of words not heard yet.
            let cut = if ends { now } else { end + TAIL };
            self.cut(cut);
            return Ok(events);
        }
        self.tell_changes(words, now, &mut events);
        Ok(events)
    }

    /// Tells a hypothesis, and of a long one makes final what is sure.
    fn tell_changes(&mut self, words: Vec<LiveWord>, now: f64, events: &mut Vec<LiveEvent>) {
        let window = now - seconds(self.passed);
        let mut rest = words;
        if window >= LONG {
            let agreed = agreement(&self.hypothesis, &rest);
            let is_full = window >= LONGEST - STEP;
            let sure = if is_full { rest.len() } else { cut_point(&rest, agreed) };
            if sure > 0 {
                let after = rest.split_off(sure);
                events.push(LiveEvent::Final(utterance(&rest)));
                let end = rest.last().map_or(now, |word| word.end);
                // Between two words, so that the next window begins with neither's sound.
                let start = after.first().map_or(end, |word| word.start.max(end));
                self.cut((end + start) / 2.0);
                rest = after;
            }
        }
        if !rest.is_empty() && rest != self.hypothesis {
            events.push(LiveEvent::Partial(utterance(&rest)));
        }
        self.hypothesis = rest;
    }

    fn fall_silent(&mut self, events: &mut Vec<LiveEvent>) {
        // What was heard before was none, or the decoder would hear it still.
        if self.is_speaking {
            self.is_speaking = false;
            events.push(LiveEvent::UtteranceEnd { end: self.seconds() });
        }
        self.hypothesis.clear();
        self.cut(self.seconds() - PREROLL);
    }

    /// Forgets sound before a moment.
    fn cut(&mut self, at: f64) {
        let until = ((at * RATE_HZ as f64).max(0.0) as usize).saturating_sub(self.passed);
        let until = until.min(self.window.len());
        self.window.drain(..until);
        self.passed += until;
        self.decoded = self.decoded.saturating_sub(until);
    }

    /// Words with times of the session, in order, none after the end of the sound.
    fn on_clock(&self, heard: Heard) -> Vec<LiveWord> {
        let (offset, now) = (seconds(self.passed), self.seconds());
        let mut last = offset;
        let mut words = Vec::with_capacity(heard.len());
        for mut word in heard {
            word.start = milliseconds((word.start + offset).clamp(last, now));
            word.end = milliseconds((word.end + offset).clamp(word.start, now));
            last = word.start;
            words.push(word);
        }
        words
    }
}

/// How many words two hypotheses begin with in common, whatever their capitals and punctuation.
fn agreement(before: &[LiveWord], now: &[LiveWord]) -> usize {
    let plain = |word: &LiveWord| -> String {
        word.word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    before.iter().zip(now).take_while(|(a, b)| plain(a) == plain(b)).count()
}

/// Where to cut a long utterance within its agreed words: after the last sentence, or else before the
/// last two words, whose ends may still move.
fn cut_point(words: &[LiveWord], agreed: usize) -> usize {
    let sure = agreed.min(words.len().saturating_sub(1));
    let ends_sentence = |word: &LiveWord| word.word.ends_with(['.', '?', '!', '。', '？', '！']);
    let sentence = words[..sure].iter().rposition(ends_sentence);
    sentence.map_or(sure.saturating_sub(2), |last| last + 1)
}

fn utterance(words: &[LiveWord]) -> Utterance {
    let text: Vec<&str> = words.iter().map(|word| word.word.as_str()).collect();
    Utterance {
        text: text.join(" "),
        start: words.first().map_or(0.0, |word| word.start),
        end: words.last().map_or(0.0, |word| word.end),
        words: words.to_vec(),
    }
}

fn seconds(samples: usize) -> f64 {
    samples as f64 / RATE_HZ as f64
}

fn milliseconds(time: f64) -> f64 {
    (time * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder of a language in which a sample of `n` belongs to word number `n`, 0 is silence.
    fn decode(samples: &[f32]) -> Result<Heard, ()> {
        let mut words: Heard = Vec::new();
        for (index, sample) in samples.iter().enumerate().filter(|(_, sample)| **sample > 0.0) {
            let at = seconds(index);
            let name = format!("w{sample}{}", if *sample % 5.0 == 0.0 { "." } else { "" });
            match words.last_mut().filter(|word| word.word == name) {
                Some(word) => word.end = at,
                None => words.push(LiveWord { start: at, end: at, word: name, score: None }),
            }
        }
        Ok(words)
    }

    /// Half a second of each number.
    fn sound(numbers: &[u8]) -> Vec<f32> {
        numbers.iter().flat_map(|n| vec![f32::from(*n); RATE_HZ / 2]).collect()
    }

    fn run(numbers: &[u8]) -> (Vec<LiveEvent>, Scheme) {
        let (mut scheme, mut events) = (Scheme::default(), Vec::new());
        for chunk in sound(numbers).chunks(1600) {
            assert_eq!(scheme.push(chunk), chunk.len());
            if scheme.is_due() {
                events.extend(scheme.step(false, &mut decode).unwrap());
            }
        }
        events.extend(scheme.step(true, &mut decode).unwrap());
        (events, scheme)
    }

    fn finals(events: &[LiveEvent]) -> Vec<LiveWord> {
        let words = events.iter().filter_map(|event| match event {
            LiveEvent::Final(utterance) => Some(utterance.words.clone()),
            _ => None,
        });
        words.flatten().collect()
    }

    #[test]
    fn a_pause_makes_words_final_and_silence_is_forgotten() {
        let (events, scheme) = run(&[0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 4, 0]);
        let words: Vec<String> = finals(&events).into_iter().map(|word| word.word).collect();
        assert_eq!(words, ["w1", "w2", "w3", "w4"]);
        let starts = events.iter().filter(|e| matches!(e, LiveEvent::SpeechStarted { .. })).count();
        let ends = events.iter().filter(|e| matches!(e, LiveEvent::UtteranceEnd { .. })).count();
        assert_eq!((starts, ends), (2, 2));
        let first = finals(&events)[0].clone();
        assert!((first.start - 1.0).abs() < 0.01, "{first:?}");
        let last = finals(&events)[3].clone();
        assert!((last.start - 5.5).abs() < 0.01, "{last:?}");
        assert_eq!(scheme.seconds(), 6.5);
        assert!(scheme.window.is_empty());
    }

    #[test]
    fn words_are_told_before_they_are_final() {
        let (events, _) = run(&[1, 2, 3, 0, 0]);
        let Some(LiveEvent::Partial(first)) =
            events.iter().find(|event| matches!(event, LiveEvent::Partial(_)))
        else {
            panic!("no partial: {events:?}")
        };
        assert_eq!(first.text, "w1");
    }

    #[test]
    fn long_speech_is_cut_where_hypotheses_agree_and_nothing_is_lost() {
        let numbers: Vec<u8> = (1..=90).collect();
        let (events, scheme) = run(&numbers);
        let words: Vec<String> = finals(&events).iter().map(|word| word.word.clone()).collect();
        let wanted: Vec<String> =
            numbers.iter().map(|n| format!("w{n}{}", if n % 5 == 0 { "." } else { "" })).collect();
        assert_eq!(words, wanted);
        assert!(finals(&events).windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert_eq!(scheme.seconds(), 45.0);
    }

    #[test]
    fn sound_that_comes_too_fast_is_taken_window_by_window() {
        let mut scheme = Scheme::default();
        let sound = vec![0.0; 30 * RATE_HZ];
        assert_eq!(scheme.push(&sound), 20 * RATE_HZ);
        assert_eq!(scheme.push(&sound), 0);
        assert!(scheme.step(false, &mut decode).unwrap().is_empty());
        assert!(scheme.push(&sound) > 18 * RATE_HZ);
    }

    #[test]
    fn a_client_that_finalizes_twice_gets_one_final() {
        let mut scheme = Scheme::default();
        scheme.push(&sound(&[1, 2]));
        let first = scheme.step(true, &mut decode).unwrap();
        assert_eq!(finals(&first).len(), 2);
        assert!(scheme.step(true, &mut decode).unwrap().is_empty());
    }
}
