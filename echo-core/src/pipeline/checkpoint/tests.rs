//! Checkpoints as values: written, damaged, put together, refused.

use super::*;
use crate::language::Language;
use crate::transcript::{Decoding, Word};

/// A segment with numbers that decimals of milliseconds do not keep.
fn segment(start: f64) -> Segment {
    let mut segment = Segment::new(start + 0.1 + 0.2, start + 1.0 / 3.0, "ja, \"so\" – gut\u{0}");
    let mut word = Word::new(start + 1e-9, start + 1e-7, "ja");
    word.probability = Some(0.1_f32 + 0.2);
    segment.words = vec![word, Word::new(start, start, "gut")];
    segment.language = Some(Language::ENGLISH);
    segment.decoding = Some(Decoding {
        tokens: vec![1, 50_000],
        temperature: 0.2,
        avg_logprob: f32::NEG_INFINITY,
        compression_ratio: 1.0 / 3.0,
        no_speech_prob: f32::MIN_POSITIVE,
    });
    segment
}

/// After so many batches, each of which is done with one chunk and leaves a rest of the next one.
fn after(n_batches: usize, first_batch: usize) -> Checkpoint {
    Checkpoint::new(State {
        print: "p".to_owned(),
        first_batch,
        n_batches,
        n_done: n_batches,
        n_begun: n_batches + 1,
        segments: Exact((first_batch..n_batches).map(|batch| segment(batch as f64)).collect()),
        open: vec![Exact(vec![segment(n_batches as f64)])],
        rests: vec![(
            n_batches,
            [n_batches as f64 + 0.3, n_batches as f64 + 1.0].map(f64::to_bits),
        )],
        floor: (n_batches as f64 - 1e-9).to_bits(),
        reached: (n_batches as f64).to_bits(),
    })
}

fn chunks(count: usize) -> Vec<Chunk<'static>> {
    let span = |index: usize| Region::new(index as f64, index as f64 + 1.0);
    let language = Language::ENGLISH;
    let chunk = |index| Chunk {
        samples: &[],
        span: span(index),
        language,
        is_first: index == 0,
        speech: &[],
        sounds: &[],
    };
    (0..count).map(chunk).collect()
}

fn written(checkpoint: &Checkpoint) -> String {
    serde_json::to_string(checkpoint).unwrap()
}

#[test]
fn what_was_written_is_read_to_the_last_bit() {
    let checkpoint = after(3, 0);
    let text = written(&checkpoint);
    let read: Checkpoint = serde_json::from_str(&text).unwrap();
    assert_eq!(read, checkpoint);
    assert_eq!(written(&read), text);
    // The keys of a map that was passed on by somebody else have another order.
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::from_value::<Checkpoint>(value).unwrap(), checkpoint);
}

#[test]
fn whatever_is_damaged_is_no_checkpoint() {
    let text = written(&after(2, 0)).into_bytes();
    for at in 0..text.len() {
        assert!(serde_json::from_slice::<Checkpoint>(&text[..at]).is_err(), "cut at {at}");
        for bit in [1, 2, 16] {
            let mut damaged = text.clone();
            damaged[at] ^= bit;
            // What says the same in other letters is not damaged.
            if let Ok(read) = serde_json::from_slice::<Checkpoint>(&damaged) {
                assert_eq!(read, after(2, 0), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn parts_that_follow_each_other_are_one() {
    let mut all = after(1, 0);
    assert!(!all.append(after(3, 2)), "a part is missing");
    assert!(all.append(after(2, 1)));
    assert!(!all.append(after(2, 1)), "it is in already");
    let mut other = after(3, 2);
    other.0.print = "another run".to_owned();
    assert!(!all.append(other));
    assert!(all.append(after(3, 2)));
    assert_eq!(all, after(3, 0));
    assert_eq!((all.reached(), all.segments().len()), (3.0, 3));
}

#[test]
fn a_run_goes_on_only_from_what_is_of_it_and_fits() {
    let chunks = chunks(5);
    let (standing, segments, floor) = after(3, 0).resume("p", &chunks).unwrap();
    assert_eq!((standing.n_done, standing.n_begun, standing.n_batches), (3, 4, 3));
    assert_eq!(standing.rests, [Rest { chunk: 3, span: Region::new(3.3, 4.0) }]);
    assert_eq!((segments.len(), floor), (3, 3.0 - 1e-9));
    assert!(after(3, 0).resume("q", &chunks).is_err());
    assert!(after(3, 1).resume("p", &chunks).is_err());
    let refused = |change: fn(&mut State)| {
        let mut state = after(3, 0).0;
        change(&mut state);
        Checkpoint::new(state).resume("p", &chunks).is_err()
    };
    assert!(refused(|state| state.n_begun = 6));
    assert!(refused(|state| state.n_done = usize::MAX));
    assert!(refused(|state| (state.n_done, state.n_begun) = (4, 3)));
    assert!(refused(|state| state.open.clear()));
    assert!(refused(|state| state.rests.clear()));
    assert!(refused(|state| state.rests[0].0 = 4));
    assert!(refused(|state| state.rests[0].0 = usize::MAX));
    assert!(refused(|state| state.rests.push(state.rests[0])));
    assert!(refused(|state| state.rests[0].1 = [f64::NAN, 4.0].map(f64::to_bits)));
    assert!(refused(|state| state.rests[0].1 = [3.5, 4.5].map(f64::to_bits)));
    assert!(refused(|state| state.rests[0].1 = [3.0, 4.0].map(f64::to_bits)));
    assert!(refused(|state| state.floor = f64::NAN.to_bits()));
}
