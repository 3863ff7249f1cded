"""The protobuf wire format, as far as splitting a request into its spans needs it.

Spans are found here without parsing them, so that their number and size are known before
any memory is spent, and so that only one parsed protobuf message lives at a time.
Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

from server.ingest.otlp.payload import Unreadable

VARINT, FIXED64, LENGTH, GROUP_START, GROUP_END, FIXED32 = range(6)
_MAX_GROUP_DEPTH = 50


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the varint at ``at`` and the offset after it. Raises Unreadable beyond ``end`` or ten bytes."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift >= 70:
            break
    raise Unreadable("the protobuf body is cut or has an overlong number")


def write_varint(number: int) -> bytes:
    """Return ``number``, which is not negative, as a varint."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field of a message as ``(number, wire type, start, end)`` of its value."""
    while at < end:
        tag = data[at]
        if tag < 0x80:
            at += 1
        else:
            tag, at = read_varint(data, at, end)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise Unreadable("the protobuf body has field number 0")
        if wire_type == LENGTH:
            size, start = read_varint(data, at, end)
            at = start + size
        else:
            start = at
            at = _skip(data, at, end, number, wire_type, 0)
        if at > end:
            raise Unreadable("the protobuf body is cut")
        yield number, wire_type, start, at


def messages(data: bytes, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each sub-message with field number ``wanted``; others are skipped."""
    for number, wire_type, start, stop in fields(data, at, end):
        if number == wanted:
            if wire_type != LENGTH:
                raise Unreadable(f"protobuf field {wanted} has the wrong wire type")
            yield start, stop


def _skip(data: bytes, at: int, end: int, number: int, wire_type: int, depth: int) -> int:
    if wire_type == VARINT:
        return read_varint(data, at, end)[1]
    if wire_type == FIXED64:
        return at + 8
    if wire_type == FIXED32:
        return at + 4
    if wire_type == GROUP_START and depth < _MAX_GROUP_DEPTH:
        while at < end:
            tag, at = read_varint(data, at, end)
            inner_number, inner_type = tag >> 3, tag & 7
            if inner_type == GROUP_END and inner_number == number:
                return at
            if inner_type == LENGTH:
                size, at = read_varint(data, at, end)
                at += size
            else:
                at = _skip(data, at, end, inner_number, inner_type, depth + 1)
    raise Unreadable("the protobuf body has a wrong wire type or an open group")
