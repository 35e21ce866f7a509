"""Diarization error rate by intervals, without dependencies.

The time of a file is cut at every boundary of reference and hypothesis. In each piece, with `r`
reference and `h` hypothesis speakers of whom `c` are mapped to each other, max(0, r - h) is missed,
max(0, h - r) false alarm and min(r, h) - c confused; all overlap is scored. Speakers are mapped
one to one so that the time they share is longest. `collar` seconds on both sides of each reference
boundary are left out (NIST's sense; pyannote.metrics calls twice of it `collar`).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

Turn = tuple[float, float, str]


def read_rttm(path: Path, uri: str | None = None) -> list[Turn]:
    """Turns of an RTTM file, of one recording if `uri` is given."""
    turns = []
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[0] == "SPEAKER" and uri in (None, fields[1]):
            start, duration = float(fields[3]), float(fields[4])
            if duration > 0:
                turns.append((start, start + duration, fields[7]))
    return turns


def read_uem(path: Path) -> tuple[float, float] | None:
    """The stretch that is scored."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            fields = line.split()
            if len(fields) >= 4:
                return float(fields[2]), float(fields[3])
    return None


def score(
    reference: list[Turn], hypothesis: list[Turn], span: tuple[float, float], collar: float = 0.0
) -> dict[str, float]:
    """Seconds of reference speech (`total`), `miss`, `false_alarm` and `confusion`."""
    pieces = _pieces(reference, hypothesis, span, collar)
    mapped = set(_assign(_shared(pieces)))
    sums = dict(total=0.0, miss=0.0, false_alarm=0.0, confusion=0.0)
    for length, ours, theirs in pieces:
        correct = sum((a, b) in mapped for a in ours for b in theirs)
        sums["total"] += length * len(ours)
        sums["miss"] += length * max(0, len(ours) - len(theirs))
        sums["false_alarm"] += length * max(0, len(theirs) - len(ours))
        sums["confusion"] += length * (min(len(ours), len(theirs)) - correct)
    return sums


def detection(reference: list[Turn], regions: list[tuple[float, float]], span: tuple[float, float]) -> dict[str, float]:
    """The same for speech of anybody."""
    union = _support([(start, end, "speech") for start, end, _ in reference])
    return score(union, [(start, end, "speech") for start, end in regions], span)


def mapping(reference: list[Turn], hypothesis: list[Turn]) -> list[tuple[str, str]]:
    """Which speaker of the reference each of the hypothesis is."""
    end = max((turn[1] for turn in reference + hypothesis), default=0.0)
    return _assign(_shared(_pieces(reference, hypothesis, (0.0, end), 0.0)))


def rate(sums: dict[str, float]) -> float:
    """The error rate in percent."""
    wrong = sums["miss"] + sums["false_alarm"] + sums["confusion"]
    return 100 * wrong / max(sums["total"], 1e-9)


def add(total: dict[str, float], sums: dict[str, float]) -> None:
    """Adds up files."""
    for key, value in sums.items():
        total[key] = total.get(key, 0.0) + value


def _shared(pieces) -> dict[tuple[str, str], float]:
    shared: dict[tuple[str, str], float] = defaultdict(float)
    for length, ours, theirs in pieces:
        for a in ours:
            for b in theirs:
                shared[a, b] += length
    return shared


def _pieces(reference, hypothesis, span, collar):
    reference = _support(reference)
    hypothesis = _support(hypothesis)
    out = []
    if collar > 0:
        out = [(t - collar, t + collar) for start, end, _ in reference for t in (start, end)]
    times = {span[0], span[1]}
    for start, end, _ in reference + hypothesis:
        times.update((start, end))
    for start, end in out:
        times.update((start, end))
    cuts = sorted(t for t in times if span[0] <= t <= span[1])
    events: dict[float, list] = defaultdict(list)
    for side, turns in ((0, reference), (1, hypothesis), (2, [(a, b, "") for a, b in out])):
        for start, end, label in turns:
            start, end = max(start, span[0]), min(end, span[1])
            if end > start:
                events[start].append((side, label, 1))
                events[end].append((side, label, -1))
    active: tuple[dict, dict, dict] = ({}, {}, {})
    pieces = []
    for at, until in zip(cuts, cuts[1:]):
        for side, label, change in events[at]:
            count = active[side].get(label, 0) + change
            if count:
                active[side][label] = count
            else:
                active[side].pop(label, None)
        if not active[2] and (active[0] or active[1]):
            pieces.append((until - at, tuple(active[0]), tuple(active[1])))
    return pieces


def _support(turns: list[Turn]) -> list[Turn]:
    """Turns of one speaker that touch are one."""
    merged: list[list] = []
    for start, end, label in sorted(turns, key=lambda turn: (turn[2], turn[0])):
        if merged and merged[-1][2] == label and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end, label])
    return [tuple(turn) for turn in merged]


def _assign(shared: dict[tuple[str, str], float]) -> list[tuple[str, str]]:
    """The one-to-one mapping with the longest shared time (Hungarian method)."""
    rows = sorted({a for a, _ in shared})
    columns = sorted({b for _, b in shared})
    if not rows:
        return []
    if len(rows) > len(columns):
        flipped = {(b, a): value for (a, b), value in shared.items()}
        return [(a, b) for b, a in _assign(flipped)]
    n, m = len(rows), len(columns)
    u, v, match, way = [0.0] * (n + 1), [0.0] * (m + 1), [0] * (m + 1), [0] * (m + 1)
    for i in range(1, n + 1):
        match[0], column = i, 0
        least, seen = [float("inf")] * (m + 1), [False] * (m + 1)
        while match[column]:
            seen[column] = True
            row, delta, following = match[column], float("inf"), 0
            for j in range(1, m + 1):
                if seen[j]:
                    continue
                cost = -shared.get((rows[row - 1], columns[j - 1]), 0.0) - u[row] - v[j]
                if cost < least[j]:
                    least[j], way[j] = cost, column
                if least[j] < delta:
                    delta, following = least[j], j
            for j in range(m + 1):
                if seen[j]:
                    u[match[j]] += delta
                    v[j] -= delta
                else:
                    least[j] -= delta
            column = following
        while column:
            match[column] = match[way[column]]
            column = way[column]
    return [(rows[match[j] - 1], columns[j - 1]) for j in range(1, m + 1) if match[j]]
