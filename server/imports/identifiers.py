"""Ids of OpenTelemetry from the ids of other tools: the same id if it fits, else one derived from it, the same every
time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

TRACE_DIGITS: Final = 32
SPAN_DIGITS: Final = 16

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _hex(text: str, digits: int) -> str | None:
    """Read an id in hexadecimal, also with the prefix of MLflow (``tr-``) or of a number (``0x``)."""
    bare = text.removeprefix("tr-").removeprefix("0x")
    return bare.lower() if re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", bare) else None


def _uuid(text: str, digits: int) -> str | None:
    """Read a UUID: the whole is a trace id, and its second half, which is random in every version in use, a span id."""
    return text.replace("-", "").lower()[-digits:] if _UUID.fullmatch(text) else None


def _base64(text: str, digits: int) -> str | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) * 2 == digits else None


FORMS: Final[Mapping[str, Callable[[str, int], str | None]]] = {"hex": _hex, "uuid": _uuid, "base64": _base64}


def identifier(source: Any, digits: int, forms: tuple[str, ...], *, within: str = "") -> str:
    """Return ``source`` read as an id in one of ``forms``, or an id derived from it and ``within`` (its trace)."""
    text = str(source)
    for form in forms:
        found = FORMS[form](text, digits)
        if found is not None and found.strip("0"):
            return found
    return hashlib.sha256(f"{within}\0{text}".encode()).hexdigest()[:digits]
