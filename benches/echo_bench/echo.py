"""Echo by its command line: a few files of one language at a time."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .clips import Clip
from .engines import Engine
from .process import run_measured

# One process loads the model once for this many clips; what it did is kept when a later one is interrupted.
CLIPS_PER_PROCESS = 25
UNSPACED = {"zh", "ja", "th", "lo", "my", "km", "bo", "yue"}


@dataclass(frozen=True)
class Setup:
    """What all engines of Echo share in one run."""

    program: Path
    model_dir: Path
    threads: int
    options: list[str]  # more options of the command line
    is_by_ffmpeg: bool = False  # clips are decoded to 16 kHz by ffmpeg first


def transcribe_clips(setup: Setup, engine: Engine, clips: list[Clip]) -> Iterator[dict]:
    """One line of a transcript file for each clip, in groups of the same language."""
    languages = list(dict.fromkeys(clip.language for clip in clips))
    for language in languages:
        group = [clip for clip in clips if clip.language == language]
        for first in range(0, len(group), CLIPS_PER_PROCESS):
            yield from _run(setup, engine, group[first : first + CLIPS_PER_PROCESS])


def command(program: Path, engine: Engine, weights: Path, threads: int, language: str | None) -> list:
    """`echo-asr transcribe` with what an engine's name says, without files and output."""
    line = [program, "transcribe", "--offline", "--quiet", "--device", "cpu", "--model", weights,
            "--compute-type", engine.compute_type, "--threads", threads, "--beam-size", engine.beam]
    line += ["--sequential"] if engine.mode == "seq" else []
    line += ["--language", language] if language else []
    return line


def _run(setup: Setup, engine: Engine, clips: list[Clip]) -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder, "json")
        outputs.mkdir()
        # Clips of one name in two folders would be written to one file.
        links = [_link(clip, Path(folder, f"{index:04d}"), setup.is_by_ffmpeg) for index, clip in enumerate(clips)]
        weights = setup.model_dir / engine.weights
        line = command(setup.program, engine, weights, setup.threads, clips[0].language) + setup.options
        measured = run_measured([*line, "-f", "json", "-o", f"{outputs}/", *links])
        if measured.exit_code not in (0, 1):
            raise RuntimeError(f"{setup.program.name} ended with {measured.exit_code}: {measured.stderr[-2000:]}")
        run = {
            "id": f"{engine.name}:{clips[0].file}",
            "seconds_wall": round(measured.wall_s, 3),
            "seconds_cpu": round(measured.cpu_s, 3),
            "seconds_audio": round(sum(clip.seconds for clip in clips), 3),
            "peak_rss_bytes": measured.peak_rss_bytes,
        }
        for clip, link in zip(clips, links):
            yield _line(clip, outputs / f"{link.stem}.json", measured.stderr, run, engine)


def _link(clip: Clip, stem: Path, is_by_ffmpeg: bool) -> Path:
    """The clip under another name, or what ffmpeg makes of it."""
    if is_by_ffmpeg:
        decoded = stem.with_suffix(".wav")
        line = ["ffmpeg", "-nostdin", "-v", "error", "-i", clip.path, "-ac", "1", "-ar", "16000", decoded]
        subprocess.run(line, check=True)
        return decoded
    link = stem.with_suffix(clip.path.suffix)
    link.symlink_to(clip.path.resolve())
    return link


def _line(clip: Clip, output: Path, stderr: str, run: dict, engine: Engine) -> dict:
    line = {"file": clip.file, "text": "", "segments": [], "engine": engine.name, "run": run}
    if not output.exists():
        # The name of the link stands in the message.
        said = [text for text in stderr.splitlines() if output.stem in text]
        return {**line, "error": " ".join(said) or "no output"}
    transcript = json.loads(output.read_text(encoding="utf-8"))
    segments = []
    for segment in transcript["segments"]:
        decoding = segment.get("decoding") or {}
        keys = ("tokens", "temperature", "avg_logprob", "no_speech_prob", "compression_ratio")
        values = [decoding[key] for key in keys if key in decoding]
        segments.append([segment["start"], segment["end"], segment["text"], *values])
    language = transcript.get("language")
    separator = "" if language in UNSPACED else " "
    line["text"] = separator.join(filter(None, (segment[2].strip() for segment in segments)))
    line["segments"] = segments
    line["language"] = language
    line["language_given"] = clip.language
    if transcript.get("warnings"):
        line["warnings"] = transcript["warnings"]
    return line
