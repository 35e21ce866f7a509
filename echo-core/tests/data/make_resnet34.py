"""Values that `diarize/resnet34/tests.rs` compares with, by pyannote.audio's own ResNet34.

Weights, features and masks are made by formula, here as there. Prints a line for each voice: its first
four values, and the sum and the sum of squares of all.
"""

import math

import numpy as np
import torch
from pyannote.audio.models.embedding.wespeaker.resnet import ResNet34


def noise(count: int, seed: int) -> np.ndarray:
    return (np.arange(count, dtype=np.int64) * 7919 + seed * 104_729) % 2003 / 1001.5 - 1


def fill(name: str, tensor: torch.Tensor) -> torch.Tensor:
    seed = sum((place + 1) * byte for place, byte in enumerate(name.encode())) % 1000
    values = noise(tensor.numel(), seed)
    if tensor.dim() > 1:
        values *= math.sqrt(2 / tensor[0].numel())
    elif name.endswith(("running_var", ".weight")):
        values = 1 + 0.3 * values
    else:
        values *= 0.1
    return torch.from_numpy(values.reshape(tensor.shape).astype(np.float32)).double()


network = ResNet34(80, 256, two_emb_layer=False).double().eval()
state = network.state_dict()
network.load_state_dict({k: fill(k, v) if v.is_floating_point() else v for k, v in state.items()})

for frames in [131, 64, 9]:
    features = torch.from_numpy(2 * noise(frames * 80, frames)).float().double().reshape(1, frames, 80)
    at = np.arange(frames)
    masks = [at >= 0, at % 40 < 25, at == 0, at < 0]
    for mask in masks:
        with torch.inference_mode():
            _, voice = network(features, weights=torch.from_numpy(mask.astype(np.float64))[None])
        voice = voice[0].numpy()
        print(frames, *(f"{value:.6f}" for value in [*voice[:4], voice.sum(), (voice**2).sum()]))
