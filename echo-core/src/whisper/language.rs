//! Which language is spoken: the decoder's first step over the language tokens.

use super::Recognizer;
use super::batched::Chunk;
use super::network::{Encoded, Network};
use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::language::Language;
use crate::progress::CancelToken;

/// Every language with its probability in one chunk, likeliest first.
pub(crate) fn of_chunk(
    recognizer: &Recognizer,
    chunk: &Chunk<'_>,
    cancel: &CancelToken,
) -> Result<Vec<(Language, f32)>> {
    let (network, tokenizer) = (&*recognizer.network, &recognizer.tokenizer);
    if !tokenizer.is_multilingual {
        return Ok(vec![(Language::ENGLISH, 1.0)]);
    }
    let encoded = network.encode(vec![chunk.mel(&recognizer.log_mel)], cancel)?;
    let tables = probabilities(network, tokenizer, &encoded, &[0])?;
    Ok(tables.into_iter().next().unwrap_or_default())
}

/// For each of `windows`, every language with its probability, likeliest first.
///
/// The probabilities are a softmax over the language tokens alone, as in the reference. A model for
/// English knows nothing else.
pub(crate) fn probabilities(
    network: &dyn Network,
    tokenizer: &Tokenizer,
    encoded: &Encoded,
    windows: &[usize],
) -> Result<Vec<Vec<(Language, f32)>>> {
    if !tokenizer.is_multilingual {
        return Ok(vec![vec![(Language::ENGLISH, 1.0)]; windows.len()]);
    }
    let mut session = network.session(encoded, windows)?;
    let start = [tokenizer.special.start_of_transcript()];
    let tokens: Vec<&[u32]> = vec![&start; windows.len()];
    let wanted: Vec<(usize, usize)> = (0..windows.len()).map(|row| (row, 0)).collect();
    let logits = session.step(&tokens, &wanted)?;
    Ok(logits.iter().map(|logits| softmax(tokenizer, logits)).collect())
}

fn softmax(tokenizer: &Tokenizer, logits: &[f32]) -> Vec<(Language, f32)> {
    let languages = tokenizer.special.languages();
    let mut table: Vec<(Language, f32)> = languages
        .filter_map(|(language, token)| Some((language, *logits.get(token as usize)?)))
        .collect();
    let greatest =
        table.iter().fold(f32::NEG_INFINITY, |greatest, (_, logit)| greatest.max(*logit));
    let mut sum = 0.0;
    for (_, logit) in &mut table {
        *logit = (*logit - greatest).exp();
        sum += *logit;
    }
    for (_, probability) in &mut table {
        *probability /= sum;
    }
    table.sort_by(|a, b| b.1.total_cmp(&a.1));
    table
}
