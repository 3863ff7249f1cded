"""Attribute names that no alias table has, read by their parts (table: ``families.json``).

Senders put the same few words under many heads, in snake case or camel case. A family lists the heads and the words;
every pair is an alias of its slot, after all aliases that are written out. The meaning of a key is worked
out once (:mod:`server.ingest.dialects.attribute_table`), so that families cost a span nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from itertools import count
from typing import Final

from server.text.remembered import remembered

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LONGEST: Final = 120
_MOST_SEGMENTS: Final = 3


@dataclass(frozen=True, slots=True)
class Family:
    """Heads and words of one kind of attribute."""

    title: str
    heads: frozenset[str]
    endings: tuple[str, ...]
    """Ends of heads, each with its dot."""
    words: dict[str, tuple[str, int]]
    """Slot and place of each word."""
    patterns: tuple[tuple[re.Pattern[str], str, int], ...] = ()
    """The same for words that are many."""

    def has_head(self, head: str) -> bool:
        """Return whether names of this family begin with ``head``."""
        return head in self.heads or "*" in self.heads or head.endswith(self.endings)

    def slot_of_word(self, word: str) -> tuple[str, int] | None:
        """Return the slot and the place of ``word``, None for a word of another family."""
        found = self.words.get(word)
        if found is not None:
            return found
        return next(((slot, place) for pattern, slot, place in self.patterns if pattern.fullmatch(word)), None)


def _load() -> tuple[tuple[Family, ...], frozenset[str]]:
    text = resources.files("server.ingest").joinpath("dialects", "families.json").read_text(encoding="utf-8")
    table = json.loads(text)
    families = []
    places = count()
    for family in table["families"]:
        words = {name: (slot, next(places)) for slot, names in family.get("words", {}).items() for name in names}
        patterns = [
            (re.compile(pattern.replace("<medium>", medium)), slot.replace("<medium>", medium), next(places))
            for slot, pattern in family.get("patterns", {}).items()
            for medium in (family["media"] if "<medium>" in slot else ("",))
        ]
        heads = frozenset(head for head in family["heads"] if not head.startswith("*."))
        endings = tuple(head[1:] for head in family["heads"] if head.startswith("*."))
        families.append(Family(family["title"], heads, endings, words, tuple(patterns)))
    return tuple(families), frozenset(table["objects_of"])


FAMILIES, _OF_OBJECTS = _load()


def plain_form(key: str) -> str:
    """Return ``key`` in snake case and lower case, with a dot for a colon.

    >>> plain_form("ai.telemetry.metadata.userId"), plain_form("genkit:metadata:sessionID")
    ('ai.telemetry.metadata.user_id', 'genkit.metadata.session_id')
    """
    return _HUMP.sub("_", key).lower().replace(":", ".").replace("-", "_")


@remembered(4096)
def slot_of_name(key: str) -> tuple[str, int] | None:
    """Return the slot that the parts of ``key`` mean, and its place among the words; None if they mean nothing."""
    if len(key) > _LONGEST:
        return None
    segments = plain_form(key).split(".")
    for family in FAMILIES:
        for length in range(min(len(segments), _MOST_SEGMENTS), 0, -1):
            found = family.slot_of_word(".".join(segments[-length:]))
            if found is not None and family.has_head(".".join(segments[:-length])):
                return found
    return None


@remembered(4096)
def holds_members(key: str) -> bool:
    """Return whether the value of ``key`` may be an object whose members say what single attributes do elsewhere."""
    form = plain_form(key)
    return bool(form) and any(
        form in family.heads or form.endswith(family.endings) for family in FAMILIES if family.title in _OF_OBJECTS
    )


_USAGE_OBJECT: Final = re.compile(
    r"(?:(?:(?:gen_ai|llm|ai|openai|anthropic|mirascope)\.)?(?:response\.)?usage|ai\.response\.provider_metadata\.[a-z_]+\.usage)"
    r"(?:\.(?:raw|details|cache_creation|(?:input|output|prompt|completion)_tokens?_details))?"
)


@remembered(4096)
def is_usage_object(key: str) -> bool:
    """Return whether an object under ``key`` has counts of tokens as its members."""
    return len(key) <= _LONGEST and _USAGE_OBJECT.fullmatch(plain_form(key)) is not None
