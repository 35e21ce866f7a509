//! Which decoder heads follow time, for the Whisper models that OpenAI published.
//!
//! Word times are read off the cross-attention of a few heads that were picked by hand on
//! recordings with known word times. Source: `_ALIGNMENT_HEADS` in `whisper/__init__.py` of
//! openai-whisper 20250625, decoded from its bit maps.

/// (layer, head) of the decoder.
pub(crate) type Head = (usize, usize);

/// Heads by model name.
const TABLE: [(&str, &[Head]); 12] = [
    ("tiny.en", &[(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)]),
    ("tiny", &[(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)]),
    ("base.en", &[(3, 3), (4, 7), (5, 1), (5, 5), (5, 7)]),
    ("base", &[(3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)]),
    (
        "small.en",
        &[
            (6, 6),
            (7, 0),
            (7, 3),
            (7, 8),
            (8, 2),
            (8, 5),
            (8, 7),
            (9, 0),
            (9, 4),
            (9, 8),
            (9, 10),
            (10, 0),
            (10, 1),
            (10, 2),
            (10, 3),
            (10, 6),
            (10, 11),
            (11, 2),
            (11, 4),
        ],
    ),
    ("small", &[(5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5)]),
    (
        "medium.en",
        &[
            (11, 4),
            (14, 1),
            (14, 12),
            (14, 14),
            (15, 4),
            (16, 0),
            (16, 4),
            (16, 9),
            (17, 12),
            (17, 14),
            (18, 7),
            (18, 10),
            (18, 15),
            (20, 0),
            (20, 3),
            (20, 9),
            (20, 14),
            (21, 12),
        ],
    ),
    ("medium", &[(13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)]),
    (
        "large-v1",
        &[(9, 19), (11, 2), (11, 4), (11, 17), (22, 7), (22, 11), (22, 17), (23, 2), (23, 15)],
    ),
    (
        "large-v2",
        &[
            (10, 12),
            (13, 17),
            (16, 11),
            (16, 12),
            (16, 13),
            (17, 15),
            (17, 16),
            (18, 4),
            (18, 11),
            (18, 19),
            (19, 11),
            (21, 2),
            (21, 3),
            (22, 3),
            (22, 9),
            (22, 12),
            (23, 5),
            (23, 7),
            (23, 13),
            (25, 5),
            (26, 1),
            (26, 12),
            (27, 15),
        ],
    ),
    (
        "large-v3",
        &[
            (7, 0),
            (10, 17),
            (12, 18),
            (13, 12),
            (16, 1),
            (17, 14),
            (19, 11),
            (21, 4),
            (24, 1),
            (25, 6),
        ],
    ),
    ("large-v3-turbo", &[(2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)]),
];

/// The heads of a published model by its name.
pub(crate) fn of_model(name: &str) -> Option<&'static [Head]> {
    TABLE.iter().find(|(known, _)| *known == name).map(|(_, heads)| *heads)
}

/// The heads of the published model that has these sizes, if there is one.
///
/// The first and second large model differ in nothing but their weights; the second is meant, as
/// hardly anyone uses the first.
pub(crate) fn of_sizes(
    d_model: usize,
    encoder_layers: usize,
    decoder_layers: usize,
    vocab: usize,
) -> Option<&'static [Head]> {
    let name = match (d_model, encoder_layers, decoder_layers, vocab) {
        (384, 4, 4, 51_864) => "tiny.en",
        (384, 4, 4, 51_865) => "tiny",
        (512, 6, 6, 51_864) => "base.en",
        (512, 6, 6, 51_865) => "base",
        (768, 12, 12, 51_864) => "small.en",
        (768, 12, 12, 51_865) => "small",
        (1024, 24, 24, 51_864) => "medium.en",
        (1024, 24, 24, 51_865) => "medium",
        (1280, 32, 32, 51_865) => "large-v2",
        (1280, 32, 32, 51_866) => "large-v3",
        (1280, 32, 4, 51_866) => "large-v3-turbo",
        _ => return None,
    };
    of_model(name)
}

/// What is taken for models that nobody picked heads for, such as distilled ones: all heads of the
/// upper half of the decoder's layers, as openai-whisper does.
pub(crate) fn unknown(decoder_layers: usize, decoder_heads: usize) -> Vec<Head> {
    (decoder_layers / 2..decoder_layers)
        .flat_map(|layer| (0..decoder_heads).map(move |head| (layer, head)))
        .collect()
}
