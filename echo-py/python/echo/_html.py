"""How a notebook shows a transcript: speakers in colour, and a player that a click winds to a place."""

from __future__ import annotations

import base64
import html
import mimetypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._transcript import Segment, Transcript

# Longer files would make the notebook itself heavy: it carries the sound with it.
MAX_EMBEDDED_BYTES = 16 << 20
# Okabe and Ito's palette, which people with any colour vision can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def render(transcript: Transcript) -> str:
    """The transcript as HTML that needs nothing from outside."""
    speakers = list(transcript.speakers)
    player = _player(transcript.source)
    rows = "".join(_row(segment, speakers, bool(player)) for segment in transcript.segments)
    about = html.escape(repr(transcript)[1:-1])
    return f'<div class="echo-transcript"><p><small>{about}</small></p>{player}<table>{rows}</table></div>'


def _row(segment: Segment, speakers: list[str], has_player: bool) -> str:
    clock = f"{int(segment.start // 60)}:{segment.start % 60:05.2f}"
    if has_player:
        play = (
            "var a=this.closest('.echo-transcript').querySelector('audio');"
            f"a.currentTime={segment.start:.3f};a.play()"
        )
        clock = f'<a style="cursor:pointer" onclick="{play}">{clock}</a>'
    speaker = ""
    if segment.speaker is not None:
        known = segment.speaker in speakers
        colour = COLOURS[speakers.index(segment.speaker) % len(COLOURS)] if known else "inherit"
        speaker = f'<b style="color:{colour}">{html.escape(segment.speaker)}</b> '
    text = html.escape(segment.text)
    return f'<tr><td>{clock}</td><td style="text-align:left">{speaker}{text}</td></tr>'


def _player(source: str | None) -> str:
    if source is None or not os.path.isfile(source):
        return ""
    if os.path.getsize(source) > MAX_EMBEDDED_BYTES:
        return ""
    kind = mimetypes.guess_type(source)[0] or "audio/wav"
    with open(source, "rb") as file:
        sound = base64.b64encode(file.read()).decode("ascii")
    return f'<audio controls src="data:{html.escape(kind)};base64,{sound}"></audio>'
