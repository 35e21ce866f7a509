"""A picture of engines: how fast each is against how often it errs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 560, 64, 150, 64, 52
LINE = 13  # between labels
COLOURS = {"echo": "#cc3311", "fw": "#0077bb", "wcpp": "#009988", "openai": "#777777", "wx": "#ee7733"}
NAMES = {"echo": "Echo", "fw": "faster-whisper", "wcpp": "whisper.cpp", "openai": "openai-whisper", "wx": "WhisperX"}


@dataclass(frozen=True)
class Point:
    """An engine with one model: seconds of audio for a CPU second, and word error rate in per cent."""

    program: str
    model: str
    label: str
    speed: float
    error: float


def draw(title: str, points: list[Point]) -> str:
    """The picture as SVG: faster is to the right, fewer errors is up; each model has a shape of its own."""
    speeds, errors = [point.speed for point in points], [point.error for point in points]
    left, right = math.log2(min(speeds) * 0.85), math.log2(max(speeds) * 1.12)
    low, high = math.floor(min(errors)), math.ceil(max(errors))
    x = lambda speed: LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(speed) - left) / (right - left)
    y = lambda error: TOP + (HEIGHT - TOP - BOTTOM) * (error - low) / (high - low)
    models = list(dict.fromkeys(point.model for point in points))
    parts = [*_axes(x, y, (left, right), (low, high)), *_legend(points, models)]
    taken: list[tuple[float, float, float]] = []
    for point in sorted(points, key=lambda point: (point.error, point.speed)):
        across, down = x(point.speed), y(point.error)
        parts.append(_mark(across, down, models.index(point.model), COLOURS[point.program]))
        parts.append(_label(point, across + 10, down + 4, taken))
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n'
            f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>\n{body}\n</svg>\n')


def _label(point: Point, across: float, down: float, taken: list[tuple[float, float, float]]) -> str:
    """The label, moved down until it is clear of those that are there."""
    width = 6 * len(point.label)
    while any(abs(down - other) < LINE and across < end and start < across + width for start, end, other in taken):
        down += LINE / 4
    taken.append((across, across + width, down))
    return f'<text x="{across:.1f}" y="{down:.1f}" fill="{COLOURS[point.program]}">{escape(point.label)}</text>'


def _mark(across: float, down: float, shape: int, colour: str) -> str:
    if shape == 0:
        return f'<circle cx="{across:.1f}" cy="{down:.1f}" r="5" fill="{colour}"/>'
    if shape == 1:
        return f'<rect x="{across - 5:.1f}" y="{down - 5:.1f}" width="10" height="10" fill="{colour}"/>'
    corners = f"{across:.1f},{down - 6:.1f} {across + 6:.1f},{down + 5:.1f} {across - 6:.1f},{down + 5:.1f}"
    return f'<polygon points="{corners}" fill="{colour}"/>'


def _axes(x, y, speeds: tuple[float, float], errors: tuple[int, int]) -> list[str]:
    parts, bottom = [], HEIGHT - BOTTOM
    for power in range(math.ceil(speeds[0]), math.floor(speeds[1]) + 1):
        across = x(2**power)
        parts.append(f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{TOP}" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(f'<text x="{across:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555555">{2**power}</text>')
    for error in range(errors[0], errors[1] + 1):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(error):.1f}" y2="{y(error):.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(error) + 4:.1f}" text-anchor="end" fill="#555555">{error} %</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">seconds of audio for one CPU second (faster →)</text>')
    parts.append(f'<text x="{-HEIGHT / 2}" y="16" text-anchor="middle" transform="rotate(-90)">word error rate (← worse)</text>')
    return parts


def _legend(points: list[Point], models: list[str]) -> list[str]:
    parts, across = [], LEFT
    for shape, model in enumerate(models):
        parts += [_mark(across + 6, 44, shape, "#333333"), f'<text x="{across + 16}" y="48">{escape(model)}</text>']
        across += 30 + 7 * len(model)
    for program in dict.fromkeys(point.program for point in points):
        name = NAMES[program]
        parts.append(f'<text x="{across + 10}" y="48" font-weight="bold" fill="{COLOURS[program]}">{escape(name)}</text>')
        across += 20 + 7 * len(name)
    return parts
