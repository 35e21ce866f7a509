//! Places words in time.
//!
//! The recogniser may have found words by its attention. An [`acoustic`] model of the language places
//! them better: [`wav2vec2`] scores letters, [`ctc`] finds the best path through them, [`languages`]
//! knows which model speaks which language, [`spell`] how figures are said. [`interpolate`] gives times to every word that has none and
//! makes all of them fit: inside their segment, in order, apart; [`sentences`] cuts segments anew.

pub(crate) mod acoustic;
mod ctc;
pub(crate) mod interpolate;
pub(crate) mod languages;
mod numerals;
pub(crate) mod sentences;
mod spell;
mod text;
mod wav2vec2;
