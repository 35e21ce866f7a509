//! OpenAI's tensor names as Hugging Face's.

/// Parts of names, OpenAI's and Hugging Face's. Cross-attention stands before self-attention,
/// whose names it contains.
const PARTS: [(&str, &str); 14] = [
    (".blocks.", ".layers."),
    (".cross_attn.query.", ".encoder_attn.q_proj."),
    (".cross_attn.key.", ".encoder_attn.k_proj."),
    (".cross_attn.value.", ".encoder_attn.v_proj."),
    (".cross_attn.out.", ".encoder_attn.out_proj."),
    (".cross_attn_ln.", ".encoder_attn_layer_norm."),
    (".attn.query.", ".self_attn.q_proj."),
    (".attn.key.", ".self_attn.k_proj."),
    (".attn.value.", ".self_attn.v_proj."),
    (".attn.out.", ".self_attn.out_proj."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".mlp.0.", ".fc1."),
    (".mlp.2.", ".fc2."),
    (".mlp_ln.", ".final_layer_norm."),
];

/// The Hugging Face name of a Whisper tensor under OpenAI's or Hugging Face's name, with or without
/// the keys that checkpoints wrap around it.
pub(crate) fn canonical(name: &str) -> String {
    let mut name = name;
    for wrapper in ["model_state_dict/", "state_dict/", "module.", "model."] {
        name = name.strip_prefix(wrapper).unwrap_or(name);
    }
    if !name.starts_with("encoder.") && !name.starts_with("decoder.") {
        return name.to_owned();
    }
    let whole = match name {
        "encoder.positional_embedding" => Some("encoder.embed_positions.weight"),
        "decoder.positional_embedding" => Some("decoder.embed_positions.weight"),
        "decoder.token_embedding.weight" => Some("decoder.embed_tokens.weight"),
        "encoder.ln_post.weight" => Some("encoder.layer_norm.weight"),
        "encoder.ln_post.bias" => Some("encoder.layer_norm.bias"),
        "decoder.ln.weight" => Some("decoder.layer_norm.weight"),
        "decoder.ln.bias" => Some("decoder.layer_norm.bias"),
        _ => None,
    };
    let mut name = format!("model.{}", whole.unwrap_or(name));
    if name.contains(".blocks.") {
        for (openai, hugging_face) in PARTS {
            name = name.replace(openai, hugging_face);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn names_of_openai_become_those_of_hugging_face() {
        let pairs = [
            ("encoder.positional_embedding", "model.encoder.embed_positions.weight"),
            ("encoder.conv1.weight", "model.encoder.conv1.weight"),
            ("encoder.blocks.0.attn.query.bias", "model.encoder.layers.0.self_attn.q_proj.bias"),
            ("encoder.blocks.31.mlp_ln.bias", "model.encoder.layers.31.final_layer_norm.bias"),
            (
                "decoder.blocks.2.cross_attn.out.bias",
                "model.decoder.layers.2.encoder_attn.out_proj.bias",
            ),
            (
                "decoder.blocks.2.cross_attn_ln.bias",
                "model.decoder.layers.2.encoder_attn_layer_norm.bias",
            ),
            ("decoder.blocks.2.mlp.2.weight", "model.decoder.layers.2.fc2.weight"),
            ("decoder.ln.weight", "model.decoder.layer_norm.weight"),
            (
                "model_state_dict/decoder.token_embedding.weight",
                "model.decoder.embed_tokens.weight",
            ),
        ];
        for (openai, hugging_face) in pairs {
            assert_eq!(canonical(openai), hugging_face);
            assert_eq!(canonical(hugging_face), hugging_face, "names of Hugging Face stay");
        }
        assert_eq!(canonical("proj_out.weight"), "proj_out.weight");
    }
}
