//! The languages that Whisper knows, by code, name and alias.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A language that Whisper knows.
///
/// Parsed from a code, an English name or a common alias, in any case; written as its code.
///
/// ```
/// use echo_core::Language;
///
/// let language: Language = "Castilian".parse()?;
/// assert_eq!(language.code(), "es");
/// assert_eq!(language.name(), "spanish");
/// # Ok::<(), echo_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Language(u8);

impl Language {
    /// English.
    pub const ENGLISH: Self = Self(0);

    /// Every language, in the order of Whisper's language tokens.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TABLE.len() as u8).map(Self)
    }

    /// ISO 639-1 where there is one: `en`, `de`, `yue`.
    pub fn code(self) -> &'static str {
        TABLE[usize::from(self.0)].0
    }

    /// The English name in lower case.
    pub fn name(self) -> &'static str {
        TABLE[usize::from(self.0)].1
    }

    /// Whether words are written without spaces between them.
    pub fn is_unspaced(self) -> bool {
        matches!(self.code(), "zh" | "ja" | "th" | "lo" | "my" | "yue")
    }

    /// Its place among Whisper's language tokens.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.trim().to_lowercase();
        let wanted =
            ALIASES.iter().find(|(alias, _)| *alias == wanted).map_or(&*wanted, |(_, code)| code);
        TABLE
            .iter()
            .position(|(code, name)| *code == wanted || *name == wanted)
            .map(|index| Self(index as u8))
            .ok_or_else(|| Error::Option {
                option: "language",
                value: format!("`{text}`"),
                expected: "a code such as en, de or yue, or an English name",
            })
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.code().to_owned()
    }
}

impl TryFrom<String> for Language {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

const ALIASES: &[(&str, &str)] = &[
    ("burmese", "my"),
    ("valencian", "ca"),
    ("flemish", "nl"),
    ("haitian", "ht"),
    ("letzeburgesch", "lb"),
    ("pushto", "ps"),
    ("panjabi", "pa"),
    ("moldavian", "ro"),
    ("moldovan", "ro"),
    ("sinhalese", "si"),
    ("castilian", "es"),
    ("mandarin", "zh"),
    ("iw", "he"),
    ("jv", "jw"),
    ("nb", "no"),
    ("farsi", "fa"),
];

/// Code and name, in the order of Whisper's language tokens.
#[rustfmt::skip]
const TABLE: [(&str, &str); 100] = [
    ("en", "english"), ("zh", "chinese"), ("de", "german"), ("es", "spanish"), ("ru", "russian"),
    ("ko", "korean"), ("fr", "french"), ("ja", "japanese"), ("pt", "portuguese"), ("tr", "turkish"),
    ("pl", "polish"), ("ca", "catalan"), ("nl", "dutch"), ("ar", "arabic"), ("sv", "swedish"),
    ("it", "italian"), ("id", "indonesian"), ("hi", "hindi"), ("fi", "finnish"),
    ("vi", "vietnamese"), ("he", "hebrew"), ("uk", "ukrainian"), ("el", "greek"), ("ms", "malay"),
    ("cs", "czech"), ("ro", "romanian"), ("da", "danish"), ("hu", "hungarian"), ("ta", "tamil"),
    ("no", "norwegian"), ("th", "thai"), ("ur", "urdu"), ("hr", "croatian"), ("bg", "bulgarian"),
    ("lt", "lithuanian"), ("la", "latin"), ("mi", "maori"), ("ml", "malayalam"), ("cy", "welsh"),
    ("sk", "slovak"), ("te", "telugu"), ("fa", "persian"), ("lv", "latvian"), ("bn", "bengali"),
    ("sr", "serbian"), ("az", "azerbaijani"), ("sl", "slovenian"), ("kn", "kannada"),
    ("et", "estonian"), ("mk", "macedonian"), ("br", "breton"), ("eu", "basque"),
    ("is", "icelandic"), ("hy", "armenian"), ("ne", "nepali"), ("mn", "mongolian"),
    ("bs", "bosnian"), ("kk", "kazakh"), ("sq", "albanian"), ("sw", "swahili"), ("gl", "galician"),
    ("mr", "marathi"), ("pa", "punjabi"), ("si", "sinhala"), ("km", "khmer"), ("sn", "shona"),
    ("yo", "yoruba"), ("so", "somali"), ("af", "afrikaans"), ("oc", "occitan"), ("ka", "georgian"),
    ("be", "belarusian"), ("tg", "tajik"), ("sd", "sindhi"), ("gu", "gujarati"), ("am", "amharic"),
    ("yi", "yiddish"), ("lo", "lao"), ("uz", "uzbek"), ("fo", "faroese"), ("ht", "haitian creole"),
    ("ps", "pashto"), ("tk", "turkmen"), ("nn", "nynorsk"), ("mt", "maltese"), ("sa", "sanskrit"),
    ("lb", "luxembourgish"), ("my", "myanmar"), ("bo", "tibetan"), ("tl", "tagalog"),
    ("mg", "malagasy"), ("as", "assamese"), ("tt", "tatar"), ("haw", "hawaiian"), ("ln", "lingala"),
    ("ha", "hausa"), ("ba", "bashkir"), ("jw", "javanese"), ("su", "sundanese"),
    ("yue", "cantonese"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_parses_from_its_code_and_its_name() {
        for language in Language::all() {
            assert_eq!(language.code().parse::<Language>().unwrap(), language);
            assert_eq!(language.name().to_uppercase().parse::<Language>().unwrap(), language);
            assert_eq!(Language::all().nth(language.index()), Some(language));
        }
    }

    #[test]
    fn an_unknown_language_says_what_was_given() {
        let error = "klingon".parse::<Language>().unwrap_err();
        assert!(error.to_string().contains("`klingon`"), "{error}");
    }
}
