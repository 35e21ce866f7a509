"""The recordings of a folder with a manifest.json, and files of transcripts beside them.

A transcript file is JSON lines, one clip each: `{"file", "text", "segments", ...}`, `file` relative to the folder
of recordings. Later lines replace earlier ones of the same file, so that a run can be stopped and taken up again.
"""

import json
from dataclasses import dataclass
from pathlib import Path

SUBSETS = ["librispeech-mini", "english", "multilingual", "long"]
NON_SPEECH = "nonspeech"


@dataclass(frozen=True)
class Clip:
    """One recording: where it lies, what is spoken in it and, where known, the words."""

    file: str
    path: Path
    subset: str
    seconds: float
    language: str | None  # ISO 639-1; None where several or none are spoken
    reference: str | None  # "" = nothing is said; None = unknown


def load_clips(audio_dir: Path, only: str = "", folder: str = "asr/") -> list[Clip]:
    """The clips of a folder (speech recognition) in the order of the subsets, those whose name contains `only`."""
    order = {subset: rank for rank, subset in enumerate([*SUBSETS[:3], NON_SPEECH, *SUBSETS[3:]])}
    clips = [
        Clip(
            file=entry["file"],
            path=audio_dir / entry["file"],
            subset=entry["subset"],
            seconds=entry["seconds"],
            language=entry["language"] if len(entry["language"] or "") == 2 else None,
            reference=entry.get("reference"),
        )
        for entry in json.loads((audio_dir / "manifest.json").read_text(encoding="utf-8"))
        if entry["file"].startswith(folder)
    ]
    clips = [clip for clip in clips if only in clip.file]
    return sorted(clips, key=lambda clip: (order.get(clip.subset, len(order)), clip.file))


def read_transcripts(path: Path) -> dict[str, dict]:
    """Lines of a transcript file by clip; nothing if the file does not exist."""
    if not path.exists():
        return {}
    lines = filter(str.strip, path.read_text(encoding="utf-8").splitlines())
    return {line["file"]: line for line in map(json.loads, lines)}


def append_transcript(path: Path, line: dict) -> None:
    """Adds one line, so that what was done survives an interruption."""
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
