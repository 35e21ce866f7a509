"""WhisperX's names for telling speakers apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import diarize as _diarize
from ..._audio import SAMPLE_RATE_HZ
from ..._errors import OptionError
from ..._transcript import Turn

if TYPE_CHECKING:
    import pandas

__all__ = ["DiarizationPipeline", "assign_word_speakers"]


# What WhisperX takes if no model is named is one of them, but asks for a token: it has to be named here.
_MODELS = ("campplus", "cam++", "community-1", "pyannote/speaker-diarization-community-1")


class DiarizationPipeline:
    """Tells speakers apart. Its networks are loaded by each call.

    ``model_name`` may be ``pyannote/speaker-diarization-community-1``, which is downloaded with the token in
    ``HF_TOKEN``; without it no token is needed.
    """

    def __init__(
        self,
        model_name: str | None = None,
        token: str | None = None,
        device: object = "cpu",
        cache_dir: str | None = None,
        use_auth_token: str | bool | None = None,
    ) -> None:
        if model_name is not None and model_name not in _MODELS:
            expected = ", ".join(_MODELS)
            raise OptionError(f"option `model_name` is {model_name!r}, expected None, {expected}")
        self._model = model_name
        self._cache = cache_dir

    def __call__(
        self,
        audio: Any,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        return_embeddings: bool = False,
    ) -> Any:
        """A table of turns; with ``return_embeddings`` also a vector for each speaker."""
        import pandas

        transcript = _diarize(
            audio,
            sample_rate_hz=SAMPLE_RATE_HZ if hasattr(audio, "__array__") else None,
            model=self._model,
            cache=self._cache,
            min_speakers=num_speakers or min_speakers,
            max_speakers=num_speakers or max_speakers,
        )
        rows = [
            {"segment": turn, "label": index, "speaker": turn.speaker, "start": turn.start, "end": turn.end}
            for index, turn in enumerate(transcript.turns)
        ]
        columns = ["segment", "label", "speaker", "start", "end"]
        table = pandas.DataFrame(rows, columns=columns)
        return (table, transcript.speaker_embeddings) if return_embeddings else table


def assign_word_speakers(
    diarize_df: pandas.DataFrame,
    transcript_result: dict[str, Any],
    speaker_embeddings: dict[str, list[float]] | None = None,
    fill_nearest: bool = False,
) -> dict[str, Any]:
    """Gives each segment and word the speaker who shares most time with it.

    With ``fill_nearest`` also those that nobody shares time with: the speaker whose turn is nearest.
    """
    turns = [Turn(row.start, row.end, row.speaker) for row in diarize_df.itertuples()]
    for segment in transcript_result["segments"]:
        for part in [segment, *segment.get("words", [])]:
            speaker = _speaker(turns, part["start"], part["end"], fill_nearest)
            if speaker is not None:
                part["speaker"] = speaker
    if speaker_embeddings is not None:
        transcript_result["speaker_embeddings"] = speaker_embeddings
    return transcript_result


def _speaker(turns: list[Turn], start: float, end: float, fill_nearest: bool) -> str | None:
    shared: dict[str, float] = {}
    for turn in turns:
        seconds = min(turn.end, end) - max(turn.start, start)
        if seconds > 0 or fill_nearest:
            # Where nobody shares time, the least distance is the largest of negative numbers.
            best = shared.get(turn.speaker)
            if seconds > 0:
                shared[turn.speaker] = max(best or 0.0, 0.0) + seconds
            elif best is None or best < seconds:
                shared[turn.speaker] = seconds
    return max(shared, key=lambda speaker: shared[speaker]) if shared else None
