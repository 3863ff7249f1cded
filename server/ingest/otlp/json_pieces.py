"""Large OTLP JSON bodies, counted before they are parsed, and parsed piece by piece.

A JSON parser builds a whole document in one call, and nothing else in the process runs until it is done: a tenth of a
second for two kilobytes of gzip that hold hundreds of thousands of empty objects. numpy finds the brackets outside of
strings in a fifth of that time and lets others run meanwhile. They tell how many resources and scopes there are, and
where each span begins and ends, so that no call of the parser builds more than a span, or some small ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from server.ingest.otlp.payload import DecodeLimits, TooLarge, Unreadable
from server.ingest.otlp.repair import repaired_json

Ints = NDArray[np.int64]
Piece = tuple[int, int]
"""Start and end in the body."""

SMALL_BYTES: Final = 256 * 1024
"""Most bytes parsed at once, in about three milliseconds, ten at worst; an outline would cost as much again."""
QUICK_BYTES, QUICK_MARKS = 1 << 20, 64_000
"""A body of so many bytes, with so few brackets and commas, is parsed at once, too: in some three milliseconds. That is
the usual traffic, a few hundred spans with long texts; to count takes a fifth of the time of an outline."""
_BRACKETS_PER_VALUE: Final = 4
"""The most that a value needs: its pair, itself, and the list in it with its list of items."""
_RESOURCE_DEPTH, _SCOPE_DEPTH, _ITEM_DEPTH = 3, 5, 7
_HEAD_PART: Final = 5
"""A resource without its items may have so many times the fields of an item: its scopes."""
_MARK: Final = ""
_QUOTE, _BACKSLASH, _COMMA, _BRACE, _END_BRACE = b'"\\,{}'


@dataclass(frozen=True, slots=True)
class Path:
    """The names of the three lists: of resources, of their scopes, and of the items of these."""

    resources: str
    scopes: str
    items: str


def loaded(body: bytes) -> Any:
    """Return the JSON document; characters that are none are replaced where they make it unreadable.

    Raises Unreadable.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return orjson.loads(repaired_json(body))
    except orjson.JSONDecodeError as error:
        raise Unreadable("the body is not valid JSON") from error


def load(body: bytes, path: Path, limits: DecodeLimits) -> Any:
    """Return the JSON document, like :func:`loaded`. Raises TooLarge where its outline passes a limit."""
    if len(body) <= SMALL_BYTES or (len(body) <= QUICK_BYTES and _marks(body) <= QUICK_MARKS):
        return loaded(body)
    outline = _Outline(body, limits.max_values)
    resources = outline.items(_RESOURCE_DEPTH)
    if len(resources) + outline.count_items(_SCOPE_DEPTH) > limits.max_groups:
        raise TooLarge(f"the request has more than {limits.max_groups} resources and scopes")
    document = loaded(outline.rest((0, len(body)), resources, limits.max_fields_per_span))
    if isinstance(document, dict) and isinstance(document.get(path.resources), list):
        parts = _Parts(outline, path, limits)
        found = parts.resources(resources)
        document[path.resources] = [_restored(item, found) for item in document[path.resources]]
    return document


class _Parts:
    """Reads the resources of a document."""

    def __init__(self, outline: _Outline, path: Path, limits: DecodeLimits) -> None:
        self._outline = outline
        self._path = path
        self._limits = limits
        self._items = outline.items(_ITEM_DEPTH)

    def resources(self, pieces: Ints) -> list[Any]:
        """Return the resources, small ones parsed together."""
        found: list[Any] = []
        for group in _groups(pieces):
            if len(group) == 1 and group[0][1] - group[0][0] > SMALL_BYTES:
                found.append(self._large(group[0]))
            else:
                found += self._parsed(group)
        return found

    def _large(self, piece: Piece) -> Any:
        """Return a resource whose items are parsed apart."""
        first, last = np.searchsorted(self._items[:, 0], piece)
        items = self._items[first:last]
        name = self._path.items
        if len(items) > self._limits.max_spans:
            raise TooLarge(f"the request has more than {self._limits.max_spans} {name}")
        resource = loaded(self._outline.rest(piece, items, _HEAD_PART * self._limits.max_fields_per_span))
        found = [item for group in _groups(items) for item in self._parsed(group)]
        scopes = resource.get(self._path.scopes)
        for scope in scopes if isinstance(scopes, list) else ():
            if isinstance(scope, dict) and isinstance(scope.get(name), list):
                scope[name] = [_restored(item, found) for item in scope[name]]
        return resource

    def _parsed(self, group: Sequence[Piece]) -> list[Any]:
        most, body = self._limits.max_fields_per_span, self._outline.body
        for start, end in group:
            if end - start > SMALL_BYTES and self._outline.separators(start, end) > most:
                raise TooLarge(f"one of {self._path.items} has more than {most} fields")
        found: list[Any] = loaded(b"[" + b",".join([body[start:end] for start, end in group]) + b"]")
        return found


class _Outline:
    """The brackets of a body outside of strings."""

    def __init__(self, body: bytes, most_values: int) -> None:
        """Raises TooLarge if there are far more values, and Unreadable if the brackets do not match."""
        self.body = body
        found = np.frombuffer(body, np.uint8)
        inside = _inside_strings(body, found)
        both = found | 0x20  # a square bracket becomes a curly one
        brackets = ((both == _BRACE) | (both == _END_BRACE)) & ~inside
        if np.count_nonzero(brackets) > 2 * _BRACKETS_PER_VALUE * most_values:
            raise TooLarge(f"the request has far more than {most_values} values")
        self._separators = brackets | ((found == _COMMA) & ~inside)
        self._positions: Ints = np.flatnonzero(brackets)
        kinds = found[self._positions]
        self._is_object = (kinds == _BRACE) | (kinds == _END_BRACE)
        self._opens = (kinds | 0x20) == _BRACE
        self._depths = np.cumsum(self._opens.astype(np.int8) * 2 - 1, dtype=np.int32)
        """After each bracket."""
        if not len(self._depths) or self._depths[-1] != 0 or self._depths.min() < 0:
            raise Unreadable("the body is not valid JSON")

    def items(self, depth: int) -> Ints:
        """Return start and end of each object at this depth that is an item of a list."""
        opens = self._item_openings(depth)
        closings = np.flatnonzero(~self._opens & (self._depths == depth - 1))
        ends = closings[np.searchsorted(closings, opens)]
        return np.stack([self._positions[opens], self._positions[ends] + 1], axis=1)

    def count_items(self, depth: int) -> int:
        """Return the number of such objects."""
        return len(self._item_openings(depth))

    def _item_openings(self, depth: int) -> Ints:
        """Return the places of their openings among the brackets: in a list, in an object, that is such an item itself
        or the document.
        """
        opens: Ints = np.flatnonzero(self._opens & self._is_object & (self._depths == depth))
        lists = self._around(opens, depth - 1)
        is_item = ~self._is_object[lists]
        if depth > _RESOURCE_DEPTH:
            outer, objects = self._item_openings(depth - 2), self._around(lists, depth - 2)
            places = np.searchsorted(outer, objects)
            is_item &= np.append(outer, -1)[places] == objects
        items: Ints = opens[is_item]
        return items

    def _around(self, places: Ints, depth: int) -> Ints:
        """Return the last opening at ``depth`` before each of ``places``, which are deeper."""
        openings = np.flatnonzero(self._opens & (self._depths == depth))
        return openings[np.searchsorted(openings, places) - 1] if len(places) else places

    def separators(self, start: int, end: int) -> int:
        """Return the number of brackets and commas: about that of fields in protobuf."""
        return int(np.count_nonzero(self._separators[start:end]))

    def rest(self, whole: Piece, pieces: Ints, most_fields: int) -> bytes:
        """Return what is in ``whole`` around the pieces, with a mark in the place of each.

        Raises TooLarge where it still has more fields.
        """
        found = b"".join(_without(self.body, whole, pieces))
        if len(found) > SMALL_BYTES:
            fields = self.separators(*whole) - sum(self.separators(start, end) for start, end in pieces.tolist())
            if fields > most_fields:
                raise TooLarge(f"the resources and scopes of the request have more than {most_fields} fields")
        return found


def _marks(body: bytes) -> int:
    """Return the number of bytes that could begin a value, also in strings."""
    return body.count(b"{") + body.count(b"[") + body.count(b",")


def _inside_strings(body: bytes, found: NDArray[np.uint8]) -> NDArray[np.bool_]:
    quotes = found == _QUOTE
    if b"\\" in body:
        slashes = np.flatnonzero(found == _BACKSLASH)
        begins = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
        lengths = np.diff(begins, append=len(slashes))
        after = slashes[begins] + lengths
        escaped = after[(lengths % 2 == 1) & (after < len(found))]
        quotes[escaped] = False
    inside = np.cumsum(quotes, dtype=np.uint8) & 1  # a number of quotes modulo 256 is as odd as the number
    return inside.astype(np.bool_)


def _groups(pieces: Ints) -> Iterator[list[Piece]]:
    """Give ``pieces`` in order, so many at a time as are small together."""
    group: list[Piece] = []
    size = 0
    for start, end in pieces.tolist():
        if group and size + end - start > SMALL_BYTES:
            yield group
            group, size = [], 0
        group.append((start, end))
        size += end - start
    if group:
        yield group


def _without(body: bytes, whole: Piece, pieces: Ints) -> Iterator[bytes]:
    """Give what is in ``whole`` around the pieces, and a mark with its number in the place of each."""
    at = whole[0]
    for number, (start, end) in enumerate(pieces.tolist()):
        yield body[at:start]
        yield b'{"%b":%d}' % (_MARK.encode(), number)
        at = end
    yield body[at : whole[1]]


def _restored(item: Any, found: Sequence[Any]) -> Any:
    """Return what ``item`` stands for. All objects at its place were cut out, so an object is a mark."""
    return found[item[_MARK]] if isinstance(item, dict) else item
