//! Rules that make times well formed: in pairs around text, never falling, starting early.
//!
//! A transcript with times reads `<|0.00|> text<|4.20|><|4.20|> text<|9.00|>`. The rules see what
//! one hypothesis has said and change its next logits, `(vocab)`, in place. Source:
//! `ApplyTimestampRules` in openai/whisper's decoding.py and in CTranslate2's whisper.cc.

use crate::kernels::rank::Restriction;
use crate::whisper::tokenizer::{SECONDS_PER_TIMESTAMP, SpecialTokens};

/// The rules of one vocabulary.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimestampRules {
    end_of_text: u32,
    no_timestamps: u32,
    /// The first time; every smaller id is text or special.
    begin: u32,
    /// One past the last time.
    end: u32,
    /// One past the latest first time.
    initial_end: u32,
}

impl TimestampRules {
    /// The first time said is at most `max_initial_timestamp` seconds.
    pub(super) fn new(special: &SpecialTokens, max_initial_timestamp: f32) -> Self {
        let (begin, end) = (special.timestamp_begin, special.end);
        let initial = (f64::from(max_initial_timestamp) / SECONDS_PER_TIMESTAMP).round();
        Self {
            end_of_text: special.end_of_text,
            no_timestamps: special.no_timestamps(),
            begin,
            end,
            initial_end: end.min(begin.saturating_add(initial.max(0.0) as u32).saturating_add(1)),
        }
    }

    /// Adds what may not follow `said`.
    ///
    /// `has_prefix` says that a forced prefix stands before `said`. The reference then still asks
    /// for a time first, faster-whisper does not, having put 0.00 in front of the prefix; it is
    /// followed here.
    pub(super) fn restrict(&self, to: &mut Restriction, said: &[u32], has_prefix: bool) {
        let forbidden = &mut to.forbidden;
        forbidden.push(self.no_timestamps..self.no_timestamps + 1);
        let is_timestamp = |token: &u32| (self.begin..self.end).contains(token);
        match said {
            [] if has_prefix => return,
            [] => {
                forbidden.extend([0..self.begin, self.initial_end..self.end]);
                return;
            }
            [.., last] if !is_timestamp(last) => {
                // Times never fall, and a segment lasts a while.
                if let Some(&latest) = said.iter().rev().find(|token| is_timestamp(token)) {
                    forbidden.push(self.begin..latest + 1);
                }
            }
            [.., before, last] if !is_timestamp(before) => {
                // The end of a segment: the next one starts, or the transcript ends.
                forbidden.extend([0..self.end_of_text, self.begin..*last]);
            }
            // The start of a segment: text follows.
            _ => {
                forbidden.push(self.begin..self.end);
                return;
            }
        }
        // If the times together are likelier than any single token of text, a time it is.
        to.group = Some(self.begin..self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::logits::NEVER;
    use crate::kernels::rank;

    const TEXT: u32 = 7;

    fn special() -> SpecialTokens {
        SpecialTokens::new("test", 300 + 2 + 99 + 6 + 1501, 300).unwrap()
    }

    /// The time of an encoder frame.
    fn at(frame: u32) -> u32 {
        special().timestamp_begin + frame
    }

    fn apply(rules: &TimestampRules, logits: &mut [f32], said: &[u32], has_prefix: bool) {
        let mut restriction = Restriction::default();
        rules.restrict(&mut restriction, said, has_prefix);
        rank::restrict(logits, &restriction);
    }

    /// Which kinds of token may follow: text, the end, and the range of times.
    fn allowed(logits: &[f32]) -> (bool, bool, Option<(u32, u32)>) {
        let special = special();
        let ok = |token: &u32| logits[*token as usize] != NEVER;
        let frames = |token: u32| token - special.timestamp_begin;
        let times: Vec<u32> = (special.timestamp_begin..special.end).filter(ok).collect();
        let range = times.first().zip(times.last()).map(|(&a, &b)| (frames(a), frames(b)));
        (ok(&TEXT), ok(&special.end_of_text), range)
    }

    fn after(said: &[u32], has_prefix: bool) -> (bool, bool, Option<(u32, u32)>) {
        // Text so likely that the mass of the times does not matter.
        let mut logits = vec![0.0; special().end as usize];
        logits[TEXT as usize] = 20.0;
        logits[special().end_of_text as usize] = 20.0;
        apply(&TimestampRules::new(&special(), 1.0), &mut logits, said, has_prefix);
        assert_eq!(logits[special().no_timestamps() as usize], NEVER);
        allowed(&logits)
    }

    #[test]
    fn a_time_of_at_most_the_initial_maximum_comes_first() {
        assert_eq!(after(&[], false), (false, false, Some((0, 50))));
    }

    #[test]
    fn after_a_forced_prefix_anything_may_come() {
        assert_eq!(after(&[], true), (true, true, Some((0, 1500))));
    }

    #[test]
    fn text_follows_the_start_of_a_segment() {
        assert_eq!(after(&[at(0)], false), (true, true, None));
        assert_eq!(after(&[at(0), TEXT, at(200), at(200)], false), (true, true, None));
    }

    #[test]
    fn the_end_of_a_segment_is_followed_by_a_start_or_the_end() {
        assert_eq!(after(&[at(0), TEXT, at(200)], false), (false, true, Some((200, 1500))));
    }

    #[test]
    fn a_segment_lasts_a_while_and_times_never_fall() {
        assert_eq!(after(&[at(25), TEXT], false), (true, true, Some((26, 1500))));
        let said = [at(0), TEXT, at(200), at(250), TEXT, TEXT];
        assert_eq!(after(&said, false), (true, true, Some((251, 1500))));
        assert_eq!(after(&[at(0), TEXT, at(1500), at(1500), TEXT], false), (true, true, None));
    }

    #[test]
    fn times_that_are_together_likelier_than_any_text_win() {
        let rules = TimestampRules::new(&special(), 1.0);
        let mut logits = vec![0.0; special().end as usize];
        // Alone, the text is likelier than any one of the 1,500 times: ln(1500) is 7.3.
        logits[TEXT as usize] = 7.0;
        apply(&rules, &mut logits, &[at(0), TEXT], false);
        assert_eq!(allowed(&logits), (false, false, Some((1, 1500))));
        let mut logits = vec![0.0; special().end as usize];
        logits[TEXT as usize] = 7.5;
        apply(&rules, &mut logits, &[at(0), TEXT], false);
        assert_eq!(allowed(&logits), (true, true, Some((1, 1500))));
    }

    #[test]
    fn a_late_initial_maximum_stops_at_the_last_time() {
        let mut logits = vec![0.0; special().end as usize];
        apply(&TimestampRules::new(&special(), 30.0), &mut logits, &[], false);
        assert_eq!(allowed(&logits), (false, false, Some((0, 1500))));
        let mut logits = vec![0.0; special().end as usize];
        apply(&TimestampRules::new(&special(), 0.0), &mut logits, &[], false);
        assert_eq!(allowed(&logits), (false, false, Some((0, 0))));
    }
}
