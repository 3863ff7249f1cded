"""Bodies with invalid characters, made readable: a character is lost, not a batch.

JavaScript cuts text in the middle of a pair of surrogates and writes the half as an escape; clients in C and Go
put bytes into strings that are not UTF-8. An exporter does not repeat a body that was answered with 400, so each of
these would lose all its spans. An invalid character becomes U+FFFD. Only bodies that could not be read come here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import Descriptor

from server.ingest.otlp import wire_format
from server.ingest.otlp.message_shape import shape_of

_ESCAPE: Final = re.compile(rb"\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|.)", re.DOTALL)

_DEEPEST: Final = 100


def repaired_json(body: bytes) -> bytes:
    """Return JSON text without halves of surrogate pairs and in valid UTF-8."""
    text = body if _is_utf8(body) else body.decode("utf-8", "replace").encode()
    return _ESCAPE.sub(_whole_escape, text)


def _whole_escape(found: re.Match[bytes]) -> bytes:
    first, second = found[1], found[2]
    if first is None:
        return found[0]
    is_high = 0xD800 <= int(first, 16) < 0xDC00
    is_low = 0xDC00 <= int(first, 16) < 0xE000
    if is_high and second is not None:
        return found[0]
    escape = b"\\ufffd" if is_high or is_low else b"\\u" + first
    return escape if second is None else escape + b"\\ufffd"


def repaired_message(data: bytes, kind: Descriptor) -> bytes:
    """Return a serialised message of the type ``kind`` whose strings are UTF-8. Raises Unreadable."""
    return b"".join(_repaired(data, 0, len(data), kind, 0))


def _repaired(data: bytes, start: int, end: int, kind: Descriptor, depth: int) -> Iterator[bytes]:
    shape = shape_of(kind)
    at = start
    for number, wire_type, value_start, value_end in wire_format.fields(data, start, end):
        value: bytes | None = None
        if wire_type == wire_format.LENGTH and number in shape.strings:
            value = data[value_start:value_end].decode("utf-8", "replace").encode()
        elif wire_type == wire_format.LENGTH and number in shape.messages and depth < _DEEPEST:
            value = b"".join(_repaired(data, value_start, value_end, shape.messages[number], depth + 1))
        if value is None:
            yield data[at:value_end]
        else:
            yield (
                wire_format.write_varint(number << 3 | wire_format.LENGTH)
                + wire_format.write_varint(len(value))
                + value
            )
        at = value_end


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
