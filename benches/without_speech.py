#!/usr/bin/env python3
"""Words that Echo writes where nobody speaks: ten minutes each of silence, noise and music.

    without_speech.py --model PATH [--echo PATH] [--options TEXT] [--work DIR] [RECORDING...]

Silence, noise (white, pink, brown, now louder, now softer) and music (chords, bass, a melody with vibrato, drums) are
made here, the same each time; a recording without speech is repeated until it fills ten minutes (by ffmpeg). A row
counts the words written. Needs numpy.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np

from echo_bench.process import find_program, run_measured

RATE_HZ = 16_000
SECONDS = 600
BEAT_S = 0.5
CHORDS = [(57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62), (50, 53, 57), (52, 56, 59)]  # MIDI notes
SCALE = [0, 2, 3, 5, 7, 8, 10]  # semitones above A


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, nargs="*", metavar="RECORDING")
    parser.add_argument("--model", type=Path, required=True, metavar="PATH", help="a model's folder or file")
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    parser.add_argument("--options", default="", metavar="TEXT", help="more options of echo-asr, as one text")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep what is made here")
    arguments = parser.parse_args()
    program = find_program("echo-asr", arguments.echo)
    made = {"silence": silence, "noise": noise, "music": music}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| ten minutes of | words | CPU s |\n|---|---|---|")
        for name, make in made.items():
            path = folder / f"{name}.wav"
            if not path.exists():
                write_wav(path, make(np.random.default_rng(1)))
            print_row(name, path, program, arguments)
        for number, recording in enumerate(arguments.recordings):
            path = folder / f"repeated-{number}-{recording.stem}.wav"
            if not path.exists():
                line = ["ffmpeg", "-nostdin", "-v", "error", "-stream_loop", "-1", "-i", recording, "-t", str(SECONDS)]
                subprocess.run([*line, "-ac", "1", "-ar", str(RATE_HZ), path], check=True)
            print_row(recording.name, path, program, arguments)


def print_row(name: str, path: Path, program: Path, arguments: argparse.Namespace) -> None:
    line = [program, "transcribe", "--offline", "--quiet", "--device", "cpu", "--model", arguments.model]
    measured = run_measured([*line, *shlex.split(arguments.options), "-f", "json", "-o", "-", path])
    if measured.exit_code != 0:
        sys.exit(f"error: {program.name} ended with {measured.exit_code}: {measured.stderr[-2000:]}")
    words = [word for segment in json.loads(measured.stdout)["segments"] for word in segment["text"].split()]
    print(f"| {name} | {len(words)} {' '.join(words[:20])} | {measured.cpu_s:.1f} |", flush=True)


def silence(_random: np.random.Generator) -> np.ndarray:
    return np.zeros(SECONDS * RATE_HZ)


def noise(random: np.random.Generator) -> np.ndarray:
    """A third each of white, pink and brown noise, whose loudness swells every 37 s."""
    parts = [coloured(random, exponent, SECONDS // 3 * RATE_HZ) for exponent in (0, 0.5, 1)]
    seconds = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    return np.concatenate(parts) * (0.3 + 0.2 * np.sin(2 * np.pi * seconds / 37))


def coloured(random: np.random.Generator, exponent: float, count: int) -> np.ndarray:
    """Noise whose amplitude falls with this power of the frequency, above 20 Hz."""
    spectrum = np.fft.rfft(random.normal(size=count))
    frequency_hz = np.maximum(np.arange(len(spectrum)) * RATE_HZ / count, 20)
    samples = np.fft.irfft(spectrum / frequency_hz**exponent, count)
    return samples / np.abs(samples).max()


def music(random: np.random.Generator) -> np.ndarray:
    out = np.zeros((SECONDS + 4) * RATE_HZ)

    def add(at_s: float, sound: np.ndarray, loudness: float) -> None:
        start = int(at_s * RATE_HZ)
        out[start : start + len(sound)] += loudness * sound

    seconds = np.arange(RATE_HZ // 5) / RATE_HZ
    kick = np.sin(2 * np.pi * (50 * seconds + 8 * (1 - np.exp(-30 * seconds)))) * np.exp(-12 * seconds)
    for beat in range(int(SECONDS / BEAT_S)):
        at_s = beat * BEAT_S
        if beat % 4 == 0:
            chord = CHORDS[beat // 4 % len(CHORDS)]
            for key in chord:
                add(at_s, note(key, 4 * BEAT_S, 7), 0.12)
            add(at_s, note(chord[0] - 12, 4 * BEAT_S, 3), 0.25)
        for half in (0, 1):
            if random.random() < 0.7:
                key = 69 + int(random.choice(SCALE)) + 12 * int(random.random() < 0.2)
                length_s = BEAT_S * float(random.choice([0.5, 1, 2]))
                add(at_s + half * BEAT_S / 2, note(key, length_s, 9, vibrato=1.5), 0.2)
        add(at_s, random.normal(size=len(seconds)) * np.exp(-40 * seconds), 0.3)
        if beat % 2 == 0:
            add(at_s, kick, 0.6)
    out = out[: SECONDS * RATE_HZ]
    return out / np.abs(out).max() / 1.3


def note(key: int, length_s: float, n_harmonics: int, vibrato: float = 0.0) -> np.ndarray:
    """A note of a MIDI key that fades."""
    seconds = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    pitch_hz = 440 * 2 ** ((key - 69) / 12)
    phase = 2 * np.pi * pitch_hz * seconds + vibrato * np.sin(2 * np.pi * 5.5 * seconds)
    harmonics = sum(np.sin(number * phase) / number**1.3 for number in range(1, n_harmonics + 1))
    return harmonics * np.exp(-1.2 * seconds / length_s) * np.minimum(1, 60 * seconds)


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes((np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
