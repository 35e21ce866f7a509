//! Tensor names of the checkpoints that are in use, as Hugging Face has them without their prefix.

/// The name of a tensor; torchaudio has the encoder one level deeper and calls the head `aux`.
pub(crate) fn canonical(name: &str) -> String {
    let name = name.replace('/', ".");
    let name = ["wav2vec2.", "hubert.", "model."]
        .iter()
        .fold(name.as_str(), |name, prefix| name.strip_prefix(prefix).unwrap_or(name));
    let name = name.replacen("encoder.transformer.", "encoder.", 1);
    let name = name.replacen("encoder.feature_projection.", "feature_projection.", 1);
    let name = match name.strip_prefix("aux.") {
        Some(head) => format!("lm_head.{head}"),
        None => name,
    };
    // Newer releases of PyTorch call the parts of a normalised weight so.
    name.replace("conv.parametrizations.weight.original0", "conv.weight_g")
        .replace("conv.parametrizations.weight.original1", "conv.weight_v")
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn names_of_both_libraries_become_one() {
        for (from, to) in [
            (
                "wav2vec2.encoder.layers.3.attention.q_proj.weight",
                "encoder.layers.3.attention.q_proj.weight",
            ),
            (
                "encoder.transformer.layers.3.attention.q_proj.weight",
                "encoder.layers.3.attention.q_proj.weight",
            ),
            ("encoder.feature_projection.projection.bias", "feature_projection.projection.bias"),
            (
                "encoder.transformer.pos_conv_embed.conv.weight_g",
                "encoder.pos_conv_embed.conv.weight_g",
            ),
            (
                "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original1",
                "encoder.pos_conv_embed.conv.weight_v",
            ),
            ("aux.weight", "lm_head.weight"),
            ("lm_head.bias", "lm_head.bias"),
        ] {
            assert_eq!(canonical(from), to);
        }
    }
}
