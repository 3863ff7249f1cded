"""The alias tables of ``dialects/*.json``, compiled to one dictionary lookup per attribute.

Each dialect file says which attribute feeds which *slot* (a column before coercion); the files' ranks and the order
inside a list define the precedence between attributes that feed the same slot. The meaning of a key is computed once
and cached, so an ordinary span costs one lookup for each of its attributes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from server.ingest.dialects.name_families import holds_members, is_usage_object, slot_of_name
from server.text.remembered import LONGEST

_RANK_STEP = 1000
INDEXED_OFFSET = 500
"""Indexed forms (``llm.input_messages.0…``) win over whole values (``input.value``) at the end of the same dialect's
list, since the whole value was made from them: their rank is the dialect's own, minus this.
"""

EVENT_OFFSET = 1_000_000
"""Added to the rank of an attribute of a span event: the span's own attributes win."""

LAST_RANK = 800_000
"""Rank of what is only read where nothing else says it: members of ``metadata`` and the like."""

FAMILY_OFFSET = 190_000
"""Added to :data:`LAST_RANK` for what only the parts of a name say: after the tables of all dialects."""

_REMEMBERED_KEYS = 20_000

TAG_SLOT = "tag_property"


class IndexedKey(NamedTuple):
    """A key that holds one value of one item of a list: ``llm.input_messages``, 3, ``message.role``."""

    prefix: str
    item: int
    rest: str


class TagKey(NamedTuple):
    """A key whose end is the name of a tag."""

    name: str


class ObjectKey(NamedTuple):
    """A key whose value is a JSON object, the members of which are attributes of their own."""


class InsideKey(NamedTuple):
    """A key whose value is a JSON object, some members of which feed slots; the value itself is read as ever."""

    members: tuple[tuple[str, str], ...]
    """Member and slot."""
    has_family: bool = False
    """Whether members also mean what their names say (``families.json``)."""


KeyForm = IndexedKey | TagKey | ObjectKey | InsideKey


class KeyMeaning(NamedTuple):
    """Meaning of one attribute key."""

    slot: str | None
    rank: int
    marks: int
    """Bits of the detection rules that this key satisfies."""
    form: KeyForm | None
    """None for a key whose value is used as it is."""


@dataclass(frozen=True, slots=True)
class DetectionRule:
    """One line of ``dialects/detection.json``."""

    dialect: str
    keys: frozenset[str]
    prefixes: tuple[str, ...]
    scopes: frozenset[str]
    unless: frozenset[str]
    names: frozenset[str]
    """Names of spans."""


def read_table(name: str) -> Any:
    """Read a data file of ``server/ingest/dialects``."""
    return json.loads(resources.files("server.ingest").joinpath("dialects", name).read_text(encoding="utf-8"))


@cache
def dialect_tables() -> tuple[dict[str, Any], ...]:
    """Return the dialect files in order of precedence."""
    folder = resources.files("server.ingest").joinpath("dialects")
    tables = [read_table(entry.name) for entry in folder.iterdir() if entry.name.endswith(".json")]
    return tuple(sorted((table for table in tables if "columns" in table), key=lambda table: table["rank"]))


@cache
def detection_rules() -> tuple[DetectionRule, ...]:
    """Return the detection rules in order; the first with a hit wins."""
    return tuple(
        DetectionRule(
            rule["dialect"],
            frozenset(rule.get("keys", ())),
            tuple(rule.get("prefixes", ())),
            frozenset(rule.get("scopes", ())),
            frozenset(rule.get("unless", ())),
            frozenset(rule.get("names", ())),
        )
        for rule in read_table("detection.json")["rules"]
    )


def alias_slots() -> dict[str, str]:
    """Return every whole-key alias and its slot, as the tests and the documentation read them."""
    return {
        key: slot
        for table in dialect_tables()
        for part in ("columns", "last")
        for slot, keys in table.get(part, {}).items()
        for key in keys
    }


def keys_of(part: str) -> frozenset[str]:
    """Return the keys that any dialect file lists under ``part``."""
    return frozenset(key for table in dialect_tables() for key in table.get(part, ()))


class AttributeTable(dict[str, KeyMeaning]):
    """Meanings of keys: ``attribute_table()["gen_ai.request.model"]``.

    Every key has a meaning; it is computed once and cached, up to a bound that no honest sender reaches.
    """

    def __init__(self) -> None:
        super().__init__()
        self._slots: dict[str, tuple[str, int]] = {}
        self._indexed: dict[str, tuple[str, int]] = {}
        self._tag_prefixes: tuple[str, ...] = ()
        self._not_tags: tuple[str, ...] = ()
        self._expanded = keys_of("expanded")
        self._inside: dict[str, InsideKey] = {}
        for table in dialect_tables():
            base = table["rank"] * _RANK_STEP
            self._add(table["columns"], base)
            self._add(table.get("last", {}), base + LAST_RANK)
            self._inside.update(
                (key, InsideKey(tuple(members.items()))) for key, members in table.get("inside", {}).items()
            )
            for slot, prefixes in table.get("indexed", {}).items():
                for position, prefix in enumerate(prefixes):
                    self._indexed[prefix] = (slot, base - INDEXED_OFFSET + position)
            self._tag_prefixes += tuple(table.get("tag_prefixes", ()))
            self._not_tags += tuple(table.get("not_tags", ()))

    def _add(self, columns: dict[str, list[str]], base: int) -> None:
        for slot, keys in columns.items():
            for position, key in enumerate(keys):
                if key in self._slots:
                    raise ValueError(f"attribute {key!r} is in two dialect tables")
                self._slots[key] = (slot, base + position)

    def __missing__(self, key: str) -> KeyMeaning:
        meaning = self._work_out(key)
        if len(key) <= LONGEST:
            if len(self) >= _REMEMBERED_KEYS:
                self.clear()  # else whoever fills it would make everybody's new keys slow for good
            self[key] = meaning
        return meaning

    def _work_out(self, key: str) -> KeyMeaning:
        marks = 0
        for bit, rule in enumerate(detection_rules()):
            if key in rule.keys or (rule.prefixes and key.startswith(rule.prefixes)):
                marks |= 1 << bit
        plain = self._slots.get(key)
        inside = self._inside.get(key)
        if holds_members(key) and key not in self._expanded:
            inside = InsideKey(inside.members if inside is not None else (), has_family=True)
        if plain is not None:
            return KeyMeaning(*plain, marks, inside)
        if inside is not None:
            return KeyMeaning(None, 0, marks, inside)
        for prefix, (slot, rank) in self._indexed.items():
            if key.startswith(prefix + "."):
                index, _, rest = key[len(prefix) + 1 :].partition(".")
                if rest and index.isascii() and index.isdigit() and len(index) <= 6:
                    return KeyMeaning(slot, rank, marks, IndexedKey(prefix, int(index), rest))
        named = slot_of_name(key)
        if named is not None:
            return KeyMeaning(named[0], LAST_RANK + FAMILY_OFFSET + named[1], marks, None)
        for prefix in self._tag_prefixes:
            name = key.removeprefix(prefix)
            if name and name != key and not any(fnmatchcase(name, pattern) for pattern in self._not_tags):
                return KeyMeaning(TAG_SLOT, 0, marks, TagKey(name))
        return KeyMeaning(None, 0, marks, ObjectKey() if key in self._expanded or is_usage_object(key) else None)


@cache
def attribute_table() -> AttributeTable:
    """Return the compiled table of this process."""
    return AttributeTable()
