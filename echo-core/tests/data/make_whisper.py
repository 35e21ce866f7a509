"""Reference values of Whisper networks, by openai-whisper: see README.md beside this file.

python make_whisper.py TINY_MODEL_SAFETENSORS BASE_PT OUT_FOLDER
"""
import sys

import numpy as np
import torch
import whisper
from safetensors.numpy import load_file, save_file

tiny_path, base_path, out = sys.argv[1:4]
torch.set_grad_enabled(False)
torch.set_num_threads(1)


def noise(count, seed):
    values, state = np.empty(count), seed
    for i in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[i] = state / 2147483648.0 - 1.0
    return values


def decode(model, tokens, encoded):
    """Logits, and each layer's cross-attention probabilities (heads, tokens, frames)."""
    scores = [None] * len(model.decoder.blocks)

    def keep(layer):
        return lambda module, inputs, outputs: scores.__setitem__(layer, outputs[-1][0])

    blocks = enumerate(model.decoder.blocks)
    hooks = [block.cross_attn.register_forward_hook(keep(layer)) for layer, block in blocks]
    with whisper.model.disable_sdpa():
        logits = model.decoder(torch.tensor([tokens]), encoded)[0]
    for hook in hooks:
        hook.remove()
    return logits, [score.float().softmax(-1) for score in scores]


def tiny():
    from whisper.model import ModelDimensions, Whisper

    model = Whisper(ModelDimensions(80, 1500, 64, 2, 2, 1000, 64, 64, 2, 2)).float().eval()
    names = {
        "layers": "blocks",
        "self_attn_layer_norm": "attn_ln",
        "encoder_attn_layer_norm": "cross_attn_ln",
        "final_layer_norm": "mlp_ln",
        "encoder_attn": "cross_attn",
        "self_attn": "attn",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "embed_tokens": "token_embedding",
    }
    state = {}
    for name, value in load_file(tiny_path).items():
        parts = name.split(".")[1:]
        if parts[1] == "layer_norm":
            parts[1] = "ln_post" if parts[0] == "encoder" else "ln"
        name = ".".join(names.get(part, part) for part in parts)
        name = name.replace("embed_positions.weight", "positional_embedding")
        state[name] = torch.from_numpy(value).float()
    print(model.load_state_dict(state, strict=False))
    mel = torch.from_numpy(noise(80 * 3000, 2024).astype(np.float32).reshape(1, 80, 3000))
    tokens = [5, 17, 999, 0, 250, 250, 731, 64, 128, 3, 512, 42]
    logits, attention = decode(model, tokens, model.encoder(mel))
    reference = load_file(tiny_path.replace("model.", "reference."))["logits_heads2"]
    print("logits differ from reference.safetensors by", np.abs(logits.numpy() - reference).max())
    frames = np.arange(0, 1500, 25)
    layers = {f"layer{i}": a[..., frames].numpy().copy() for i, a in enumerate(attention)}
    save_file(layers, f"{out}/tiny-random/attention.safetensors")


def base():
    t = np.arange(80000) / 16000.0
    signal = 0.3 * np.sin(2 * np.pi * (200.0 * t + 300.0 * t * t)) + 0.05 * noise(80000, 12345)
    model = whisper.load_model(base_path, device="cpu").float()
    mel = whisper.log_mel_spectrogram(torch.from_numpy(signal.astype(np.float32)), 80, padding=480000)
    mel = whisper.pad_or_trim(mel[:, :500], 3000)
    encoded = model.encoder(mel[None])
    tokens = [50258, 50259, 50359, 50363, 400, 370, 11]
    logits, attention = decode(model, tokens, encoded)
    heads = model.alignment_heads.to_dense().nonzero().tolist()
    print("alignment heads", heads)
    picked = torch.stack([attention[layer][head] for layer, head in heads])
    values = {
        "encoder": encoded[0, ::100].numpy().copy(),
        "logits": logits[:, ::50].numpy().copy(),
        "alignment": picked[..., ::25].numpy().copy(),
    }
    save_file(values, f"{out}/whisper_base.safetensors")


tiny()
base()
