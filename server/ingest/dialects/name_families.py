"""Attribute names that no alias table has, read by their parts (table: ``families.json``).

Senders put the same few words under many heads, in snake case or camel case. A family lists the heads and the words;
every pair is an alias of its slot, after all aliases that are written out. What a name means is worked out once for
each key (:mod:`server.ingest.dialects.attribute_table`), so that families cost a span nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LONGEST: Final = 120


@dataclass(frozen=True, slots=True)
class Family:
    """Heads and words of one kind of attribute."""

    title: str
    heads: frozenset[str]
    words: dict[str, tuple[str, int]]
    """Slot and place of each word."""


def _load() -> tuple[tuple[Family, ...], frozenset[str]]:
    text = resources.files("server.ingest").joinpath("dialects", "families.json").read_text(encoding="utf-8")
    table = json.loads(text)
    families = []
    place = 0
    for family in table["families"]:
        words = {}
        for slot, names in family["words"].items():
            for name in names:
                words[name] = (slot, place)
                place += 1
        families.append(Family(family["title"], frozenset(family["heads"]), words))
    return tuple(families), frozenset(table["objects_of"])


FAMILIES, _OF_OBJECTS = _load()


def plain_form(key: str) -> str:
    """Return ``key`` in snake case and lower case, with a dot for a colon.

    >>> plain_form("ai.telemetry.metadata.userId"), plain_form("genkit:metadata:sessionID")
    ('ai.telemetry.metadata.user_id', 'genkit.metadata.session_id')
    """
    return _HUMP.sub("_", key).lower().replace(":", ".").replace("-", "_")


@lru_cache(maxsize=4096)
def slot_of_name(key: str) -> tuple[str, int] | None:
    """Return the slot that the parts of ``key`` mean, and its place among the words; None if they mean nothing."""
    if len(key) > _LONGEST:
        return None
    segments = plain_form(key).split(".")
    for family in FAMILIES:
        for count in range(1, min(len(segments), 3) + 1):
            found = family.words.get(".".join(segments[-count:]))
            if found is not None and ("*" in family.heads or ".".join(segments[:-count]) in family.heads):
                return found
    return None


@lru_cache(maxsize=4096)
def holds_members(key: str) -> bool:
    """Return whether the value of ``key`` may be an object whose members say what single attributes do elsewhere."""
    form = plain_form(key)
    return bool(form) and any(form in family.heads for family in FAMILIES if family.title in _OF_OBJECTS)
