#!/usr/bin/env python3
"""CPU seconds of CTranslate2's Whisper in int8 on networks of the published shapes with random weights.

    shapes_of_ctranslate2.py --tokenizer MODELS/base/hf [--shapes small,turbo] [--beams 1,5] [--threads N]

Beside `shapes --device cpu --compute int8`. A step is the difference between runs of 32 and 8 tokens, over 24, so what
a run prepares is not in it. Needs ctranslate2, transformers and torch; the folder is asked for its tokenizer only.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import ctranslate2
import numpy
from transformers import WhisperConfig, WhisperForConditionalGeneration

SMALL = {"d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 12,
         "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 51865,
         "num_mel_bins": 80}
TURBO = {"d_model": 1280, "encoder_layers": 32, "decoder_layers": 4, "encoder_attention_heads": 20,
         "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120, "vocab_size": 51866,
         "num_mel_bins": 128}
SHAPES = {"small": SMALL, "turbo": TURBO}
PROMPT = [50258, 50259, 50359, 50363]
END = 50257
FEW, MANY = 8, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR")
    parser.add_argument("--shapes", default="small,turbo")
    parser.add_argument("--beams", default="1,5")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model = make(SHAPES[name], arguments.tokenizer, Path(folder), arguments.threads)
        features = numpy.random.rand(1, SHAPES[name]["num_mel_bins"], 3000).astype(numpy.float32)
        features = ctranslate2.StorageView.from_array(features)
        encode_s, encoded = min((cpu_s(lambda: model.encode(features)) for _ in range(2)), key=lambda run: run[0])
        for beam in map(int, arguments.beams.split(",")):
            def generate(tokens: int, beam: int = beam):
                # Half of `max_length` are new tokens.
                return model.generate(encoded, [PROMPT], beam_size=beam, max_length=2 * tokens, suppress_blank=False,
                                      suppress_tokens=[END])

            few, many = (min(cpu_s(lambda: generate(tokens))[0] for _ in range(2)) for tokens in (FEW, MANY))
            print(json.dumps({"engine": "ctranslate2", "model": name, "beams": beam, "threads": arguments.threads,
                              "encode_ms": round(1000 * encode_s), "ms_per_step": 1000 * (many - few) / (MANY - FEW)}))


def make(shape: dict, tokenizer: Path, folder: Path, threads: int) -> ctranslate2.models.Whisper:
    """A model of random weights."""
    source, converted = folder / "hf", folder / "ct2"
    WhisperForConditionalGeneration(WhisperConfig(**shape)).half().save_pretrained(source)
    for file in tokenizer.iterdir():
        if not (source / file.name).exists() and file.suffix != ".safetensors":
            shutil.copy(file, source)
    ctranslate2.converters.TransformersConverter(str(source), load_as_float16=True).convert(converted, quantization="int8")
    return ctranslate2.models.Whisper(str(converted), device="cpu", compute_type="int8", intra_threads=threads)


def cpu_s(work) -> tuple:
    """CPU seconds of some work, and what it gives."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
