"""The attributes of one span, sorted by their meaning, and the choice between them.

:class:`SpanFields` gathers candidates for each slot; the mapping then takes the first usable one, in the order of the
alias tables. Each choice is noted in ``sources`` (shown by ``explain``), each unusable value in ``dropped``. Attributes
that no column took stay in ``rest``, which becomes the ``attributes`` column.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

from server.ingest.dialects.attribute_table import (
    EVENT_OFFSET,
    LAST_RANK,
    IndexedKey,
    InsideKey,
    KeyForm,
    TagKey,
    attribute_table,
)
from server.ingest.dialects.name_families import slot_of_name
from server.ingest.messages.coercion import REPLACEMENT, Coerced, cut_text, decode_json, to_text, unquoted
from server.ingest.messages.indexed_messages import IndexedValue
from server.ingest.messages.known_messages import KnownMessages
from server.ingest.messages.object_repr import is_object_repr, read_object_repr
from server.ingest.otlp.payload import Attributes

Candidate = tuple[int, str, Any]
"""Rank, attribute key, value."""

_BY_RANK = itemgetter(0)
_NONE: Sequence[Candidate] = ()

BODY_RANK = EVENT_OFFSET + LAST_RANK
"""Rank of values inside another attribute: after all values with a name of their own."""

_CONTENT_SLOTS = frozenset({"input", "output", "system_instructions", "output_tool_calls"})
"""Slots whose other candidates contain the same words in another form: they are not kept twice."""


_NOTHING = ("", "null", "None", "undefined")
"""Texts in place of a value that the sender does not have. Logfire writes the second where a run has no group."""
_EXPAND_DEPTH = 3
_MOST_MEMBERS = 100
_LITERAL_LENGTH = 4096


def _members(value: Any) -> dict[str, Any] | None:
    """Return the object in a value: structured, as JSON, or as Python writes it (LiteLLM sends such text)."""
    if isinstance(value, str):
        text = value
        value = None if text.startswith("{'") else decode_json(text)
        if value is None and text.startswith("{") and len(text) <= _LITERAL_LENGTH:
            value = _literal(text)
        elif value is None and is_object_repr(text):
            value = read_object_repr(text)
    return value if isinstance(value, dict) else None


def _shared_members(value: Any) -> dict[str, Any] | None:
    """Return the members that are the same in all objects of a list; None for any other value."""
    items = decode_json(value) if isinstance(value, str) and value.startswith("[{") else value
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return None
    first, *others = items
    return {name: member for name, member in first.items() if all(other.get(name) == member for other in others)}


def _literal(text: str) -> Any:
    """Return the value that Python writes as ``text``, None for one that is no literal."""
    if '"' not in text and "\\" not in text:
        # Then each quote begins or ends a text, and what is outside of texts differs from JSON in three words only. To
        # read it as JSON takes a fifth of the time.
        pieces = text.split("'")
        pieces[::2] = [_PYTHON_WORDS.sub(_in_json, piece) for piece in pieces[::2]]
        value = decode_json('"'.join(pieces))
        if value is not None:
            return value
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


_PYTHON_WORDS = re.compile(r"\b(?:None|True|False)\b")


def _in_json(word: re.Match[str]) -> str:
    return "null" if word[0] == "None" else word[0].lower()


def _flattened(key: str, members: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    """Yield ``key.member`` for each member; empty members are left out."""
    for name, member in members.items():
        if isinstance(member, dict) and depth > 1:
            yield from _flattened(f"{key}.{name}", member, depth - 1)
        elif member is not None:
            yield f"{key}.{name}", member


_SCRUBBED = "[Scrubbed due to "
"""The text that Logfire puts in the place of a value that it takes for a secret; ``session.id`` is one of them."""


_MAY_SAY_NOTHING = frozenset('"[nNu')
"""First characters of texts in quotes, scrubbed ones, and those of :data:`_NOTHING`."""


def _said(text: str) -> str:
    """Return the words of a text: without the quotes of JSON that some senders put around it, nothing if it was
    scrubbed or stands for no value.
    """
    if text[0] == '"':
        text = unquoted(text).strip()
    return "" if text in _NOTHING or text.startswith(_SCRUBBED) else text


class IndexedGroup(list[IndexedValue]):
    """All values under one indexed prefix, as one candidate."""


class SpanFields:
    """Candidates for the columns of one span; ``sources`` names, by column, the attribute of its value (or ``resource
    …``, ``event …``).
    """

    __slots__ = ("dropped", "found", "groups", "known", "marks", "replaced", "rest", "sources", "tags")

    def __init__(self, known: KnownMessages | None = None) -> None:
        """``known``: the messages of its project that were met before."""
        self.known = known
        self.found: dict[str, list[Candidate]] = {}
        self.groups: dict[tuple[str, int], IndexedGroup] = {}
        self.rest: Attributes = {}
        self.tags: list[str] = []
        self.marks = 0
        self.sources: dict[str, str] = {}
        self.dropped: dict[str, Any] = {}
        self.replaced = 0

    def collect(self, attributes: Attributes, offset: int = 0) -> None:
        """Sort attributes into slots. ``offset`` is added to their ranks (events: ``EVENT_OFFSET``)."""
        table, found = attribute_table(), self.found
        marks = 0
        for key, value in attributes.items():
            slot, rank, key_marks, form = table[key]
            marks |= key_marks
            if form is not None:
                self._collect_form(form, slot, rank + offset, key, value, offset)
            elif slot is None:
                if not offset:
                    self.rest[key] = value
            elif slot in found:
                found[slot].append((rank + offset, key, value))
            else:
                found[slot] = [(rank + offset, key, value)]
        self.marks |= marks

    def add(self, slot: str, rank: int, key: str, value: Any) -> None:
        """Add one more candidate, from something other than an attribute."""
        self.found.setdefault(slot, []).append((rank, key, value))

    def put_first(self, slot: str, key: str, value: Any) -> None:
        """Put a candidate before all others; the attribute is no longer one of those without a column."""
        self.rest.pop(key, None)
        self.add(slot, -1, key, value)

    def _collect_form(self, form: KeyForm, slot: str | None, rank: int, key: str, value: Any, offset: int) -> None:
        if isinstance(form, IndexedKey):
            self._collect_indexed(slot or "", rank, key, form, value)
        elif isinstance(form, TagKey):
            self.tags.append(f"{form.name}:{to_text(value)}")
        elif isinstance(form, InsideKey):
            self._look_inside(form, slot, rank, key, value, offset)
        else:
            self._expand(key, value, offset)

    def _look_inside(self, form: InsideKey, slot: str | None, rank: int, key: str, value: Any, offset: int) -> None:
        """Add the members of a JSON object that feed slots of their own; the value is unchanged."""
        members = _members(value)
        shared = members if members is not None or not form.members else _shared_members(value)
        for name, member_slot in form.members if shared is not None else ():
            member = shared.get(name) if shared is not None else None
            is_list = isinstance(member, list) and member_slot == "tags"
            if is_list or (isinstance(member, str | int | float) and member != ""):
                self.add(member_slot, BODY_RANK, f"{key} {name}", member)
        if form.has_family and members is not None:
            self._look_for_names(key, members)
        if slot is not None:
            self.add(slot, rank, key, value if members is None else members)
        elif not offset:
            self.rest[key] = value

    def _look_for_names(self, key: str, members: dict[str, Any]) -> None:
        for name, member in islice(members.items(), _MOST_MEMBERS):
            if isinstance(member, str | int) and not isinstance(member, bool) and member != "":
                found = slot_of_name(f"{key}.{name}")
                if found is not None:
                    self.add(found[0], BODY_RANK + found[1], f"{key} {name}", member)

    def _collect_indexed(self, slot: str, rank: int, key: str, path: IndexedKey, value: Any) -> None:
        if value is None:  # an attribute without a value says nothing
            return
        group = self.groups.get((slot, rank))
        if group is None:
            group = self.groups[(slot, rank)] = IndexedGroup()
            self.add(slot, rank, f"{path.prefix}.*", group)
        group.append((path.item, path.rest, value))

    def _expand(self, key: str, value: Any, offset: int) -> None:
        """Add the members of a JSON object as attributes ``key.member``."""
        members = _members(value)
        if members is not None:
            self.collect(dict(_flattened(key, members, _EXPAND_DEPTH)), offset)
        elif not offset:
            self.rest[key] = value

    def candidates(self, slot: str) -> Sequence[Candidate]:
        """Return the candidates of a slot in order of precedence, and count them as used."""
        candidates = self.found.pop(slot, _NONE)
        if len(candidates) > 1:
            return sorted(candidates, key=_BY_RANK)
        return candidates

    def keep(self, candidate: Candidate) -> None:
        """Leave an attribute among the attributes, because its column does not contain all of it."""
        rank, key, value = candidate
        if rank < EVENT_OFFSET and not isinstance(value, IndexedGroup):
            self.rest[key] = value

    def take(self, column: str, slot: str, coerce: Callable[[Any], Coerced]) -> Any:
        """Return the first candidate of ``slot`` that ``coerce`` accepts, or None."""
        candidates = self.candidates(slot)
        if len(candidates) == 1:
            return self._take_only(column, candidates[0], coerce)
        result = None
        chosen: Candidate | None = None
        for candidate in candidates:
            if chosen is not None:
                if candidate[2] != chosen[2]:
                    self.keep(candidate)
                continue
            value, reason = coerce(candidate[2])
            if reason is None:
                result, chosen = value, candidate
                self.sources[column] = candidate[1]
            else:
                self._refuse(column, reason, candidate)
        return result

    def _take_only(self, column: str, candidate: Candidate, coerce: Callable[[Any], Coerced]) -> Any:
        value, reason = coerce(candidate[2])
        if reason is None:
            self.sources[column] = candidate[1]
            return value
        self._refuse(column, reason, candidate)
        return None

    def _refuse(self, column: str, reason: str, candidate: Candidate) -> None:
        if candidate[2] not in _NOTHING:
            self.drop(column, reason)
        self.keep(candidate)

    def take_text(self, column: str, slot: str, limit: int) -> str | None:
        """Return the first candidate of ``slot`` that is a text with something in it, cut to ``limit`` bytes."""
        candidates: Sequence[Candidate] | None = self.found.pop(slot, None)
        if candidates is None:
            return None
        if len(candidates) > 1:
            candidates = sorted(candidates, key=_BY_RANK)
        for candidate in candidates:
            value = candidate[2]
            text = value.strip() if isinstance(value, str) else to_text(value).strip()
            if text and text[0] in _MAY_SAY_NOTHING:
                text = _said(text)
            if len(text) * 4 > limit or "\0" in text:
                text = self.clean(column, text, limit)
            if text:
                self.sources[column] = candidate[1]
                if len(candidates) > 1:
                    self._keep_others(candidates, candidate)
                return text
        return None

    def _keep_others(self, candidates: Sequence[Candidate], chosen: Candidate) -> None:
        """Leave candidates after ``chosen`` with another value among the attributes."""
        for other in candidates[candidates.index(chosen) + 1 :]:
            if other[2] != chosen[2]:
                self.keep(other)

    def clean(self, column: str, text: str, limit: int) -> str:
        """Return ``text`` without NUL and within ``limit`` bytes, and note the changes."""
        if "\0" in text:
            self.replaced += text.count("\0")
            text = text.replace("\0", REPLACEMENT)
        if len(text) * 4 > limit:
            text, original = cut_text(text, limit)
            if original is not None:
                self.dropped[column] = {"original_length": original}
        return text

    def drop(self, column: str, reason: str) -> None:
        """Note that a value for ``column`` was not used; the first reason stays."""
        self.dropped.setdefault(column, {"reason": reason})

    def finish(self) -> None:
        """Leave attributes of slots that nobody read among the attributes."""
        for slot, candidates in self.found.items():
            if slot not in _CONTENT_SLOTS:
                for candidate in candidates:
                    self.keep(candidate)
