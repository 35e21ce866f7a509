//! Where a run stands between two batches, as a value that outlives its process.
//!
//! Which windows share a batch may decide the last bits of what they say. So a checkpoint lies between
//! two batches and holds all that the next ones are made of: the segments that are done, with their words
//! placed; the segments so far of chunks that are heard again in part; and what of these is left to be
//! heard. Sound, speech and language are found anew, which is cheap and gives the same each time.
//!
//! Numbers are written as their bits: decimals of milliseconds, as in a transcript, would come back
//! as other numbers. A digest tells what was damaged on the way, a print of which run it is.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::timeline::Region;
use crate::transcript::Segment;
use crate::whisper::batched::{Chunk, Rest, Standing};

/// A part of a run that is done, so that another run of the same need not do it again.
///
/// [`Request::on_checkpoint`](crate::Request::on_checkpoint) hands one over after each batch, which
/// tells of that batch only; [`append`](Self::append) makes one of those that follow each other, and
/// [`Request::resume_from`](crate::Request::resume_from) goes on from it. It is written with serde, in
/// any format that keeps integers of 64 bits.
///
/// ```no_run
/// use echo_core::{Checkpoint, Transcriber};
///
/// let transcriber = Transcriber::builder().build()?;
/// let mut done: Option<Checkpoint> = None;
/// let outcome = transcriber
///     .request("day.mp3")
///     .on_checkpoint(|next| match &mut done {
///         Some(done) => assert!(done.append(next)),
///         None => done = Some(next),
///     })
///     .run();
/// if let (Err(_), Some(done)) = (outcome, done) {
///     println!("{:.0} s were done", done.reached());
///     let transcript = transcriber.request("day.mp3").resume_from(done).run()?;
/// }
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint(State);

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Which run it is of: sound, options, model, device, version.
    pub(super) print: String,
    /// Batches of the run before those it tells of.
    pub(super) first_batch: usize,
    /// Batches of the run until here.
    pub(super) n_batches: usize,
    /// Chunks that are done until here, and that were taken up.
    pub(super) n_done: usize,
    pub(super) n_begun: usize,
    /// The segments that were done by these batches.
    pub(super) segments: Exact,
    /// The segments so far of chunks that were taken up and are not done.
    pub(super) open: Vec<Exact>,
    /// What is left of such chunks: which, from when to when, as bits.
    pub(super) rests: Vec<(usize, [u64; 2])>,
    /// Where the last word ends, as bits.
    pub(super) floor: u64,
    /// Until when the source is done, as bits.
    pub(super) reached: u64,
}

impl Checkpoint {
    pub(super) fn new(state: State) -> Self {
        Self(state)
    }

    /// Until when the source is done, in seconds.
    pub fn reached(&self) -> f64 {
        let reached = f64::from_bits(self.0.reached);
        if reached.is_finite() { reached } else { 0.0 }
    }

    /// The segments that are done, without speakers.
    pub fn segments(&self) -> &[Segment] {
        &self.0.segments.0
    }

    /// Appends what the same run did next. One that does not follow changes nothing: the result is
    /// whether it did.
    #[must_use = "a part that does not follow is not appended"]
    pub fn append(&mut self, next: Self) -> bool {
        let (own, State { print, first_batch, .. }) = (&self.0, &next.0);
        if *print != own.print || *first_batch != own.n_batches {
            return false;
        }
        let (first_batch, mut segments) = (own.first_batch, std::mem::take(&mut self.0.segments));
        let mut state = next.0;
        segments.0.append(&mut state.segments.0);
        self.0 = State { first_batch, segments, ..state };
        true
    }

    /// What a run goes on from: where its batches stand, the segments that are done, and where the last
    /// word ends.
    ///
    /// # Errors
    /// Why this run cannot go on from it.
    pub(super) fn resume(
        self,
        print: &str,
        chunks: &[Chunk<'_>],
    ) -> Result<(Standing, Vec<Segment>, f64), &'static str> {
        let state = self.0;
        if state.print != print {
            return Err(
                "it is of another recording, model, device or version, or of other options",
            );
        }
        if state.first_batch > 0 {
            return Err("it does not begin where the recording does");
        }
        let floor = f64::from_bits(state.floor);
        let standing = state.standing(chunks).filter(|_| floor.is_finite());
        let standing = standing.ok_or("it does not fit the recording")?;
        Ok((standing, state.segments.0, floor))
    }
}

impl State {
    /// Where the batches stand, if that can be.
    fn standing(&self, chunks: &[Chunk<'_>]) -> Option<Standing> {
        let is_ordered = self.n_done <= self.n_begun && self.n_begun <= chunks.len();
        let n_open = self.n_begun.checked_sub(self.n_done)?;
        let mut rests: Vec<Rest> = Vec::with_capacity(self.rests.len().min(n_open));
        for &(chunk, bits) in &self.rests {
            let [start, end] = bits.map(f64::from_bits);
            let whole = chunks.get(chunk)?.span;
            let is_within = start > whole.start && start < end && end <= whole.end;
            let is_next = rests.last().is_none_or(|last| last.chunk < chunk);
            if !(is_within && is_next && (self.n_done..self.n_begun).contains(&chunk)) {
                return None;
            }
            rests.push(Rest { chunk, span: Region::new(start, end) });
        }
        // The first chunk that is not done is what the others wait for.
        let is_waiting = rests.first().map_or(self.n_begun, |rest| rest.chunk) == self.n_done;
        (is_ordered && is_waiting && self.open.len() == n_open).then(|| Standing {
            n_batches: self.n_batches,
            n_done: self.n_done,
            n_begun: self.n_begun,
            rests,
            segments: self.open.iter().map(|exact| exact.0.clone()).collect(),
        })
    }

    fn digest(&self) -> serde_json::Result<String> {
        let digest = Sha256::digest(serde_json::to_vec(self)?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A checkpoint as it is written.
#[derive(Serialize, Deserialize)]
struct Written<S> {
    digest: String,
    state: S,
}

impl Serialize for Checkpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digest = self.0.digest().map_err(serde::ser::Error::custom)?;
        Written { digest, state: &self.0 }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written::<State> { digest, state } = Written::deserialize(deserializer)?;
        let own = state.digest().map_err(D::Error::custom)?;
        if digest == own { Ok(Self(state)) } else { Err(D::Error::custom("it is damaged")) }
    }
}

/// Segments whose numbers are written as their bits.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exact(pub(super) Vec<Segment>);

/// A segment without its numbers, and these in the order of [`times`] and [`scores`].
#[derive(Serialize, Deserialize)]
struct Numbered {
    segment: Segment,
    times: Vec<u64>,
    scores: Vec<u32>,
}

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|segment| {
            let mut segment = segment.clone();
            let times = times(&mut segment).map(|time| std::mem::take(time).to_bits()).collect();
            let scores =
                scores(&mut segment).map(|score| std::mem::take(score).to_bits()).collect();
            Numbered { segment, times, scores }
        }))
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<Numbered>::deserialize(deserializer)?;
        let segments =
            all.into_iter().map(|Numbered { mut segment, times: bits, scores: score_bits }| {
                let fits = times(&mut segment).count() == bits.len()
                    && scores(&mut segment).count() == score_bits.len()
                    && bits.iter().all(|bits| f64::from_bits(*bits).is_finite());
                if !fits {
                    return Err(D::Error::custom("a segment lacks numbers"));
                }
                times(&mut segment).zip(bits).for_each(|(time, bits)| *time = f64::from_bits(bits));
                let scores = scores(&mut segment).zip(score_bits);
                scores.for_each(|(score, bits)| *score = f32::from_bits(bits));
                Ok(segment)
            });
        segments.collect::<Result<_, _>>().map(Self)
    }
}

fn times(segment: &mut Segment) -> impl Iterator<Item = &mut f64> {
    let words = segment.words.iter_mut().flat_map(|word| [&mut word.start, &mut word.end]);
    [&mut segment.start, &mut segment.end].into_iter().chain(words)
}

fn scores(segment: &mut Segment) -> impl Iterator<Item = &mut f32> {
    let words = segment.words.iter_mut().filter_map(|word| word.probability.as_mut());
    let decoding = segment.decoding.iter_mut().flat_map(|decoding| {
        [
            &mut decoding.temperature,
            &mut decoding.avg_logprob,
            &mut decoding.compression_ratio,
            &mut decoding.no_speech_prob,
        ]
    });
    words.chain(decoding)
}

#[cfg(test)]
mod tests;
