"""Decoded sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

SAMPLE_RATE_HZ = 16_000
"""The sample rate of every :class:`Audio`."""


class Audio:
    """Sound at 16 kHz, one channel: a source for every transcription that is asked of it.

    Made by :func:`echo.load_audio`. It is a buffer of 32-bit floats by its :attr:`samples`;
    ``numpy.asarray(audio)`` does not copy them.
    """

    __slots__ = ("samples", "warnings")

    samples: memoryview[float]
    """The samples, 16,000 a second, each from -1 to 1: a view of 32-bit floats."""
    warnings: list[str]
    """What was wrong with the source although it could be decoded."""

    def __init__(self, samples: bytes, warnings: list[str] | None = None) -> None:
        self.samples = memoryview(samples).cast("f")
        self.warnings = list(warnings or [])

    @property
    def sample_rate_hz(self) -> int:
        """Always 16,000."""
        return SAMPLE_RATE_HZ

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    def __len__(self) -> int:
        return len(self.samples)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Audio):
            return NotImplemented
        return self.samples == other.samples and self.warnings == other.warnings

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray[Any, Any]:
        import numpy

        samples: numpy.ndarray[Any, Any] = numpy.frombuffer(self.samples, dtype=numpy.float32)
        if dtype is not None and dtype != samples.dtype:
            samples = samples.astype(dtype)
        elif copy:
            samples = samples.copy()
        return samples

    def __reduce__(self) -> tuple[type[Audio], tuple[bytes, list[str]]]:
        return (Audio, (self.samples.tobytes(), self.warnings))

    def __repr__(self) -> str:
        return f"<Audio {self.duration:.2f} s>"
