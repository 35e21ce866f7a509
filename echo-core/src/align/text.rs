//! From words to the labels that an acoustic model knows.
//!
//! A label is a letter. Letters are compared in lower case. Figures and symbols that the model has no label
//! for are spelled out where [`spell`] can; else they stand as one
//! wildcard, however many characters in a row that are; marks are not spoken and get nothing. A hyphen parts words. Words lie apart by the model's separator, if it has one.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;

use super::spell;
use crate::error::{Error, Result};
use crate::language::Language;

/// The labels of an acoustic model.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    letters: HashMap<char, usize>,
    /// Stands between words.
    separator: Option<usize>,
    /// Says that nothing is said.
    pub(crate) blank: usize,
}

impl Labels {
    /// From a `vocab.json`: label by token, perhaps by language first; `n_labels` is what the network
    /// scores.
    ///
    /// # Errors
    /// [`Error::Model`] if it is no such table or does not fit the network.
    pub(crate) fn from_json(model: &str, json: &[u8], n_labels: usize) -> Result<Self> {
        let failed = |reason: String| Error::model(model, format!("vocab.json: {reason}"));
        let table: Value =
            serde_json::from_slice(json).map_err(|error| failed(error.to_string()))?;
        let Value::Object(table) = table else {
            return Err(failed("is no table of labels".to_owned()));
        };
        // Some have a table for each language, and then one language.
        match table.values().next() {
            Some(Value::Object(only)) if table.len() == 1 => {
                Self::from_table(model, only, n_labels)
            }
            _ => Self::from_table(model, &table, n_labels),
        }
    }

    fn from_table(
        model: &str,
        table: &serde_json::Map<String, Value>,
        n_labels: usize,
    ) -> Result<Self> {
        let mut labels = Vec::with_capacity(table.len());
        for (token, label) in table {
            let label = label.as_u64().and_then(|label| usize::try_from(label).ok());
            let Some(label) = label.filter(|label| *label < n_labels) else {
                let reason = format!("vocab.json: `{token}` is no label below {n_labels}");
                return Err(Error::model(model, reason));
            };
            labels.push((token.as_str(), label));
        }
        Ok(Self::new(labels))
    }

    /// The English labels of torchaudio's checkpoints, which come without a table.
    pub(crate) fn english() -> Self {
        const TOKENS: &str = "-|ETAONIHSRDLUMWCFGYPBVK'XJQZ";
        let tokens = TOKENS.char_indices().skip(1);
        let mut labels = Self::new(tokens.map(|(at, _)| (&TOKENS[at..=at], at)).collect());
        labels.blank = 0;
        labels
    }

    fn new(mut tokens: Vec<(&str, usize)>) -> Self {
        tokens.sort_by_key(|(_, label)| *label);
        let blank = |(token, _): &&(&str, usize)| {
            matches!(token.to_lowercase().as_str(), "[pad]" | "<pad>")
        };
        let blank = tokens.iter().find(blank).map_or(0, |(_, label)| *label);
        let mut letters = HashMap::new();
        let mut separator = None;
        for (token, label) in tokens {
            let mut characters = token.chars();
            let (Some(character), None) = (characters.next(), characters.next()) else { continue };
            if label == blank {
                continue;
            }
            if character == '|' || character == ' ' {
                separator = separator.or(Some(label));
                continue;
            }
            for lower in character.to_lowercase().take(1) {
                letters.entry(lower).or_insert(label);
            }
        }
        Self { letters, separator, blank }
    }

    /// How many letters there are.
    pub(crate) fn n_letters(&self) -> usize {
        self.letters.len()
    }

    /// The labels of words in a row, and which of them belong to each word; `wildcard` stands for
    /// what has no label. Languages without spaces get no separators.
    pub(crate) fn of_words<'w>(
        &self,
        words: impl Iterator<Item = &'w str>,
        wildcard: usize,
        language: Language,
    ) -> (Vec<usize>, Vec<Range<usize>>) {
        let separator = self.separator.filter(|_| !language.is_unspaced());
        let mut labels = Vec::new();
        let mut ranges = Vec::new();
        for word in words {
            let before = labels.len();
            if before > 0 {
                labels.extend(separator);
            }
            let first = labels.len();
            let is_known =
                |c: char| c.to_lowercase().all(|lower| self.letters.contains_key(&lower));
            let spelled = match word.chars().all(|c| !is_said(c) || is_known(c)) {
                true => None,
                false => spell::spelled(word, language),
            };
            let word = spelled.as_deref().unwrap_or(word);
            self.add_word(word, wildcard, separator, first, &mut labels);
            if labels.len() == first {
                labels.truncate(before);
                ranges.push(before..before);
            } else {
                ranges.push(first..labels.len());
            }
        }
        (labels, ranges)
    }

    fn add_word(
        &self,
        word: &str,
        wildcard: usize,
        separator: Option<usize>,
        first: usize,
        labels: &mut Vec<usize>,
    ) {
        for character in word.chars() {
            let character = if character == '’' { '\'' } else { character };
            if matches!(character, '-' | '‐' | ' ') {
                let is_inside = labels.len() > first && labels.last().copied() != separator;
                labels.extend(separator.filter(|_| is_inside));
                continue;
            }
            for lower in character.to_lowercase() {
                match self.letters.get(&lower) {
                    Some(&label) => labels.push(label),
                    None => {
                        let is_first = labels.len() == first || labels.last() != Some(&wildcard);
                        labels.extend((is_said(lower) && is_first).then_some(wildcard));
                    }
                }
            }
        }
        // A hyphen at the end parts nothing.
        while labels.len() > first && labels.last().copied() == separator {
            labels.pop();
        }
    }
}

/// Whether a character without a label is heard at all.
fn is_said(character: char) -> bool {
    character.is_alphanumeric() || "&%$€£¥₹+=@#°§½¼¾".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAR: usize = 99;

    fn german() -> Labels {
        let json = br#"{"<pad>": 0, "|": 4, "A": 5, "b": 6, "\u00fc": 7, "'": 8, "<unk>": 3}"#;
        Labels::from_json("test", json, 9).unwrap()
    }

    fn labels(labels: &Labels, text: &str) -> (Vec<usize>, Vec<Range<usize>>) {
        labels.of_words(text.split(' '), STAR, "cs".parse().unwrap())
    }

    #[test]
    fn words_become_letters_with_separators_between() {
        let (found, ranges) = labels(&german(), "Ab, ÜB! b’a");
        assert_eq!(found, [5, 6, 4, 7, 6, 4, 6, 8, 5]);
        assert_eq!(ranges, [0..2, 3..5, 6..9]);
    }

    #[test]
    fn unknown_characters_are_one_wildcard_and_marks_are_nothing() {
        let (found, ranges) = labels(&german(), "a 2019 x% ♪ -a-b-");
        assert_eq!(found, [5, 4, STAR, 4, STAR, 4, 5, 4, 6]);
        assert_eq!(ranges, [0..1, 2..3, 4..5, 5..5, 6..9]);
    }

    #[test]
    fn figures_are_spelled_out_where_the_language_is_known() {
        let labels = Labels::english();
        let of = |words: &[&str], language: &str| {
            labels.of_words(words.iter().copied(), STAR, language.parse().unwrap())
        };
        assert_eq!(of(&["In", "42%,", "no"], "en"), of(&["In", "forty-two-percent", "no"], "en"));
        let (found, ranges) = of(&["In", "42", "no"], "fi");
        assert_eq!(found[ranges[1].clone()], [STAR]);
    }

    #[test]
    fn unspaced_text_has_no_separators() {
        let (found, _) = german().of_words(["a", "b"].into_iter(), STAR, "ja".parse().unwrap());
        assert_eq!(found, [5, 6]);
    }

    #[test]
    fn a_hyphen_is_never_the_blank() {
        let english = Labels::english();
        assert_eq!((english.blank, english.n_letters()), (0, 27));
        let (found, _) = labels(&english, "E-T -");
        assert_eq!(found, [2, 1, 3]);
    }

    #[test]
    fn tables_that_do_not_fit_are_refused() {
        for (json, what) in [
            (&b"[]"[..], "is no table"),
            (b"{\"a\": 9}", "no label below 9"),
            (b"{\"a\": \"b\"}", "no label below 9"),
            (b"{", "EOF"),
        ] {
            let error = Labels::from_json("test", json, 9).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        let nested = Labels::from_json("test", b"{\"deu\": {\"a\": 1}}", 9).unwrap();
        assert_eq!(nested.n_letters(), 1);
    }
}
