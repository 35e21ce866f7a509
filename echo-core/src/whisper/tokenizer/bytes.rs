//! GPT-2's way of writing bytes as visible characters, and merge rules from token order.
//!
//! A vocabulary file cannot hold arbitrary bytes, so each of the 256 bytes is written as one
//! character: printable Latin-1 as itself, the others as U+0100, U+0101 and so on in their order.
//! Source: `bytes_to_unicode` in openai/gpt-2's encoder.py.

use std::collections::HashMap;

/// The character that stands for each byte.
pub(super) fn characters() -> [char; 256] {
    let mut characters = ['\0'; 256];
    let mut next_stand_in = 0x100;
    for (byte, character) in (0..=255_u8).zip(&mut characters) {
        let printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        *character = if printable {
            char::from(byte)
        } else {
            next_stand_in += 1;
            char::from_u32(next_stand_in - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
    }
    characters
}

/// A token as it is written in vocabulary files.
pub(super) fn encode_token(bytes: &[u8], table: &[char; 256]) -> String {
    bytes.iter().map(|&byte| table[usize::from(byte)]).collect()
}

/// The two tokens that each token of more than one byte was merged from, in the order of merging.
///
/// Byte-pair encoding numbers its tokens in the order it makes them, so a token's parts are what
/// its bytes merge to by the earlier tokens alone. Tokens that do not come down to two parts were
/// not made by merging and are left out.
pub(super) fn merges_from_order(tokens: &[Vec<u8>]) -> Vec<(usize, usize)> {
    let mut ranks = HashMap::with_capacity(tokens.len());
    for (rank, token) in tokens.iter().enumerate().filter(|(_, token)| !token.is_empty()) {
        ranks.entry(token.as_slice()).or_insert(rank);
    }
    let mut merges = Vec::new();
    for (rank, token) in tokens.iter().enumerate() {
        // The longest token of Whisper's vocabularies has 128 bytes; merging is quadratic.
        if !(2..=1024).contains(&token.len()) || ranks.get(token.as_slice()) != Some(&rank) {
            continue;
        }
        if let [left, right] = merge(token, &ranks, rank)[..]
            && let (Some(&left), Some(&right)) = (ranks.get(left), ranks.get(right))
        {
            merges.push((left, right));
        }
    }
    merges
}

/// Merges the pair of lowest rank below `limit` until none is left.
fn merge<'a>(token: &'a [u8], ranks: &HashMap<&[u8], usize>, limit: usize) -> Vec<&'a [u8]> {
    // Part i is token[starts[i]..starts[i + 1]].
    let mut starts: Vec<usize> = (0..=token.len()).collect();
    loop {
        let lowest = starts
            .windows(3)
            .enumerate()
            .filter_map(|(part, ends)| ranks.get(&token[ends[0]..ends[2]]).map(|rank| (rank, part)))
            .filter(|&(&rank, _)| rank < limit)
            .min();
        let Some((_, part)) = lowest else { break };
        starts.remove(part + 1);
    }
    starts.windows(2).map(|ends| &token[ends[0]..ends[1]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let characters = characters();
        assert_eq!(characters[usize::from(b' ')], 'Ġ');
        assert_eq!(characters[usize::from(b'\n')], 'Ċ');
        assert_eq!(characters[usize::from(b'a')], 'a');
        assert_eq!(characters[0xad], 'Ń');
        assert_eq!(characters.iter().collect::<std::collections::HashSet<_>>().len(), 256);
        assert_eq!(encode_token(&[b' ', b'a', 0xff], &characters), "Ġaÿ");
    }

    #[test]
    fn merges_follow_from_the_order_of_tokens() {
        let tokens = ["a", "b", "c", "bc", "ab", "abc", "", "cab"];
        let tokens: Vec<Vec<u8>> = tokens.iter().map(|t| t.as_bytes().to_vec()).collect();
        // "abc" merges "bc" first, since that token is older than "ab".
        assert_eq!(merges_from_order(&tokens), [(1, 2), (0, 1), (0, 3), (2, 4)]);
    }
}
