//! Figures and symbols as they are said: `$5.20` is `five dollars twenty`, `21st` is `twenty first`.
//!
//! Only for placing words: what is shown keeps its figures. An acoustic model scores letters, and a
//! wildcard in their place fits any sound, also the pause behind it. Languages whose numbers are
//! not in [`numerals`](super::numerals) keep the wildcard, and so does what is no number in any usual notation.

use super::numerals::{LIMIT, Tongue, cardinal, year};
use crate::language::Language;

/// A piece of a word.
#[derive(Debug, PartialEq)]
enum Piece<'w> {
    Number(Figures),
    Letters(&'w str),
    Symbol(char),
}

/// A number as it is written.
#[derive(Debug, PartialEq)]
struct Figures {
    /// Digits without the marks between thousands.
    whole: String,
    /// Digits behind the decimal mark.
    part: String,
    /// Whether there were marks between thousands: no year has them.
    is_grouped: bool,
}

/// A word as it is said, in pieces apart by spaces; `None` if it has no figures or symbols, or the
/// language is not known.
pub(super) fn spelled(word: &str, language: Language) -> Option<String> {
    let tongue = match language.code() {
        "en" => Tongue::English,
        "de" => Tongue::German,
        "fr" => Tongue::French,
        "es" => Tongue::Spanish,
        _ => return None,
    };
    let pieces = pieces(word, tongue);
    if pieces.iter().all(|piece| matches!(piece, Piece::Letters(_))) {
        return None;
    }
    let mut said: Vec<String> = Vec::new();
    let mut at = 0;
    while at < pieces.len() {
        let next = pieces.get(at + 1);
        let (words, used) = match (&pieces[at], next) {
            (&Piece::Symbol(sign), Some(Piece::Number(figures)))
            | (Piece::Number(figures), Some(&Piece::Symbol(sign)))
                if is_currency(sign) =>
            {
                (money(figures, sign, tongue), 2)
            }
            (Piece::Number(figures), Some(Piece::Letters(ending))) => {
                match with_ending(figures, ending, tongue) {
                    Some(words) => (words, 2),
                    None => (number(figures, tongue), 1),
                }
            }
            (Piece::Number(figures), _) => (number(figures, tongue), 1),
            (Piece::Letters(letters), _) => ((*letters).to_owned(), 1),
            (&Piece::Symbol(sign), _) => (symbol(sign, tongue).to_owned(), 1),
        };
        said.push(words);
        at += used;
    }
    Some(said.join(" "))
}

fn pieces(word: &str, tongue: Tongue) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_digit() {
            let (figures, used) = figures(rest, tongue);
            pieces.push(Piece::Number(figures));
            rest = &rest[used..];
        } else if first.is_alphabetic() {
            let is_letter = |c: char| c.is_alphabetic() || c == '\'' || c == '’';
            let end = rest.find(|c: char| !is_letter(c)).unwrap_or(rest.len());
            pieces.push(Piece::Letters(&rest[..end]));
            rest = &rest[end..];
        } else {
            if !symbol(first, tongue).is_empty() {
                pieces.push(Piece::Symbol(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    pieces
}

/// The number at the start of a text, and how many bytes it takes.
fn figures(text: &str, tongue: Tongue) -> (Figures, usize) {
    let (group, decimal) = match tongue {
        Tongue::English => (b',', b'.'),
        Tongue::German | Tongue::French | Tongue::Spanish => (b'.', b','),
    };
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        bytes.get(from..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count()
    };
    let mut end = digits(0);
    let mut whole = text[..end].to_owned();
    if end <= 3 {
        while bytes.get(end) == Some(&group) && digits(end + 1) == 3 {
            whole.push_str(&text[end + 1..end + 4]);
            end += 4;
        }
    }
    let is_grouped = whole.len() < end;
    let mut part = "";
    if bytes.get(end) == Some(&decimal) && digits(end + 1) > 0 {
        let from = end + 1;
        end = from + digits(from);
        part = &text[from..end];
    }
    (Figures { whole, part: part.to_owned(), is_grouped }, end)
}

fn number(figures: &Figures, tongue: Tongue) -> String {
    let Figures { whole, part, is_grouped } = figures;
    let value = whole.parse::<u64>().ok().filter(|value| *value < LIMIT);
    let is_code = whole.len() > 1 && whole.starts_with('0');
    let mut said = match value {
        Some(value) if value >= 1000 && whole.len() == 4 && part.is_empty() && !is_grouped => {
            year(value, tongue).unwrap_or_else(|| cardinal(value, tongue))
        }
        Some(value) if !is_code => cardinal(value, tongue),
        _ => one_by_one(whole, tongue),
    };
    if !part.is_empty() {
        let mark = match tongue {
            Tongue::English => "point",
            Tongue::German => "komma",
            Tongue::French => "virgule",
            Tongue::Spanish => "coma",
        };
        let is_romance = matches!(tongue, Tongue::French | Tongue::Spanish);
        let tail = match part.parse() {
            Ok(value) if is_romance && part.len() <= 2 && !part.starts_with('0') => {
                cardinal(value, tongue)
            }
            _ => one_by_one(part, tongue),
        };
        said = format!("{said} {mark} {tail}");
    }
    said
}

fn one_by_one(digits: &str, tongue: Tongue) -> String {
    let said = digits.bytes().map(|digit| cardinal(u64::from(digit - b'0'), tongue));
    said.collect::<Vec<_>>().join(" ")
}

fn is_currency(sign: char) -> bool {
    matches!(sign, '$' | '€' | '£' | '¥')
}

/// An amount: what is behind the decimal mark is said behind the currency.
fn money(figures: &Figures, sign: char, tongue: Tongue) -> String {
    let Figures { whole, part, .. } = figures;
    if whole == "1" && part.is_empty() {
        let (one, name) = match (tongue, sign) {
            (Tongue::English, '$') => ("one", "dollar"),
            (Tongue::English, '€') => ("one", "euro"),
            (Tongue::English, '£') => ("one", "pound"),
            (Tongue::English, _) => ("one", "yen"),
            (Tongue::German, sign) => ("ein", symbol(sign, tongue)),
            (Tongue::French, '£') => ("une", "livre"),
            (Tongue::Spanish, '£') => ("una", "libra"),
            (Tongue::Spanish, '$') => ("un", "dólar"),
            (_, '$') => ("un", "dollar"),
            (_, '€') => ("un", "euro"),
            (_, _) => ("un", "yen"),
        };
        return format!("{one} {name}");
    }
    // Amounts are no years.
    let whole = match whole.parse::<u64>() {
        Ok(value) if value < LIMIT => cardinal(value, tongue),
        _ => one_by_one(whole, tongue),
    };
    let name = symbol(sign, tongue);
    match part.parse::<u64>() {
        Ok(value) if part.len() == 2 && value > 0 => {
            format!("{whole} {name} {}", cardinal(value, tongue))
        }
        _ => format!("{whole} {name}"),
    }
}

/// How a symbol is said; empty for what is not.
fn symbol(sign: char, tongue: Tongue) -> &'static str {
    let said: [&str; 4] = match sign {
        '%' => ["percent", "prozent", "pour cent", "por ciento"],
        '&' => ["and", "und", "et", "y"],
        '+' => ["plus", "plus", "plus", "más"],
        '=' => ["equals", "gleich", "égale", "igual"],
        '@' => ["at", "at", "arobase", "arroba"],
        '°' => ["degrees", "grad", "degrés", "grados"],
        '$' => ["dollars", "dollar", "dollars", "dólares"],
        '€' => ["euros", "euro", "euros", "euros"],
        '£' => ["pounds", "pfund", "livres", "libras"],
        '¥' => ["yen"; 4],
        _ => [""; 4],
    };
    said[match tongue {
        Tongue::English => 0,
        Tongue::German => 1,
        Tongue::French => 2,
        Tongue::Spanish => 3,
    }]
}

/// A number with letters behind it that belong to it: `21st`, `1990s`, `2e`.
fn with_ending(figures: &Figures, ending: &str, tongue: Tongue) -> Option<String> {
    let value = figures.whole.parse::<u64>().ok().filter(|value| *value < LIMIT)?;
    if !figures.part.is_empty() {
        return None;
    }
    match (tongue, ending.to_lowercase().as_str()) {
        (Tongue::English, "st" | "nd" | "rd" | "th") => {
            Some(changed(&cardinal(value, tongue), english_ordinal))
        }
        (Tongue::English, "s" | "'s" | "’s") => {
            let said = number(figures, tongue);
            Some(changed(&said, |last| match last.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None if last.ends_with('x') => format!("{last}es"),
                None => format!("{last}s"),
            }))
        }
        (Tongue::French, "er") if value == 1 => Some("premier".to_owned()),
        (Tongue::French, "re" | "ère") if value == 1 => Some("première".to_owned()),
        (Tongue::French, "e" | "ème" | "eme" | "ième") => {
            Some(changed(&cardinal(value, tongue), |last| {
                let stem = last.trim_end_matches(['e', 's']);
                match last {
                    _ if last.ends_with("trois") => format!("{last}ième"),
                    _ if last.ends_with("cinq") => format!("{last}uième"),
                    _ if last.ends_with("neuf") => {
                        format!("{}vième", last.trim_end_matches('f'))
                    }
                    _ => format!("{stem}ième"),
                }
            }))
        }
        _ => None,
    }
}

/// A number with its last word changed.
fn changed(said: &str, change: impl Fn(&str) -> String) -> String {
    match said.rsplit_once(' ') {
        Some((before, last)) => format!("{before} {}", change(last)),
        None => change(said),
    }
}

fn english_ordinal(last: &str) -> String {
    match last {
        "one" => "first".to_owned(),
        "two" => "second".to_owned(),
        "three" => "third".to_owned(),
        "five" => "fifth".to_owned(),
        "eight" => "eighth".to_owned(),
        "nine" => "ninth".to_owned(),
        "twelve" => "twelfth".to_owned(),
        last => match last.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{last}th"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(language: &str, wanted: &[(&str, &str)]) {
        let language: Language = language.parse().unwrap();
        for &(word, said) in wanted {
            assert_eq!(spelled(word, language).as_deref(), Some(said), "{word}");
        }
    }

    #[test]
    fn figures_are_said_as_people_say_them() {
        check(
            "en",
            &[
                ("42,", "forty two"),
                ("1,250,000", "one million two hundred fifty thousand"),
                ("3.14", "three point one four"),
                ("1984.", "nineteen eighty four"),
                ("(1,984)", "one thousand nine hundred eighty four"),
                ("1990s", "nineteen nineties"),
                ("21st", "twenty first"),
                ("112th", "one hundred twelfth"),
                ("$5.20", "five dollars twenty"),
                ("$1", "one dollar"),
                ("£2000", "two thousand pounds"),
                ("20%", "twenty percent"),
                ("10:30", "ten thirty"),
                ("0171", "zero one seven one"),
                ("COVID-19", "COVID nineteen"),
                ("R&D", "R and D"),
                (
                    "1234567890123456",
                    "one two three four five six seven eight nine zero one two three four five six",
                ),
            ],
        );
        check(
            "de",
            &[
                ("3,5", "drei komma fünf"),
                ("1.000€", "eintausend euro"),
                ("50%", "fünfzig prozent"),
            ],
        );
        check(
            "fr",
            &[
                ("1er", "premier"),
                ("5e", "cinquième"),
                ("4ème", "quatrième"),
                ("3,25", "trois virgule vingt-cinq"),
            ],
        );
        check("es", &[("2,5", "dos coma cinco"), ("100%", "cien por ciento"), ("&", "y")]);
    }

    #[test]
    fn what_is_no_figure_or_no_known_language_stays() {
        assert_eq!(spelled("word", Language::ENGLISH), None);
        assert_eq!(spelled("♪", Language::ENGLISH), None);
        assert_eq!(spelled("42", "ja".parse().unwrap()), None);
    }

    #[test]
    fn any_text_is_spelled_without_a_panic() {
        let odd = [
            "1,", ",1", "1,23", "1.2.3", "$", "$$5", "5$$", "٤٢", "½", "1'000", "5é", "1,2345",
            "0,5.", "€1€",
        ];
        for language in ["en", "de", "fr", "es"] {
            let language: Language = language.parse().unwrap();
            for word in odd {
                if let Some(said) = spelled(word, language) {
                    assert!(said.chars().all(|c| !c.is_ascii_digit()), "{word}: {said}");
                }
            }
        }
    }
}
