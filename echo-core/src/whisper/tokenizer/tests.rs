use super::*;
use crate::models::Vocabulary;

/// 256 bytes, a few merges and the empty token: 264 text tokens. As in the real vocabularies,
/// suppressing symbols after a space does not suppress the space.
pub(crate) fn small() -> Tokenizer {
    let mut texts: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
    texts.extend(["he", "hel", " w", "lo", " -", " '"].map(|token| token.as_bytes().to_vec()));
    // A space and the first byte of the music notes.
    texts.extend([b" \xe2".to_vec(), Vec::new()]);
    Tokenizer::new("small", texts.iter().map(Vec::as_slice), &config(1872)).unwrap()
}

fn config(vocab: usize) -> WhisperConfig {
    WhisperConfig {
        n_mels: 80,
        audio_context: 1500,
        d_model: 64,
        encoder_heads: 1,
        encoder_layers: 1,
        text_context: 448,
        decoder_heads: 1,
        decoder_layers: 1,
        vocab,
        alignment_heads: Vec::new(),
    }
}

/// The tokenizer of a published model.
fn published(vocab: usize) -> Tokenizer {
    let texts = Vocabulary::embedded(vocab).unwrap();
    Tokenizer::new("published", texts.iter(), &config(vocab)).unwrap()
}

fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/data/decoding/tokenizer.json")).unwrap()
}

fn agrees_with_the_reference(tokenizer: &Tokenizer, encoding: &str) {
    let golden = golden();
    let texts = golden["texts"].as_array().unwrap();
    for (index, text) in texts.iter().enumerate() {
        let text = text.as_str().unwrap();
        let tokens = tokenizer.encode(text).unwrap();
        let expected: Vec<u32> =
            serde_json::from_value(golden[encoding]["ids"][index].clone()).unwrap();
        assert_eq!(tokens, expected, "{text:?}");
        assert_eq!(tokenizer.decode(&tokens), text);
        // Without the last token many texts end inside a character.
        let cut = &tokens[..tokens.len().saturating_sub(1)];
        assert_eq!(tokenizer.decode(cut), golden[encoding]["decode"][index]);
    }
    let non_speech = serde_json::to_value(tokenizer.non_speech_tokens().unwrap()).unwrap();
    assert_eq!(non_speech, golden[encoding]["non_speech"]);
}

#[test]
fn the_published_vocabularies_encode_like_the_reference() {
    for (vocab, encoding) in [(51_865, "multilingual"), (51_864, "english")] {
        let tokenizer = published(vocab);
        assert_eq!(tokenizer.is_multilingual, encoding == "multilingual");
        agrees_with_the_reference(&tokenizer, encoding);
    }
}

#[test]
fn merging_and_joining_are_inverse() {
    let tokenizer = small();
    let tokens = tokenizer.encode("hello world").unwrap();
    assert_eq!(tokens[..3], [257, 259, 258]);
    assert_eq!(tokenizer.decode(&tokens), "hello world");
}

#[test]
fn a_character_in_several_tokens_is_whole_again() {
    let tokenizer = small();
    let tokens = tokenizer.encode("ü€😀").unwrap();
    assert_eq!(tokens.len(), 9);
    assert_eq!(tokenizer.decode(&tokens), "ü€😀");
    assert_eq!(tokenizer.decode(&tokens[..3]), "ü\u{fffd}");
}

#[test]
fn special_tokens_say_nothing() {
    let tokenizer = small();
    let special = tokenizer.special;
    let mut tokens = vec![special.timestamp_begin, special.start_of_transcript()];
    tokens.extend(tokenizer.encode("lo").unwrap());
    tokens.extend([special.end_of_text, special.end + 7, u32::MAX]);
    assert_eq!(tokenizer.decode(&tokens), "lo");
}

#[test]
fn special_tokens_written_out_are_text() {
    let tokenizer = small();
    let tokens = tokenizer.encode("<|en|>").unwrap();
    assert!(tokens.iter().all(|&token| token < tokenizer.special.end_of_text));
}

#[test]
fn vocabularies_without_all_bytes_encode_what_they_can() {
    let texts: [&[u8]; 3] = [b"a", b"b", b"ab"];
    let tokenizer = Tokenizer::new("odd", texts, &config(3 + 2 + 6 + 1501)).unwrap();
    assert_eq!(tokenizer.encode("abxa").unwrap(), [2, 0]);
    assert!(tokenizer.non_speech_tokens().unwrap().is_empty());
}

#[test]
fn a_vocabulary_of_another_layout_is_an_error() {
    let texts: [&[u8]; 2] = [b"a", b"b"];
    let error = Tokenizer::new("odd", texts, &config(1609)).unwrap();
    assert_eq!(error.special.n_languages, 98);
    let error = Tokenizer::new("odd", texts, &config(50_000)).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Model);
}
