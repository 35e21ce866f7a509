//! Where text may be broken, and where it is best broken.
//!
//! Text is a row of [`Atom`]s that stay whole: words between spaces; single characters in Chinese
//! and Japanese, which may be parted anywhere but before closing and after opening marks (kinsoku);
//! words in Thai and its neighbours, as far as the recogniser tells them apart. Width is counted in
//! columns of a terminal or a caption: a wide character takes two, a combining mark none.
//!
//! Both choices, of lines within a cue and of cues within a segment, are least-cost paths over the
//! places between atoms, which balances lines that a greedy fill would leave ragged.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// The furthest that a path looks ahead, in atoms: nobody reads a longer line, and an absurd width
/// must not cost the square of a long text.
const MAX_REACH: usize = 1000;

/// A piece of text that stays on one line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Atom {
    /// The bytes of the text it covers.
    pub(super) bytes: Range<usize>,
    /// Columns.
    pub(super) width: usize,
    /// Whether a space stands in front of it, unless it begins a line.
    pub(super) has_space: bool,
    /// How good a place its end is to stop at.
    pub(super) pause: Pause,
}

/// How good a place is to stop at, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pause {
    /// Between two words of one clause.
    None,
    /// After a comma and the like, or where the speaker pauses.
    Clause,
    /// After a full stop and the like.
    Sentence,
}

/// Cuts text into atoms no wider than `most_columns`. `word_ends` are bytes after which a word ends.
pub(super) fn atoms(text: &str, most_columns: usize, word_ends: &[usize]) -> Vec<Atom> {
    let mut atoms: Vec<Atom> = Vec::new();
    let mut last: Option<&str> = None;
    let mut has_space = false;
    for (at, glyph) in text.grapheme_indices(true) {
        if glyph == " " {
            has_space = true;
            continue;
        }
        let width = glyph.width();
        let continues = !has_space
            && last.is_some_and(|last| {
                let word_ends_here = word_ends.binary_search(&at).is_ok();
                !(may_part(last, glyph) || word_ends_here && is_unspaced_script(glyph))
            });
        match atoms.last_mut() {
            Some(atom) if continues && atom.width + width <= most_columns => {
                atom.width += width;
                atom.bytes.end = at + glyph.len();
            }
            _ => atoms.push(Atom {
                bytes: at..at + glyph.len(),
                width,
                has_space: has_space && last.is_some(),
                pause: Pause::None,
            }),
        }
        (last, has_space) = (Some(glyph), false);
    }
    for atom in &mut atoms {
        atom.pause = pause_after(&text[atom.bytes.clone()]);
    }
    atoms
}

/// Breaks atoms into the fewest lines that fit, as even as can be, sooner after a comma than not.
pub(super) fn lines(atoms: &[Atom], most_columns: usize) -> Vec<Range<usize>> {
    if fits_one_line(atoms, most_columns) {
        return std::iter::once(0..atoms.len()).collect();
    }
    cheapest(atoms.len(), |from, found| {
        let mut columns = 0;
        for (to, atom) in atoms.iter().enumerate().skip(from).take(MAX_REACH) {
            columns += atom.width + usize::from(atom.has_space && to > from);
            if columns > most_columns && to > from {
                break;
            }
            let slack = most_columns.saturating_sub(columns) as f64 / most_columns as f64;
            // A line more must cost more than any raggedness: the sum of squares stays below 1 a line.
            let ragged = slack * slack + if atom.pause == Pause::None { 0.03 } else { 0.0 };
            found(to + 1, 1000.0 + ragged);
        }
    })
}

/// Cuts atoms into cues of at most `most_lines` lines, preferring ends of sentences and clauses.
pub(super) fn cues(atoms: &[Atom], most_columns: usize, most_lines: usize) -> Vec<Range<usize>> {
    if fits_one_line(atoms, most_columns) {
        return std::iter::once(0..atoms.len()).collect();
    }
    let room = most_columns.saturating_mul(most_lines) as f64;
    cheapest(atoms.len(), |from, found| {
        let (mut line, mut columns, mut filled) = (1, 0, 0);
        for (to, atom) in atoms.iter().enumerate().skip(from).take(MAX_REACH) {
            let space = usize::from(atom.has_space && columns > 0);
            if columns + space + atom.width > most_columns && columns > 0 {
                (line, columns) = (line + 1, atom.width);
            } else {
                columns += space + atom.width;
            }
            filled += atom.width;
            if line > most_lines && to > from {
                break;
            }
            let slack = 1.0 - (filled as f64 / room).min(1.0);
            let torn = match atom.pause {
                _ if to + 1 == atoms.len() => 0.0,
                Pause::Sentence => 0.0,
                Pause::Clause => 0.2,
                Pause::None => 0.7,
            };
            // Weighed so that one cue more is worth it to end two of them with a sentence or clause.
            found(to + 1, 1.0 + slack * slack + torn);
        }
    })
}

fn fits_one_line(atoms: &[Atom], most_columns: usize) -> bool {
    atoms.iter().map(|atom| atom.width + usize::from(atom.has_space)).sum::<usize>() <= most_columns
}

/// The cheapest way from 0 to `end`. `steps` is given a place and reports where one can go from it
/// and at what cost; it must always report at least the next place.
fn cheapest(end: usize, steps: impl Fn(usize, &mut dyn FnMut(usize, f64))) -> Vec<Range<usize>> {
    let mut best = vec![(f64::INFINITY, 0); end + 1];
    best[0] = (0.0, 0);
    for from in 0..end {
        let spent = best[from].0;
        steps(from, &mut |to, cost| {
            if spent + cost < best[to].0 {
                best[to] = (spent + cost, from);
            }
        });
    }
    let mut path = Vec::new();
    let mut to = end;
    while to > 0 {
        path.push(best[to].1..to);
        to = best[to].1;
    }
    path.reverse();
    path
}

fn pause_after(text: &str) -> Pause {
    let closing = ['"', '\'', '”', '’', '»', ')', ']', '」', '』', '）'];
    match text.trim_end_matches(closing).chars().next_back() {
        Some('.' | '!' | '?' | '…' | '。' | '！' | '？' | '．' | '؟' | '।') => {
            Pause::Sentence
        }
        Some(',' | ';' | ':' | '、' | '，' | '；' | '：' | '،' | '—') => Pause::Clause,
        _ => Pause::None,
    }
}

/// Whether a line may be broken between two neighbouring characters that no space parts.
fn may_part(before: &str, after: &str) -> bool {
    const NEVER_FIRST: &str = "、。，．・：；？！゛゜ーゝゞ々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ\
        ）〕］｝〉》」』】〙〗〟’”｠»,.!?:;)]}%％…‥—";
    const NEVER_LAST: &str = "（〔［｛〈《「『【〘〖〝‘“｟«([{";
    let wide = |glyph: &str| glyph.width() >= 2 && !glyph.chars().any(is_hangul);
    (wide(before) || wide(after))
        && !after.chars().any(|c| NEVER_FIRST.contains(c))
        && !before.chars().any(|c| NEVER_LAST.contains(c))
}

/// Korean puts spaces between its words, wide as its syllables are.
fn is_hangul(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7af}')
}

/// Thai, Lao, Burmese and Khmer: narrow letters, no spaces, so that only words tell where to part.
fn is_unspaced_script(glyph: &str) -> bool {
    glyph.chars().any(
        |c| matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str, most_columns: usize) -> Vec<&str> {
        let atoms = atoms(text, most_columns, &[]);
        let span =
            |line: Range<usize>| atoms[line.start].bytes.start..atoms[line.end - 1].bytes.end;
        lines(&atoms, most_columns).into_iter().map(|line| &text[span(line)]).collect()
    }

    #[test]
    fn lines_are_even_rather_than_full() {
        let text = "the quick brown fox jumps over the lazy dog";
        assert_eq!(broken(text, 42), ["the quick brown fox", "jumps over the lazy dog"]);
        assert_eq!(broken(text, 43), [text]);
    }

    #[test]
    fn no_line_is_too_wide_and_none_is_missing() {
        let text = "a bb ccc dddd eeeee ffffff ggggggg hhhhhhhh iiiiiiiiiiiiiiiiiiiiiiii j";
        for width in 1..90 {
            let lines = broken(text, width);
            assert!(lines.iter().all(|line| line.width() <= width), "{width}: {lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn chinese_and_japanese_break_anywhere_but_at_marks() {
        let lines = broken("今日はとても良い天気ですね。散歩に行きましょう。", 12);
        assert!(lines.iter().all(|line| line.width() <= 12), "{lines:?}");
        assert!(lines.iter().all(|line| !line.starts_with(['。', 'ょ'])), "{lines:?}");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn korean_breaks_at_spaces() {
        let text = "안녕하세요 여러분 반갑습니다";
        assert_eq!(broken(text, 28), [text]);
        assert_eq!(broken(text, 20).join(" "), text);
        assert_eq!(broken(text, 10), ["안녕하세요", "여러분", "반갑습니다"]);
    }

    #[test]
    fn thai_breaks_where_its_words_end() {
        let text = "สวัสดีครับ";
        let parted = atoms(text, 40, &["สวัสดี".len(), text.len()]);
        assert_eq!(parted.len(), 2);
        assert_eq!(atoms(text, 40, &[]).len(), 1);
    }

    #[test]
    fn a_cluster_of_marks_is_never_cut() {
        let text = "e\u{301}".repeat(5);
        assert_eq!(broken(&text, 2), ["e\u{301}e\u{301}", "e\u{301}e\u{301}", "e\u{301}"]);
    }

    #[test]
    fn cues_end_with_sentences() {
        let text = "One two three four five six. Seven eight nine ten, eleven twelve thirteen.";
        let atoms = atoms(text, 20, &[]);
        let ends: Vec<usize> = cues(&atoms, 20, 2).into_iter().map(|cue| cue.end).collect();
        assert_eq!(ends, [6, 10, 13]);
    }

    #[test]
    fn a_long_text_costs_no_square() {
        let text = "字".repeat(200_000);
        let atoms = atoms(&text, usize::MAX, &[]);
        assert!(!cues(&atoms, usize::MAX, usize::MAX).is_empty());
        assert!(!lines(&atoms, 1_000_000).is_empty());
    }
}
