//! The stage that places words: an acoustic model where there is one, and order for all of them.

use std::sync::Arc;

use super::engine::Engine;
use crate::align::acoustic::Acoustic;
use crate::align::interpolate;
use crate::align::languages::{self, Licence};
use crate::align::sentences;
use crate::error::{Error, Result};
use crate::language::Language;
use crate::options::{Align, Task, TranscribeOptions};
use crate::progress::CancelToken;
use crate::transcript::Segment;

/// Places the words of one source's segments as they come.
pub(super) struct Placer<'a> {
    samples: &'a [f32],
    language: Language,
    aligner: Option<Arc<Acoustic>>,
    /// Whether segments become sentences.
    sentences: bool,
    /// Where the last word ended.
    pub(super) floor: f64,
    cancel: &'a CancelToken,
}

impl<'a> Placer<'a> {
    pub(super) fn new(
        engine: &Engine,
        samples: &'a [f32],
        language: Language,
        options: &TranscribeOptions,
        cancel: &'a CancelToken,
    ) -> Result<Self> {
        let aligner = engine.aligner_of(language, options)?;
        let sentences = options.sentences;
        Ok(Self { samples, language, aligner, sentences, floor: 0.0, cancel })
    }

    /// The acoustic model that places words, if one does.
    pub(super) fn aligner_name(&self) -> Option<&str> {
        self.aligner.as_ref().map(|aligner| aligner.name())
    }

    /// Places the words of segments that follow those given before.
    pub(super) fn place(&mut self, segments: &mut Vec<Segment>) -> Result<()> {
        if let Some(aligner) = &self.aligner {
            let language = self.language;
            let of = |segment: &Segment| segment.language.unwrap_or(language);
            // A model hears its own language only.
            for run in segments.chunk_by_mut(|a, b| of(a) == of(b)) {
                if run.first().is_some_and(|segment| of(segment) == language) {
                    aligner.align(self.samples, run, language, self.floor, self.cancel)?;
                }
            }
        }
        self.floor = interpolate::complete(segments, self.language, self.floor);
        if self.sentences {
            *segments = sentences::cut(std::mem::take(segments), self.language);
        }
        Ok(())
    }
}

impl Engine {
    /// The acoustic model that places the words of a run, if one is to.
    ///
    /// # Errors
    /// [`Error::Option`] if an acoustic model is asked for and cannot be of use, [`Error::Model`] if
    /// none is at hand.
    fn aligner_of(
        &self,
        language: Language,
        options: &TranscribeOptions,
    ) -> Result<Option<Arc<Acoustic>>> {
        let is_demanded = options.align == Align::Ctc;
        if !options.needs_words() || !(is_demanded || options.align == Align::Auto) {
            return Ok(None);
        }
        if options.task == Task::Translate {
            // Nobody says the words of a translation.
            return match is_demanded {
                false => Ok(None),
                true => Err(Error::Option {
                    option: "align",
                    value: "`ctc` with the task `translate`".to_owned(),
                    expected: "`attention` or `none` for a translation",
                }),
            };
        }
        if let Some(aligner) = self.aligner() {
            return Ok(Some(aligner));
        }
        let is_free = |licence| !matches!(licence, Licence::NonCommercial(_));
        let entry = languages::model_of(language).filter(|entry| is_free(entry.licence));
        if let Some(entry) = entry
            && let Some(aligner) = self.stored_aligner(entry.repository)?
        {
            return Ok(Some(aligner));
        }
        if is_demanded {
            return Err(Error::model("align", languages::advice(language)));
        }
        Ok(None)
    }
}
