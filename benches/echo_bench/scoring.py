"""Word error rates, after openai-whisper's own normalisers, and the share of identical texts.

English: EnglishTextNormalizer; other languages: BasicTextNormalizer; Japanese, Chinese and Korean: BasicTextNormalizer
with letters split, so that characters are counted (Chinese folded to simplified script first). Errors and reference
words are pooled over the clips of a subset that have a reference and a transcript.
"""

from dataclasses import dataclass, field
from functools import cache

from .clips import NON_SPEECH, SUBSETS, Clip

BY_CHARACTER = ("ja", "zh", "ko")


@cache
def _normalisers():
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    return EnglishTextNormalizer(), BasicTextNormalizer(), BasicTextNormalizer(split_letters=True)


@cache
def _simplified(text: str) -> str:
    import zhconv

    return zhconv.convert(text, "zh-cn")


@cache
def normalise(text: str, language: str | None) -> str:
    """The words that are compared, joined by spaces."""
    english, basic, characters = _normalisers()
    if language == "en":
        return english(text)
    if language in BY_CHARACTER:
        return characters(_simplified(text) if language == "zh" else text).strip()
    return basic(text).strip()


@dataclass
class Errors:
    """Pooled edits against `words` reference words."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0
    clips: int = 0

    @property
    def edits(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def percent(self) -> float:
        return 100 * self.edits / self.words if self.words else float("nan")

    def add(self, other: "Errors") -> None:
        for name in ("substitutions", "deletions", "insertions", "words", "clips"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Score:
    """The errors of one transcript file."""

    subsets: dict[str, Errors]
    all: Errors
    non_speech_words: int
    missing: list[str]  # clips with a reference and no transcript
    failed: list[str]  # clips with an error instead of a transcript
    per_clip: list[tuple[Clip, Errors, str, str]] = field(default_factory=list)  # with reference and text, normalised
    cpu_s_per_audio_s: float | None = None


def edits(reference: str, text: str, language: str | None) -> Errors:
    """The edits that turn the reference into the text."""
    import jiwer

    found = jiwer.process_words(normalise(reference, language), normalise(text, language))
    words = found.hits + found.substitutions + found.deletions
    return Errors(found.substitutions, found.deletions, found.insertions, words, 1)


def score(clips: list[Clip], transcripts: dict[str, dict]) -> Score:
    """Scores what was transcribed of `clips`."""
    result = Score({subset: Errors() for subset in SUBSETS}, Errors(), 0, [], [])
    for clip in clips:
        line = transcripts.get(clip.file)
        if line is None:
            if clip.reference:
                result.missing.append(clip.file)
            continue
        if line.get("error"):
            result.failed.append(clip.file)
        if clip.subset == NON_SPEECH:
            result.non_speech_words += len(_normalisers()[1](line["text"]).split())
            continue
        if not clip.reference:
            continue
        errors = edits(clip.reference, line["text"], clip.language)
        result.subsets.setdefault(clip.subset, Errors()).add(errors)
        result.all.add(errors)
        texts = normalise(clip.reference, clip.language), normalise(line["text"], clip.language)
        result.per_clip.append((clip, errors, *texts))
    result.cpu_s_per_audio_s = _cost(clips, transcripts)
    return result


def _cost(clips: list[Clip], transcripts: dict[str, dict]) -> float | None:
    """CPU seconds for a second of audio: of each clip, or of the processes that did several."""
    runs, cpu_s, audio_s = {}, 0.0, 0.0
    for clip in clips:
        line = transcripts.get(clip.file, {})
        if "run" in line:
            runs[line["run"]["id"]] = line["run"]
        elif line.get("seconds_cpu"):
            cpu_s += line["seconds_cpu"]
            audio_s += clip.seconds
    cpu_s += sum(run["seconds_cpu"] for run in runs.values())
    audio_s += sum(run["seconds_audio"] for run in runs.values())
    return cpu_s / audio_s if audio_s else None


def bare(text: str) -> str:
    """Text without any space: engines differ in the space between segments only."""
    return "".join(text.split())


def differing(clips: list[Clip], first: dict[str, dict], second: dict[str, dict]) -> tuple[list[Clip], list[Clip]]:
    """The clips that both transcribed, and those of them whose texts differ in more than space."""
    both = [clip for clip in clips if clip.file in first and clip.file in second]
    return both, [clip for clip in both if bare(first[clip.file]["text"]) != bare(second[clip.file]["text"])]


def is_sampled(line: dict) -> bool:
    """Whether any segment fell back to a temperature above 0, where texts are drawn by chance."""
    return any(len(segment) > 4 and segment[4] > 0 for segment in line["segments"])


def table(rows: list[tuple[str, Score]]) -> str:
    """A Markdown table, a row for each engine."""
    heads = ["engine", *SUBSETS, "all", "S/D/I", "clips", "words on non-speech", "CPU s per audio s", "missing", "failed"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, found in rows:
        errors = [found.subsets.get(subset, Errors()) for subset in SUBSETS] + [found.all]
        cells = [name] + [f"{e.percent:.2f} ({e.edits}/{e.words})" if e.words else "–" for e in errors]
        cells.append(f"{found.all.substitutions}/{found.all.deletions}/{found.all.insertions}")
        cells += [str(found.all.clips), str(found.non_speech_words)]
        cells.append("–" if found.cpu_s_per_audio_s is None else f"{found.cpu_s_per_audio_s:.3f}")
        cells += [str(len(found.missing)), str(len(found.failed))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
