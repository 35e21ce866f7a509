//! From local speakers in windows to turns of speakers in the recording.
//!
//! Each window says who of its local speakers is heard in each of its frames, and clustering says
//! which speaker of the recording each of them is. For each frame of the recording, the windows
//! over it vote: how many speak is the mean of what they say, who speaks are those with most votes
//! (pyannote.audio `speaker_diarization.py`). [`Tracks`] are the frames; [`Rules`] make turns of
//! them that a reader can follow. Votes are 16-bit counts, so memory is a few bytes for each frame
//! and speaker, 8 h of ten speakers in 34 MB.

use crate::segmentation::windows::Windows;
use crate::segmentation::{FIRST_MIDDLE, FRAME_STEP, LOCAL_SPEAKERS, WINDOW_FRAMES};
use crate::timeline::Region;

/// Who of three local speakers is heard in each frame of a window, a bit for each.
pub(crate) type WindowBits = Vec<u8>;

/// Which speaker of the recording each local speaker of a window is.
pub(crate) type WindowLabels = [Option<u16>; LOCAL_SPEAKERS];

/// How many speak in each frame of the recording: the mean over its windows, ties to even.
pub(crate) fn speaker_counts(windows: &Windows, bits: &[WindowBits]) -> Vec<u8> {
    let mut sums = vec![(0u16, 0u16); windows.frames()];
    for (window, bits) in bits.iter().enumerate() {
        let frames = &mut sums[windows.first_frame(window)..];
        for ((sum, covered), bits) in frames.iter_mut().zip(bits) {
            *sum += bits.count_ones() as u16;
            *covered += 1;
        }
    }
    let mean = |&(sum, covered): &(u16, u16)| {
        (f32::from(sum) / f32::from(covered.max(1))).round_ties_even() as u8
    };
    sums.iter().map(mean).collect()
}

/// Who speaks in each frame of the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tracks {
    pub(crate) speakers: usize,
    /// `(frames, speakers)`
    pub(crate) is_active: Vec<bool>,
}

/// How windows vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voting {
    /// As in the reference: all votes count the same, and where fewer speakers have votes than are
    /// said to speak, the first in order without any make up the number.
    Equal,
    /// A window's votes near its ends, where it knows little of what surrounds them, count as little
    /// as a quarter, and who has no votes does not speak.
    Central,
}

impl Voting {
    /// What the vote of a frame of a window counts.
    fn weight(self, frame: usize) -> u16 {
        /// Frames from an end (1.5 s) from which on votes count whole.
        const RAMP: usize = 90;
        const LEAST: usize = 30;
        match self {
            Self::Equal => 1,
            Self::Central => {
                let from_end = frame.min(WINDOW_FRAMES.saturating_sub(frame + 1));
                (LEAST + from_end.min(RAMP)) as u16
            }
        }
    }
}

/// Labels local speakers without a voice of their own: each is the speaker whom other windows hear
/// most in its frames, if it is not another one of the same window. Where there are no labels at
/// all, everybody is one speaker.
pub(crate) fn label_rest(
    windows: &Windows,
    bits: &[WindowBits],
    labels: &mut [WindowLabels],
    voting: Voting,
) {
    let known = labels.iter().flatten().flatten().max().copied();
    let speakers = known.map_or(1, |last| usize::from(last) + 1);
    let mut votes = Vec::new();
    for window in 0..bits.len() {
        for local in 0..LOCAL_SPEAKERS {
            let is_heard = |bits: u8| bits >> local & 1 == 1;
            if labels[window][local].is_some() || !bits[window].iter().any(|&b| is_heard(b)) {
                continue;
            }
            if known.is_none() {
                labels[window][local] = Some(0);
                continue;
            }
            if votes.is_empty() {
                votes = all_votes(windows, bits, labels, (speakers, voting));
            }
            let mut sums = vec![0u32; speakers];
            let rows = votes[windows.first_frame(window) * speakers..].chunks_exact(speakers);
            for (_, row) in bits[window].iter().zip(rows).filter(|(bits, _)| is_heard(**bits)) {
                sums.iter_mut().zip(row).for_each(|(sum, &votes)| *sum += u32::from(votes));
            }
            let is_free = |speaker: usize| !labels[window].contains(&Some(speaker as u16));
            let free = (0..speakers).filter(|&speaker| is_free(speaker) && sums[speaker] > 0);
            let best = free.max_by_key(|&speaker| (sums[speaker], std::cmp::Reverse(speaker)));
            labels[window][local] = best.map(|speaker| speaker as u16);
        }
    }
}

/// The votes of all windows: `(frames, speakers)`.
fn all_votes(
    windows: &Windows,
    bits: &[WindowBits],
    labels: &[WindowLabels],
    (speakers, voting): (usize, Voting),
) -> Vec<u16> {
    let mut votes = vec![0u16; windows.frames() * speakers];
    for (window, (bits, labels)) in bits.iter().zip(labels).enumerate() {
        let first = windows.first_frame(window);
        for (frame, &bits) in bits.iter().enumerate().take(WINDOW_FRAMES) {
            let row = &mut votes[(first + frame) * speakers..][..speakers];
            vote(row, bits, labels, voting.weight(frame));
        }
    }
    votes
}

/// Lets the windows vote; at most `most` speak at once.
pub(crate) fn tracks(
    windows: &Windows,
    bits: &[WindowBits],
    labels: &[WindowLabels],
    (most, voting): (u8, Voting),
) -> Tracks {
    let counts = speaker_counts(windows, bits);
    let known = labels.iter().flatten().flatten().max();
    let speakers = known.map_or(0, |&last| usize::from(last) + 1);
    let mut votes = all_votes(windows, bits, labels, (speakers, voting));
    let mut is_active = vec![false; votes.len()];
    if speakers > 0 {
        let frames = votes.chunks_exact_mut(speakers).zip(is_active.chunks_exact_mut(speakers));
        for ((votes, active), count) in frames.zip(&counts) {
            for _ in 0..usize::from((*count).min(most)).min(speakers) {
                // The first of those with most votes; who was chosen is marked by the last number.
                let left = (0..speakers).filter(|&at| !active[at]);
                let best = left.max_by_key(|&at| (votes[at], std::cmp::Reverse(at)));
                let Some(best) = best else { break };
                if votes[best] == 0 && voting == Voting::Central {
                    break;
                }
                active[best] = true;
            }
        }
    }
    Tracks { speakers, is_active }
}

/// One vote for each speaker that a window hears, however many of its local speakers are that one.
fn vote(row: &mut [u16], bits: u8, labels: &WindowLabels, weight: u16) {
    for (local, label) in labels.iter().enumerate() {
        let Some(label) = label.filter(|_| bits >> local & 1 == 1) else { continue };
        let heard_before =
            (0..local).any(|other| bits >> other & 1 == 1 && labels[other] == Some(label));
        if !heard_before && let Some(votes) = row.get_mut(usize::from(label)) {
            *votes = votes.saturating_add(weight);
        }
    }
}

/// How frames become turns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rules {
    /// Gaps of one speaker shorter than this are filled, in seconds.
    pub(crate) min_gap: f64,
    /// Turns shorter than this are dropped, in seconds.
    pub(crate) min_turn: f64,
}

/// The turns of each speaker, in order of time; no later than `duration`.
pub(crate) fn turns(tracks: &Tracks, rules: Rules, duration: f64) -> Vec<Vec<Region>> {
    let speakers = tracks.speakers;
    let mut all = vec![Vec::new(); speakers];
    if speakers == 0 {
        return all;
    }
    let frames = tracks.is_active.len() / speakers;
    let middle = |frame: usize| FIRST_MIDDLE + FRAME_STEP * frame as f64;
    for (speaker, turns) in all.iter_mut().enumerate() {
        let active = |frame: usize| tracks.is_active[frame * speakers + speaker];
        let mut start = None;
        for frame in 0..=frames {
            let is_on = frame < frames && active(frame);
            match start {
                None if is_on => start = Some(frame),
                Some(first) if !is_on => {
                    let end = middle(frame.min(frames - 1)).min(duration);
                    push(turns, Region { start: middle(first).min(end), end }, rules.min_gap);
                    start = None;
                }
                _ => {}
            }
        }
        turns.retain(|turn| turn.duration() >= rules.min_turn && turn.duration() > 0.0);
    }
    all
}

fn push(turns: &mut Vec<Region>, turn: Region, min_gap: f64) {
    match turns.last_mut() {
        Some(last) if turn.start - last.end < min_gap => last.end = turn.end,
        _ => turns.push(turn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segmentation::pyannet::Head;
    use crate::segmentation::testing::{reference, tensor};

    const AS_THEY_ARE: Rules = Rules { min_gap: 0.0, min_turn: 0.0 };

    fn golden_bits(file: &[u8]) -> Vec<WindowBits> {
        let values = tensor(file, "segmentations");
        let windows = values.chunks_exact(WINDOW_FRAMES * LOCAL_SPEAKERS);
        let bits = |frame: &[f64]| {
            frame.iter().enumerate().fold(0, |bits, (at, &on)| bits | u8::from(on > 0.5) << at)
        };
        windows.map(|window| window.chunks_exact(LOCAL_SPEAKERS).map(bits).collect()).collect()
    }

    #[test]
    fn counts_tracks_and_turns_equal_the_reference() {
        let (Some(golden), Some(expected)) =
            (reference("diarization_30s.safetensors"), reference("expected.json"))
        else {
            return;
        };
        let bits = golden_bits(&golden);
        let windows = Windows { step: 16_000, count: bits.len(), head: Head::Powerset };
        let counts = speaker_counts(&windows, &bits);
        let wanted: Vec<u8> = tensor(&golden, "count").iter().map(|&count| count as u8).collect();
        // The file's counts were capped for the exclusive turns; its frames below were not.
        let capped: Vec<u8> = counts.iter().map(|&count| count.min(1)).collect();
        assert!(capped == wanted, "counts differ");

        let clusters = tensor(&golden, "hard_clusters");
        let labels: Vec<WindowLabels> = clusters
            .chunks_exact(LOCAL_SPEAKERS)
            .zip(&bits)
            .map(|(clusters, bits)| {
                std::array::from_fn(|local| {
                    let is_heard = bits.iter().any(|bits| bits >> local & 1 == 1);
                    (is_heard && clusters[local] >= 0.0).then_some(clusters[local] as u16)
                })
            })
            .collect();
        let tracks = tracks(&windows, &bits, &labels, (u8::MAX, Voting::Equal));
        let wanted: Vec<bool> = tensor(&golden, "discrete").iter().map(|&on| on > 0.5).collect();
        assert!(tracks.is_active == wanted, "frames differ");

        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let mut wanted: Vec<(i64, i64, String)> =
            serde_json::from_value::<Vec<(f64, f64, String)>>(
                expected["diarization_30s"]["turns"].clone(),
            )
            .unwrap()
            .into_iter()
            .map(|(start, end, label)| (ten_thousandths(start), ten_thousandths(end), label))
            .collect();
        let mut found: Vec<(i64, i64, String)> = turns(&tracks, AS_THEY_ARE, 30.0)
            .iter()
            .enumerate()
            .flat_map(|(speaker, turns)| turns.iter().map(move |turn| (speaker, turn)))
            .map(|(speaker, turn)| {
                let label = format!("SPEAKER_{speaker:02}");
                (ten_thousandths(turn.start), ten_thousandths(turn.end), label)
            })
            .collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted);
    }

    fn ten_thousandths(seconds: f64) -> i64 {
        (seconds * 10_000.0).round() as i64
    }

    fn track(on: &[(usize, usize)], frames: usize) -> Tracks {
        let is_on = |frame: usize| on.iter().any(|&(from, to)| (from..to).contains(&frame));
        Tracks { speakers: 1, is_active: (0..frames).map(is_on).collect() }
    }

    #[test]
    fn gaps_are_filled_before_splinters_are_dropped() {
        let tracks = track(&[(10, 12), (15, 17), (200, 202)], 600);
        let bare = turns(&tracks, AS_THEY_ARE, 60.0);
        assert_eq!(bare[0].len(), 3);
        let rules = Rules { min_gap: 0.1, min_turn: 0.1 };
        let kept = turns(&tracks, rules, 60.0);
        assert_eq!(kept[0].len(), 1);
        assert!((kept[0][0].duration() - 7.0 * FRAME_STEP).abs() < 1e-9);
    }

    #[test]
    fn nothing_ends_behind_the_end() {
        let all = turns(&track(&[(0, 600)], 600), AS_THEY_ARE, 5.0);
        assert_eq!(all[0], [Region { start: FIRST_MIDDLE, end: 5.0 }]);
        assert!(turns(&track(&[(500, 600)], 600), AS_THEY_ARE, 5.0)[0].is_empty());
    }

    #[test]
    fn a_speaker_nobody_voted_for_fills_up_only_where_the_reference_is_followed() {
        let windows = Windows { step: 16_000, count: 1, head: Head::Powerset };
        let bits = vec![vec![0b11; WINDOW_FRAMES]];
        let labels = [[Some(1), Some(1), None]];
        let with =
            |voting| tracks(&windows, &bits, &labels, (u8::MAX, voting)).is_active[..2].to_vec();
        assert_eq!(with(Voting::Central), [false, true]);
        assert_eq!(with(Voting::Equal), [true, true]);
    }
}
