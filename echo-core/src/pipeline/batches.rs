//! Recognition in batches: from where an earlier run of the same stood, telling where this one stands.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::checkpoint::{Checkpoint, Exact, State};
use super::collector::Collector;
use super::engine::Engine;
use crate::error::Result;
use crate::options::TranscribeOptions;
use crate::progress::{CancelToken, Stage};
use crate::whisper::batched::{self, Chunk, Standing, Step};

/// Every so many samples one is looked at to tell recordings apart: a thousand a second.
const PRINT_SAMPLES: usize = 16;

/// From where a run goes on, and whether it tells where it stands.
#[derive(Debug, Default)]
pub(crate) struct Resume {
    /// What is done already.
    pub(crate) from: Option<Checkpoint>,
    /// Whether somebody wants checkpoints.
    pub(crate) is_told: bool,
}

impl Engine {
    /// Recognises the chunks of one source.
    pub(super) fn run_batches(
        &self,
        chunks: &[Chunk<'_>],
        options: &TranscribeOptions,
        collector: &mut Collector<'_, '_, '_>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let n_chunks = chunks.len() as f64;
        let Resume { from, is_told } = std::mem::take(&mut collector.outlet.resume);
        let mut standing = Standing::default();
        let mut teller = None;
        if from.is_some() || is_told {
            let print = self.print(chunks, options, collector.aligner_name());
            match from.map(|from| from.resume(&print, chunks)) {
                Some(Ok((found, segments, floor))) => {
                    standing = found;
                    collector.restore(segments, floor)?;
                    let reached = standing.n_done as f64 / n_chunks;
                    collector.outlet.progress(Stage::Transcribing, reached)?;
                }
                Some(Err(reason)) => collector.outlet.refused(reason)?,
                None => {}
            }
            let n_segments = collector.segments.len();
            let n_batches = standing.n_batches;
            teller = is_told.then_some(Teller { print, n_batches, n_segments });
        }
        let mut on_step = |step: Step<'_>| match (step, &mut teller) {
            (Step::Chunk(chunk, segments), _) => {
                collector.collect((chunk + 1) as f64 / n_chunks, segments)
            }
            (Step::Batch(standing), Some(teller)) => teller.tell(standing, chunks, collector),
            (Step::Batch(_), None) => Ok(()),
        };
        let start = (self.batch_size(), standing);
        batched::transcribe(&self.recognizer, chunks, options, start, &mut on_step, cancel)
    }

    /// A digest of all that decides what comes of a run: equal for runs that give the same bits.
    fn print(
        &self,
        chunks: &[Chunk<'_>],
        options: &TranscribeOptions,
        aligner: Option<&str>,
    ) -> String {
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "engine": self.print,
            "options": options,
            "language": chunks.first().map(|chunk| chunk.language),
            "aligner": aligner,
        });
        let mut hasher = Sha256::new();
        hasher.update(about.to_string());
        for chunk in chunks {
            hasher.update(chunk.span.start.to_le_bytes());
            hasher.update(chunk.span.end.to_le_bytes());
        }
        let samples = chunks.first().map_or(&[][..], |chunk| chunk.samples);
        for sample in samples.iter().step_by(PRINT_SAMPLES) {
            hasher.update(sample.to_le_bytes());
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Tells where a run stands.
struct Teller {
    print: String,
    /// Batches and segments that were told of.
    n_batches: usize,
    n_segments: usize,
}

impl Teller {
    /// Tells of the batch that just ended.
    fn tell(
        &mut self,
        standing: &Standing,
        chunks: &[Chunk<'_>],
        collector: &mut Collector<'_, '_, '_>,
    ) -> Result<()> {
        let segments = collector.segments.get(self.n_segments..).unwrap_or_default().to_vec();
        let last = chunks.get(..standing.n_done).and_then(<[_]>::last);
        let rests = standing.rests.iter();
        let state = State {
            print: self.print.clone(),
            first_batch: self.n_batches,
            n_batches: standing.n_batches,
            n_done: standing.n_done,
            n_begun: standing.n_begun,
            segments: Exact(segments),
            open: standing.segments.iter().cloned().map(Exact).collect(),
            rests: rests
                .map(|rest| (rest.chunk, [rest.span.start.to_bits(), rest.span.end.to_bits()]))
                .collect(),
            floor: collector.floor().to_bits(),
            reached: last.map_or(0.0, |chunk| chunk.span.end).to_bits(),
        };
        self.n_batches = standing.n_batches;
        self.n_segments = collector.segments.len();
        collector.outlet.checkpoint(Checkpoint::new(state))
    }
}
