"""Thrift's compact protocol, as far as Parquet's footers use it: structs to dictionaries by field number, and back.

Maps, which Parquet does not use, are refused. The library `thrift` takes three times as long, a sixth of the time of an
export; both may go when a writer of pyarrow keeps nothing of what it has written
(docs/decisions/0270-row-groups-are-small-files.md).
"""

from __future__ import annotations

from typing import Any, Final

BINARY, LIST, STRUCT = 8, 9, 12
VARINTS: Final = (4, 5, 6)
"""Types of whole numbers, which are written as varints of their zigzag codes."""

Struct = dict[int, tuple[int, Any]]
"""The type and value of each field: a whole number as ``int``, a list as a pair of the type of its elements and a
``list``, a struct as a ``Struct``, everything else as ``bytes``."""

_STOP: Final = 0
_FIXED: Final = {1: 0, 2: 0, 3: 1, 7: 8, 13: 16}
"""Sizes of values by type: true, false, byte, double, UUID. The type of a field itself says true or false."""
_BOOLEANS: Final = (1, 2)
_SET: Final = 10
_LONG: Final = 15
"""In the header of a list: the number of elements follows, since it needs more than four bits."""


def read_struct(data: bytes, place: int = 0) -> tuple[Struct, int]:
    """Return the struct at ``place``, and where it ends.

    :raises ValueError: it holds a map.
    :raises IndexError: ``data`` ends before it.
    """
    fields: Struct = {}
    number = 0
    while (head := data[place]) != _STOP:
        place += 1
        if head >> 4:
            number += head >> 4
        else:
            code, place = _read_varint(data, place)
            number = _signed(code)
        value, place = _read(data, place, head & 0x0F)
        fields[number] = (head & 0x0F, value)
    return fields, place + 1


def write_struct(fields: Struct) -> bytes:
    """Return ``fields`` in the order of their numbers, with the byte that ends a struct."""
    parts = []
    before = 0
    for number, (kind, value) in sorted(fields.items()):
        parts.append(field_header(number, before, kind))
        parts.append(write_value(kind, value))
        before = number
    parts.append(bytes([_STOP]))
    return b"".join(parts)


def field_header(number: int, before: int, kind: int) -> bytes:
    """Return the header of the field ``number`` of the type ``kind`` after the field ``before``."""
    if number - before <= _LONG:
        return bytes([(number - before) << 4 | kind])
    return bytes([kind]) + _varint(_zigzag(number))


def list_header(kind: int, count: int) -> bytes:
    """Return the header of a list of ``count`` elements of the type ``kind``."""
    if count < _LONG:
        return bytes([count << 4 | kind])
    return bytes([_LONG << 4 | kind]) + _varint(count)


def write_value(kind: int, value: Any) -> bytes:
    """Return ``value`` of the type ``kind``, as :func:`read_struct` gave it."""
    if kind in VARINTS:
        return _varint(_zigzag(value))
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return write_struct(value)
    if kind in (LIST, _SET):
        element, values = value
        return list_header(element, len(values)) + b"".join(write_value(element, item) for item in values)
    return bytes(value)


def _read(data: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind in VARINTS:
        code, place = _read_varint(data, place)
        return _signed(code), place
    if kind == BINARY:
        size, place = _read_varint(data, place)
        return data[place : place + size], place + size
    if kind == STRUCT:
        return read_struct(data, place)
    if kind in (LIST, _SET):
        return _read_list(data, place)
    if kind in _FIXED:
        return data[place : place + _FIXED[kind]], place + _FIXED[kind]
    raise ValueError(f"a value of Thrift's type {kind} at {place}")


def _read_list(data: bytes, place: int) -> tuple[tuple[int, list[Any]], int]:
    head, place = data[place], place + 1
    element, count = head & 0x0F, head >> 4
    if count == _LONG:
        count, place = _read_varint(data, place)
    values = []
    for _ in range(count):
        if element in _BOOLEANS:  # a byte each in a list
            value, place = data[place : place + 1], place + 1
        else:
            value, place = _read(data, place, element)
        values.append(value)
    return (element, values), place


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place


def _varint(number: int) -> bytes:
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _signed(code: int) -> int:
    return code >> 1 ^ -(code & 1)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1
