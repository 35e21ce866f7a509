//! Diarization from sound to turns, on the reference's sample and on what is no conversation.

use super::*;
use crate::models::weights::Weights;
use crate::segmentation::testing::{reference, sample, weights};
use crate::transcript::Transcript;

fn diarizer() -> Option<Diarizer> {
    let segmentation: Box<dyn Weights> = weights("segmentation-3.0")?;
    let segmentation =
        Arc::new(PyanNet::load(segmentation.as_ref(), Head::Powerset, ComputeType::Auto).unwrap());
    let voices = weights("campplus")?;
    Some(
        Diarizer::campplus(segmentation, voices.as_ref(), ComputeType::Auto, &Threads::default())
            .unwrap(),
    )
}

fn run(diarizer: &Diarizer, samples: &[f32], options: &Diarization) -> Diarized {
    let mut last = -1.0;
    let diarized = diarizer.run(samples, options, &mut |done| {
        assert!(done >= last, "progress falls from {last} to {done}");
        last = done;
        Ok(())
    });
    assert!((last - 1.0).abs() < 1e-9);
    diarized.unwrap()
}

/// Who of two speakers speaks at each 10 ms.
fn activity(turns: &[Turn], names: [&str; 2]) -> Vec<[bool; 2]> {
    (0..3000)
        .map(|at| {
            let time = f64::from(at) / 100.0;
            names.map(|name| {
                turns.iter().any(|t| t.speaker.0 == name && t.start <= time && time < t.end)
            })
        })
        .collect()
}

#[test]
fn two_speakers_of_a_call_are_told_apart() {
    let (Some(diarizer), Some(sample), Some(rttm)) =
        (diarizer(), sample(), reference("sample.rttm"))
    else {
        return;
    };
    let expected = Transcript::from_rttm(std::str::from_utf8(&rttm).unwrap()).unwrap();
    let found = run(&diarizer, &sample, &Diarization::new());
    let names: Vec<&str> = found.speakers.iter().map(|(name, _)| name.0.as_str()).collect();
    assert_eq!(names, ["SPEAKER_00", "SPEAKER_01"]);
    assert_eq!(found.turns[0].speaker.0, "SPEAKER_00", "the first to speak is the first");
    let theirs: Vec<&str> = expected.speakers.iter().map(|speaker| speaker.0.as_str()).collect();
    let wanted = activity(&expected.turns, [theirs[0], theirs[1]]);
    let total: usize = wanted.iter().flatten().filter(|&&on| on).count();
    let wrong = |names: [&str; 2]| {
        let found = activity(&found.turns, names);
        let pairs = found.iter().flatten().zip(wanted.iter().flatten());
        pairs.filter(|(found, wanted)| found != wanted).count()
    };
    let least = wrong([names[0], names[1]]).min(wrong([names[1], names[0]]));
    // Confused speech counts twice here: the error rate is 7 %.
    assert!(least * 100 < total * 12, "{least} of {total}");
    assert!(found.exclusive.windows(2).all(|pair| pair[0].end <= pair[1].start + 1e-9));
}

#[test]
fn the_number_of_speakers_is_bounded_as_asked() {
    let (Some(diarizer), Some(sample)) = (diarizer(), sample()) else { return };
    let count = |options: Diarization| run(&diarizer, &sample, &options).speakers.len();
    assert_eq!(count(Diarization::new().speakers(1..=1)), 1);
    assert_eq!(count(Diarization::new().speakers(2..=2)), 2);
    // There is not speech of so many; what there is comes back.
    assert!((2..=20).contains(&count(Diarization::new().speakers(20..=20))));
}

#[test]
fn silence_splinters_and_nothing_have_no_speakers_or_one() {
    let Some(diarizer) = diarizer() else { return };
    let options = Diarization::new();
    assert_eq!(run(&diarizer, &[0.0; 320_000], &options), Diarized::default());
    assert_eq!(run(&diarizer, &[], &options), Diarized::default());
    let Some(sample) = sample() else { return };
    let short = run(&diarizer, &sample[160_000..163_200], &options);
    assert!(short.speakers.len() <= 1);
    assert!(short.turns.iter().all(|turn| turn.end <= 0.2));
    let odd = vec![f32::NAN; 40_000];
    assert!(run(&diarizer, &odd, &options).speakers.len() <= 1);
}

#[test]
fn cancelling_ends_the_work() {
    let (Some(diarizer), Some(sample)) = (diarizer(), sample()) else { return };
    let cancelled = diarizer.run(&sample, &Diarization::new(), &mut |done| {
        if done > 0.0 { Err(crate::error::Error::Cancelled) } else { Ok(()) }
    });
    assert!(matches!(cancelled, Err(crate::error::Error::Cancelled)));
}
