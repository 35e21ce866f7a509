"""The programs that are compared, each behind one function from samples to segments.

An engine is named `PROGRAM-MODE-bN[@WEIGHTS][+TYPE]`: `echo-seq-b1`, `fw-batched-b5+int8`, `wcpp-seq-b5@ggml-q8_0.bin`.

| program | is | modes | weights in the model folder, number format |
|---|---|---|---|
| echo | this project's echo-asr | seq, batched | ct2, f32 |
| fw | faster-whisper | seq, batched (its own voice activity detection) | ct2, float32 |
| openai | openai-whisper | seq | openai.pt, float32 |
| wcpp | whisper.cpp by pywhispercpp | seq | ggml-f16.bin, as stored |
| wx | WhisperX (its own voice activity detection, no alignment) | batched | ct2, float32 |

Each runs with its own defaults but for the beam: temperature fallback on, earlier text as context in `seq`.
All peers hear the same samples, decoded by faster-whisper's reader; Echo reads the files itself.
Peers are imported only when they run: install those you want to compare with.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_WEIGHTS = {"echo": "ct2", "fw": "ct2", "openai": "openai.pt", "wcpp": "ggml-f16.bin", "wx": "ct2"}
DEFAULT_TYPES = {"echo": "f32", "fw": "float32", "openai": "float32", "wcpp": "stored", "wx": "float32"}
MODES = {"echo": ("seq", "batched"), "fw": ("seq", "batched"), "openai": ("seq",), "wcpp": ("seq",), "wx": ("batched",)}
BATCH_SIZE = 8


@dataclass(frozen=True)
class Engine:
    """A program with its mode, beam, weights and number format."""

    name: str
    program: str
    mode: str
    beam: int
    weights: str
    compute_type: str

    @classmethod
    def parse(cls, name: str) -> "Engine":
        """Reads `PROGRAM-MODE-bN[@WEIGHTS][+TYPE]`."""
        match = re.fullmatch(r"(\w+)-(\w+)-b(\d+)(?:@([^+]+))?(?:\+(\w+))?", name)
        if not match or match[2] not in MODES.get(match[1], ()):
            raise ValueError(f"engine `{name}` is not PROGRAM-MODE-bN[@WEIGHTS][+TYPE] of {MODES}")
        program, mode, beam, weights, compute_type = match.groups()
        return cls(
            name=name,
            program=program,
            mode=mode,
            beam=int(beam),
            weights=weights or DEFAULT_WEIGHTS[program],
            compute_type=compute_type or DEFAULT_TYPES[program],
        )


@dataclass
class Transcription:
    """Segments are `[start, end, text]`, then tokens and decoding values where the program tells them."""

    segments: list[list]
    language: str | None = None
    first_segment_s: float | None = None
    extra: dict = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(segment[2] for segment in self.segments).strip()


Transcribe = Callable[..., Transcription]


def limit_threads(threads: int) -> None:
    """Sets the thread counts that libraries read when they are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def load_samples(path: Path):
    """Mono f32 samples at 16 kHz."""
    from faster_whisper.audio import decode_audio

    return decode_audio(str(path), sampling_rate=16_000)


def load_peer(engine: Engine, model_dir: Path, threads: int) -> Transcribe:
    """A function `(samples, language or None) -> Transcription` on a loaded model."""
    loaders = {"fw": _faster_whisper, "openai": _openai_whisper, "wcpp": _whisper_cpp, "wx": _whisperx}
    return loaders[engine.program](engine, str(model_dir / engine.weights), threads)


def _faster_whisper(engine: Engine, weights: str, threads: int) -> Transcribe:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(weights, device="cpu", compute_type=engine.compute_type, cpu_threads=threads)
    options = {"beam_size": engine.beam}
    if engine.mode == "batched":
        model = BatchedInferencePipeline(model)
        options["batch_size"] = BATCH_SIZE

    def transcribe(samples, language):
        start, first, segments = time.perf_counter(), None, []
        found, info = model.transcribe(samples, language=language, **options)
        for segment in found:
            if first is None:
                first = time.perf_counter() - start
            decoding = (segment.temperature, segment.avg_logprob, segment.no_speech_prob, segment.compression_ratio)
            segments.append([round(segment.start, 3), round(segment.end, 3), segment.text, list(segment.tokens)]
                            + [round(value, 5) for value in decoding])
        return Transcription(segments, info.language, first, {"language_probability": info.language_probability})

    return transcribe


def _openai_whisper(engine: Engine, weights: str, threads: int) -> Transcribe:
    import torch
    import whisper

    torch.set_num_threads(threads)
    model = whisper.load_model(weights, device="cpu")
    options = {"beam_size": engine.beam} if engine.beam > 1 else {}

    def transcribe(samples, language):
        torch.manual_seed(0)
        # Fallback as the program's own command line has it.
        result = model.transcribe(samples, fp16=False, language=language, verbose=None, best_of=5,
                                  temperature=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), **options)
        keys = ("temperature", "avg_logprob", "no_speech_prob", "compression_ratio")
        segments = [
            [round(segment["start"], 3), round(segment["end"], 3), segment["text"], list(segment["tokens"])]
            + [round(segment[key], 5) for key in keys]
            for segment in result["segments"]
        ]
        return Transcription(segments, result["language"])

    return transcribe


def _whisper_cpp(engine: Engine, weights: str, threads: int) -> Transcribe:
    import _pywhispercpp as native
    from pywhispercpp.model import Model

    # patience -1 is whisper.cpp's own default.
    search = (
        {"params_sampling_strategy": 1, "beam_search": {"beam_size": engine.beam, "patience": -1.0}}
        if engine.beam > 1
        else {"greedy": {"best_of": 5}}
    )
    model = Model(weights, n_threads=threads, print_progress=False, print_realtime=False,
                  redirect_whispercpp_logs_to=None, **search)

    def transcribe(samples, language):
        start, seen = time.perf_counter(), []
        model._set_params({"language": language or "auto"})
        found = model.transcribe(samples, new_segment_callback=lambda _: seen.append(time.perf_counter() - start))
        context = model._ctx
        # The bytes themselves: the wrapper's text breaks characters that span tokens.
        segments = [
            [segment.t0 / 100, segment.t1 / 100,
             native.whisper_full_get_segment_text(context, index).decode("utf-8", "replace")]
            for index, segment in enumerate(found)
        ]
        detected = native.whisper_lang_str(native.whisper_full_lang_id(context))
        return Transcription(segments, detected, seen[0] if seen else None)

    return transcribe


def _whisperx(engine: Engine, weights: str, threads: int) -> Transcribe:
    import torch
    import whisperx

    torch.set_num_threads(threads)
    model = whisperx.load_model(weights, device="cpu", compute_type=engine.compute_type, threads=threads,
                                asr_options={"beam_size": engine.beam})

    def transcribe(samples, language):
        result = model.transcribe(samples, batch_size=BATCH_SIZE, language=language)
        segments = [[round(segment["start"], 3), round(segment["end"], 3), segment["text"]]
                    for segment in result["segments"]]
        return Transcription(segments, result["language"])

    return transcribe
