"""A picture of turns: a row for each speaker of the reference, with the engine's speaker below it."""

from __future__ import annotations

from html import escape

from . import der

WIDTH, LEFT, ROW, GAP = 960, 150, 16, 10
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def draw(title: str, reference: list[der.Turn], found: list[der.Turn], span: tuple[float, float]) -> str:
    """The picture as SVG; speakers that are mapped to each other share a colour."""
    mapped = dict(der.mapping(reference, found))
    ours = sorted({turn[2] for turn in reference})
    rest = [name for name in sorted({turn[2] for turn in found}) if name not in mapped.values()]
    rows, height = [], 34
    for index, name in enumerate(ours):
        colour = COLOURS[index % len(COLOURS)]
        height = _row(rows, height, f"reference {name}", [t for t in reference if t[2] == name], span, colour)
        theirs = [t for t in found if t[2] == mapped.get(name)]
        height = _row(rows, height, f"Echo {mapped.get(name, '–')}", theirs, span, colour, 0.55) + GAP
    for name in rest:
        height = _row(rows, height, f"Echo {name}", [t for t in found if t[2] == name], span, "#000000", 0.4) + GAP
    marks = [_mark(second, span, height) for second in range(0, int(span[1]) + 1, 10) if second >= span[0]]
    body = "\n".join([*marks, *rows])
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 20}" font-family="sans-serif" '
            f'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n'
            f'<text x="8" y="18" font-size="13">{escape(title)}</text>\n{body}\n</svg>\n')


def _x(time: float, span: tuple[float, float]) -> float:
    return LEFT + (WIDTH - LEFT - 10) * (time - span[0]) / (span[1] - span[0])


def _row(rows, top, label, turns, span, colour, opacity=1.0) -> int:
    rows.append(f'<text x="8" y="{top + 12}">{escape(label)}</text>')
    for start, end, _ in turns:
        x = _x(max(start, span[0]), span)
        width = max(0.5, _x(min(end, span[1]), span) - x)
        rows.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 3}" fill="{colour}" opacity="{opacity}"/>')
    return top + ROW


def _mark(second: int, span, bottom: int) -> str:
    x = _x(second, span)
    return (f'<line x1="{x:.1f}" x2="{x:.1f}" y1="28" y2="{bottom}" stroke="#dddddd"/>'
            f'<text x="{x:.1f}" y="{bottom + 12}" text-anchor="middle" fill="#666666">{second} s</text>')
