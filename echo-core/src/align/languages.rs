//! Which acoustic model aligns which language.
//!
//! The table is WhisperX's, with two changes. Its models for French, German, Spanish and Italian may
//! not be used commercially (`VoxPopuli`, CC-BY-NC-4.0), and it does not say so: the XLSR-53 models of
//! the same languages under Apache-2.0 stand here instead. And each entry says its licence, or that
//! nobody here has verified it; what is known not to be free is never taken without being named.

use crate::language::Language;

/// What a model may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Licence {
    /// Anything, under these terms.
    Open(&'static str),
    /// Nothing commercial, under these terms.
    NonCommercial(&'static str),
    /// Its page says what; nobody here has verified it.
    Unverified,
}

impl std::fmt::Display for Licence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(name) => f.write_str(name),
            Self::NonCommercial(name) => write!(f, "{name}, not for commercial use"),
            Self::Unverified => f.write_str("licence: see its page"),
        }
    }
}

/// A model of one language on the Hugging Face Hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) repository: &'static str,
    pub(crate) licence: Licence,
}

const APACHE: Licence = Licence::Open("Apache-2.0");
const ASK: Licence = Licence::Unverified;

/// Language, repository, licence.
const TABLE: &[(&str, &str, Licence)] = &[
    ("en", "facebook/wav2vec2-base-960h", APACHE),
    ("fr", "jonatasgrosman/wav2vec2-large-xlsr-53-french", APACHE),
    ("de", "jonatasgrosman/wav2vec2-large-xlsr-53-german", APACHE),
    ("es", "jonatasgrosman/wav2vec2-large-xlsr-53-spanish", APACHE),
    ("it", "jonatasgrosman/wav2vec2-large-xlsr-53-italian", APACHE),
    ("pt", "jonatasgrosman/wav2vec2-large-xlsr-53-portuguese", APACHE),
    ("ar", "jonatasgrosman/wav2vec2-large-xlsr-53-arabic", APACHE),
    ("ru", "jonatasgrosman/wav2vec2-large-xlsr-53-russian", APACHE),
    ("pl", "jonatasgrosman/wav2vec2-large-xlsr-53-polish", APACHE),
    ("hu", "jonatasgrosman/wav2vec2-large-xlsr-53-hungarian", APACHE),
    ("fi", "jonatasgrosman/wav2vec2-large-xlsr-53-finnish", APACHE),
    ("fa", "jonatasgrosman/wav2vec2-large-xlsr-53-persian", APACHE),
    ("el", "jonatasgrosman/wav2vec2-large-xlsr-53-greek", APACHE),
    ("nl", "jonatasgrosman/wav2vec2-large-xlsr-53-dutch", APACHE),
    ("ja", "jonatasgrosman/wav2vec2-large-xlsr-53-japanese", APACHE),
    ("zh", "jonatasgrosman/wav2vec2-large-xlsr-53-chinese-zh-cn", APACHE),
    ("uk", "Yehor/wav2vec2-xls-r-300m-uk-with-small-lm", ASK),
    ("cs", "comodoro/wav2vec2-xls-r-300m-cs-250", ASK),
    ("sk", "comodoro/wav2vec2-xls-r-300m-sk-cv8", ASK),
    ("tr", "mpoyraz/wav2vec2-xls-r-300m-cv7-turkish", ASK),
    ("da", "saattrupdan/wav2vec2-xls-r-300m-ftspeech", ASK),
    ("he", "imvladikon/wav2vec2-xls-r-300m-hebrew", ASK),
    ("vi", "nguyenvulebinh/wav2vec2-base-vi-vlsp2020", Licence::NonCommercial("CC-BY-NC-4.0")),
    ("ko", "kresnik/wav2vec2-large-xlsr-korean", ASK),
    ("ur", "kingabzpro/wav2vec2-large-xls-r-300m-Urdu", ASK),
    ("te", "anuragshas/wav2vec2-large-xlsr-53-telugu", ASK),
    ("hi", "theainerd/Wav2Vec2-large-xlsr-hindi", ASK),
    ("ca", "softcatala/wav2vec2-large-xlsr-catala", ASK),
    ("ml", "gvs/wav2vec2-large-xlsr-malayalam", ASK),
    ("no", "NbAiLab/nb-wav2vec2-1b-bokmaal-v2", ASK),
    ("nn", "NbAiLab/nb-wav2vec2-1b-nynorsk", ASK),
    ("sl", "anton-l/wav2vec2-large-xlsr-53-slovenian", ASK),
    ("hr", "classla/wav2vec2-xls-r-parlaspeech-hr", ASK),
    ("ro", "gigant/romanian-wav2vec2", ASK),
    ("eu", "stefan-it/wav2vec2-large-xlsr-53-basque", ASK),
    ("gl", "ifrz/wav2vec2-large-xlsr-galician", ASK),
    ("ka", "xsway/wav2vec2-large-xlsr-georgian", ASK),
    ("lv", "jimregan/wav2vec2-large-xlsr-latvian-cv", ASK),
    ("tl", "Khalsuu/filipino-wav2vec2-l-xls-r-300m-official", ASK),
    ("sv", "KBLab/wav2vec2-large-voxrex-swedish", ASK),
    ("id", "cahya/wav2vec2-large-xlsr-indonesian", ASK),
];

/// The model of a language, if there is one.
pub(crate) fn model_of(language: Language) -> Option<Entry> {
    let (_, repository, licence) = TABLE.iter().find(|(code, ..)| *code == language.code())?;
    Some(Entry { repository, licence: *licence })
}

/// What can be done about a language that nothing here aligns.
pub(crate) fn advice(language: Language) -> String {
    match model_of(language) {
        Some(Entry { repository, licence }) => format!(
            "no acoustic model for {} is at hand; `echo-asr models pull {repository}` ({licence}) \
             brings one, or name another with `--align-model`",
            language.name()
        ),
        None => format!(
            "no acoustic model for {} is known; name one with `--align-model`, or align by attention",
            language.name()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_of_the_table_exists_once() {
        let mut codes: Vec<&str> = TABLE.iter().map(|(code, ..)| *code).collect();
        for code in &codes {
            assert!(code.parse::<Language>().is_ok(), "{code}");
        }
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(TABLE.iter().all(|(_, repository, _)| repository.split('/').count() == 2));
    }

    #[test]
    fn advice_names_model_and_licence() {
        let advice_for = |code: &str| advice(code.parse().unwrap());
        assert!(advice_for("de").contains("xlsr-53-german` (Apache-2.0)"));
        assert!(advice_for("vi").contains("not for commercial use"));
        assert!(advice_for("yo").contains("is known"));
    }
}
