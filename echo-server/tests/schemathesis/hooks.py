"""What OpenAPI cannot say of Echo's interface: what sound is, and which options contradict each other."""

import base64
import json
import struct
import uuid

import schemathesis
from hypothesis import strategies as st


def wav(samples: bytes) -> bytes:
    """A recording of 8 kHz mono with these 8-bit samples."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    data = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(data)) + data


def cursor(at_ms: int, job_id: object) -> str:
    return base64.urlsafe_b64encode(f"{at_ms} {job_id}".encode()).decode().rstrip("=")


SOUND = st.binary(max_size=64).map(wav)
schemathesis.openapi.format("binary", SOUND)
schemathesis.openapi.media_type("application/octet-stream", SOUND)
# Pieces of a file may be any bytes, but for none.
schemathesis.openapi.media_type("application/offset+octet-stream", st.binary(min_size=1, max_size=64))
schemathesis.openapi.format("cursor", st.builds(cursor, st.integers(0, 2**42), st.uuids()))
# Of a domain that never exists, so that nobody is asked (RFC 2606).
schemathesis.openapi.format("uri", st.from_regex(r"https://[a-z]{1,8}\.invalid/[a-z0-9]{0,8}", fullmatch=True))


@schemathesis.hook
def map_case(context, case):
    """Gives every request an idempotency key of its own: the same one stands for the same request."""
    if case.meta.generation.mode.is_positive and "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    return case


@schemathesis.hook
def filter_case(context, case) -> bool:
    """Whether no two fields of a request contradict each other."""
    query = case.query or {}
    if "cursor" in query and "page" in query or "profile" in query and query.get("format", "json") != "json":
        return False
    if not isinstance(case.body, dict):
        return True
    # A scheme alone fits the pattern, and is no address.
    if case.meta.generation.mode.is_positive and case.body.get("callback_url") in ("http://", "https://"):
        return False
    nested = case.body.get("options")
    if isinstance(nested, str):
        try:
            nested = json.loads(nested)
        except ValueError:
            nested = None
    given = [name for name in nested if name in case.body] if isinstance(nested, dict) else []
    return not given and all(consistent(fields) for fields in (case.body, nested) if isinstance(fields, dict))


def consistent(fields: dict) -> bool:
    speakers = [fields.get(f"{kind}_speakers") for kind in ("num", "min", "max")]
    exact, least, most = (count if isinstance(count, int | float) else None for count in speakers)
    if exact is not None and (least is not None or most is not None):
        return False
    if least is not None and most is not None and least > most:
        return False
    vad = fields.get("vad")
    if isinstance(vad, dict):
        onset, offset = vad.get("onset", 0.5), vad.get("offset", 0.35)
        if isinstance(onset, int | float) and isinstance(offset, int | float) and offset > onset:
            return False
    response = fields.get("response_format", "json")
    if fields.get("timestamp_granularities[]") and response != "verbose_json":
        return False
    return not fields.get("stream") or response in ("json", "text", "diarized_json")
