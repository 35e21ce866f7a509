//! Whole numbers in words: English, German, French and Spanish, below a million millions.
//!
//! What comes out is what acoustic models are given to place: lower case, parts of a number that are
//! written as words of their own apart by a space. Of several ways to say a number it is the
//! commonest; no crate in Rust covers more than one of these languages and is kept.

/// A language whose numbers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tongue {
    English,
    German,
    French,
    Spanish,
}

/// Numbers are said up to here.
pub(super) const LIMIT: u64 = 1_000_000_000_000;

/// A whole number below [`LIMIT`].
pub(super) fn cardinal(number: u64, tongue: Tongue) -> String {
    if number == 0 {
        return match tongue {
            Tongue::English => "zero",
            Tongue::German => "null",
            Tongue::French => "zéro",
            Tongue::Spanish => "cero",
        }
        .to_owned();
    }
    match tongue {
        Tongue::English => english(number),
        Tongue::German => german(number, "eins"),
        Tongue::French => french(number, true),
        Tongue::Spanish => spanish(number, "uno"),
    }
}

/// A year from 1100 to 2099, where it is said otherwise than the number.
pub(super) fn year(number: u64, tongue: Tongue) -> Option<String> {
    let (century, rest) = (number / 100, number % 100);
    match tongue {
        Tongue::English if (1100..2000).contains(&number) || (2010..2100).contains(&number) => {
            Some(match rest {
                0 => format!("{} hundred", english(century)),
                1..10 => format!("{} oh {}", english(century), english(rest)),
                _ => format!("{} {}", english(century), english(rest)),
            })
        }
        Tongue::German if (1100..2000).contains(&number) => {
            let tail = if rest == 0 { String::new() } else { german(rest, "eins") };
            Some(format!("{}hundert{tail}", german(century, "ein")))
        }
        _ => None,
    }
}

/// Three digits each, from the left, with the power of a thousand that they count.
fn triplets(number: u64) -> impl Iterator<Item = (u64, u32)> {
    (0..4)
        .rev()
        .map(move |power| (number / 1000_u64.pow(power) % 1000, power))
        .filter(|at| at.0 > 0)
}

/// A name out of a table, by a digit or a small number.
fn of(table: &'static str, at: u64) -> &'static str {
    table.split(' ').nth(at as usize).unwrap_or_default()
}

fn joined(parts: Vec<String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn english(number: u64) -> String {
    const SMALL: &str = "- one two three four five six seven eight nine ten eleven twelve thirteen \
                         fourteen fifteen sixteen seventeen eighteen nineteen";
    const TENS: &str = "- - twenty thirty forty fifty sixty seventy eighty ninety";
    let below_hundred = |number: u64| match number {
        0 => String::new(),
        1..20 => of(SMALL, number).to_owned(),
        _ if number.is_multiple_of(10) => of(TENS, number / 10).to_owned(),
        _ => format!("{} {}", of(TENS, number / 10), of(SMALL, number % 10)),
    };
    let below_thousand = |number: u64| match number / 100 {
        0 => below_hundred(number),
        hundreds => {
            joined(vec![format!("{} hundred", of(SMALL, hundreds)), below_hundred(number % 100)])
        }
    };
    let part = |(count, power): (u64, u32)| {
        let name = of("- thousand million billion", u64::from(power));
        if power == 0 { below_thousand(count) } else { format!("{} {name}", below_thousand(count)) }
    };
    joined(triplets(number).map(part).collect())
}

/// `one` is what a single 1 at the end is: `eins` alone, `ein` before another word.
fn german(number: u64, one: &str) -> String {
    const SMALL: &str = "- ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn \
                         vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn";
    const TENS: &str = "- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig";
    let below_hundred = |number: u64, one: &str| match number {
        0 => String::new(),
        1 => one.to_owned(),
        2..20 => of(SMALL, number).to_owned(),
        _ if number.is_multiple_of(10) => of(TENS, number / 10).to_owned(),
        _ => format!("{}und{}", of(SMALL, number % 10), of(TENS, number / 10)),
    };
    let below_thousand = |number: u64, one: &str| match number / 100 {
        0 => below_hundred(number, one),
        hundreds => format!("{}hundert{}", of(SMALL, hundreds), below_hundred(number % 100, one)),
    };
    let millions = |count: u64, single: &str, many: &str| match count {
        1 => format!("eine {single}"),
        count => format!("{} {many}", below_thousand(count, "eine")),
    };
    let mut parts = Vec::new();
    let mut last = String::new();
    for (count, power) in triplets(number) {
        match power {
            3 => parts.push(millions(count, "milliarde", "milliarden")),
            2 => parts.push(millions(count, "million", "millionen")),
            1 => last = format!("{}tausend", below_thousand(count, "ein")),
            _ => last.push_str(&below_thousand(count, one)),
        }
    }
    parts.push(last);
    joined(parts)
}

/// `is_last` says that no `mille` follows, before which `cents` and `vingts` lose their s.
fn french(number: u64, is_last: bool) -> String {
    const SMALL: &str = "- un deux trois quatre cinq six sept huit neuf dix onze douze treize \
                         quatorze quinze seize dix-sept dix-huit dix-neuf";
    const TENS: &str =
        "- - vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt";
    let below_hundred = |number: u64, is_last: bool| {
        let (tens, rest) = (number / 10, number % 10);
        // Seventy and ninety count on to nineteen.
        let rest = if tens == 7 || tens == 9 { rest + 10 } else { rest };
        match number {
            0 => String::new(),
            1..=19 => of(SMALL, number).to_owned(),
            80 if is_last => "quatre-vingts".to_owned(),
            _ if rest == 0 => of(TENS, tens).to_owned(),
            21 | 31 | 41 | 51 | 61 | 71 => format!("{} et {}", of(TENS, tens), of(SMALL, rest)),
            _ => format!("{}-{}", of(TENS, tens), of(SMALL, rest)),
        }
    };
    let below_thousand = |number: u64, is_last: bool| {
        let (hundreds, rest) = (number / 100, number % 100);
        let hundreds = match hundreds {
            0 => String::new(),
            1 => "cent".to_owned(),
            _ if rest == 0 && is_last => format!("{} cents", of(SMALL, hundreds)),
            _ => format!("{} cent", of(SMALL, hundreds)),
        };
        joined(vec![hundreds, below_hundred(rest, is_last)])
    };
    let part = |(count, power): (u64, u32)| match (power, count) {
        (0, _) => below_thousand(count, is_last),
        (1, 1) => "mille".to_owned(),
        (1, _) => format!("{} mille", below_thousand(count, false)),
        (2, 1) => "un million".to_owned(),
        (2, _) => format!("{} millions", below_thousand(count, true)),
        (_, 1) => "un milliard".to_owned(),
        _ => format!("{} milliards", below_thousand(count, true)),
    };
    joined(triplets(number).map(part).collect())
}

/// `one` is what a single 1 at the end is: `uno` alone, `un` before a noun.
fn spanish(number: u64, one: &str) -> String {
    const SMALL: &str = "- un dos tres cuatro cinco seis siete ocho nueve diez once doce trece \
                         catorce quince dieciséis diecisiete dieciocho diecinueve veinte veintiún \
                         veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete \
                         veintiocho veintinueve";
    const TENS: &str = "- - - treinta cuarenta cincuenta sesenta setenta ochenta noventa";
    const HUNDREDS: &str = "- ciento doscientos trescientos cuatrocientos quinientos seiscientos \
                            setecientos ochocientos novecientos";
    let below_hundred = |number: u64, one: &str| match number {
        0 => String::new(),
        1 => one.to_owned(),
        21 if one == "uno" => "veintiuno".to_owned(),
        2..30 => of(SMALL, number).to_owned(),
        _ if number.is_multiple_of(10) => of(TENS, number / 10).to_owned(),
        _ if number % 10 == 1 => format!("{} y {one}", of(TENS, number / 10)),
        _ => format!("{} y {}", of(TENS, number / 10), of(SMALL, number % 10)),
    };
    let below_thousand = |number: u64, one: &str| match (number / 100, number % 100) {
        (1, 0) => "cien".to_owned(),
        (0, rest) => below_hundred(rest, one),
        (hundreds, rest) => {
            joined(vec![of(HUNDREDS, hundreds).to_owned(), below_hundred(rest, one)])
        }
    };
    let below_million = |number: u64, one: &str| {
        let thousands = match number / 1000 {
            0 => String::new(),
            1 => "mil".to_owned(),
            count => format!("{} mil", below_thousand(count, "un")),
        };
        joined(vec![thousands, below_thousand(number % 1000, one)])
    };
    // A thousand millions are no word of their own.
    let millions = match number / 1_000_000 {
        0 => String::new(),
        1 => "un millón".to_owned(),
        count => format!("{} millones", below_million(count, "un")),
    };
    joined(vec![millions, below_million(number % 1_000_000, one)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tongue: Tongue, wanted: &[(u64, &str)]) {
        for &(number, words) in wanted {
            assert_eq!(cardinal(number, tongue), words, "{number}");
        }
    }

    #[test]
    fn english_numbers_are_said() {
        check(
            Tongue::English,
            &[
                (0, "zero"),
                (13, "thirteen"),
                (42, "forty two"),
                (100, "one hundred"),
                (101, "one hundred one"),
                (2019, "two thousand nineteen"),
                (1_000_000, "one million"),
                (
                    999_000_215_030,
                    "nine hundred ninety nine billion two hundred fifteen thousand thirty",
                ),
            ],
        );
        assert_eq!(year(1984, Tongue::English).as_deref(), Some("nineteen eighty four"));
        assert_eq!(year(1900, Tongue::English).as_deref(), Some("nineteen hundred"));
        assert_eq!(year(1905, Tongue::English).as_deref(), Some("nineteen oh five"));
        assert_eq!(year(2019, Tongue::English).as_deref(), Some("twenty nineteen"));
        assert_eq!([year(2005, Tongue::English), year(1066, Tongue::English)], [None, None]);
    }

    #[test]
    fn german_numbers_are_said() {
        check(
            Tongue::German,
            &[
                (1, "eins"),
                (21, "einundzwanzig"),
                (30, "dreißig"),
                (101, "einhunderteins"),
                (717, "siebenhundertsiebzehn"),
                (1001, "eintausendeins"),
                (21_000, "einundzwanzigtausend"),
                (1_000_000, "eine million"),
                (2_000_016, "zwei millionen sechzehn"),
                (1_001_000_000, "eine milliarde eine million"),
            ],
        );
        assert_eq!(year(1989, Tongue::German).as_deref(), Some("neunzehnhundertneunundachtzig"));
        assert_eq!(year(2019, Tongue::German), None);
    }

    #[test]
    fn french_numbers_are_said() {
        check(
            Tongue::French,
            &[
                (16, "seize"),
                (17, "dix-sept"),
                (21, "vingt et un"),
                (70, "soixante-dix"),
                (71, "soixante et onze"),
                (80, "quatre-vingts"),
                (81, "quatre-vingt-un"),
                (91, "quatre-vingt-onze"),
                (99, "quatre-vingt-dix-neuf"),
                (200, "deux cents"),
                (201, "deux cent un"),
                (1000, "mille"),
                (80_000, "quatre-vingt mille"),
                (200_000, "deux cent mille"),
                (200_000_000, "deux cents millions"),
                (1984, "mille neuf cent quatre-vingt-quatre"),
            ],
        );
    }

    #[test]
    fn spanish_numbers_are_said() {
        check(
            Tongue::Spanish,
            &[
                (1, "uno"),
                (16, "dieciséis"),
                (21, "veintiuno"),
                (31, "treinta y uno"),
                (100, "cien"),
                (101, "ciento uno"),
                (555, "quinientos cincuenta y cinco"),
                (1000, "mil"),
                (21_000, "veintiún mil"),
                (31_000, "treinta y un mil"),
                (1_000_000, "un millón"),
                (1_500_000_000, "mil quinientos millones"),
            ],
        );
    }

    #[test]
    fn every_number_has_words() {
        let tongues = [Tongue::English, Tongue::German, Tongue::French, Tongue::Spanish];
        let numbers = (0..3000).chain((0..12).map(|power| 10_u64.pow(power))).chain([LIMIT - 1]);
        for number in numbers {
            for tongue in tongues {
                let words = cardinal(number, tongue);
                let is_tidy = words.split([' ', '-']).all(|word| !word.is_empty());
                assert!(is_tidy && !words.contains("- "), "{number}: {words}");
                assert!(words.chars().all(|c| c.is_alphabetic() || " -".contains(c)), "{words}");
            }
        }
    }
}
