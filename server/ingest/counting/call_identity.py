"""Data that a counted call takes from other spans: its user, and its content.

The vendor's client knows the tokens, the framework around it knows the user. Sums by user, filters and search look at
the span that counts, so it takes what it lacks: from the other reports of the same call, and its user, session, tags
and agent from the nearest span above that has them. ``inherited`` of the row names what was taken, and from which span,
so that the decision can be made again when a further span of the trace comes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

from server.ingest.counting.count_rules import Decision

IDENTITY: Final[Mapping[str, tuple[str, ...]]] = {
    "user_id": ("user_id",),
    "session_id": ("session_id",),
    "tags": ("tags",),
    "agent_name": ("agent_name",),
    "prompt": ("prompt_name", "prompt_version"),
}
"""Columns that belong together and are taken together from another report of the call."""

CONTENT: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("input_type", "input_text", "input_messages"),
    "output": ("output_text", "output_messages"),
}
"""The same for what was said: taken from a report of this call alone."""

INHERITABLE: Final[Mapping[str, tuple[str, ...]]] = {**IDENTITY, **CONTENT}
_NOTHING: Final[tuple[Any, ...]] = (None, "", [])

LENT_BELOW: Final = ("user_id", "session_id", "tags", "agent_name")
"""Columns that calls take from a span above them. A prompt is not among them: it belongs to one call."""

Has = Callable[[str, str], bool]
"""Whether a span, by its id, has a value of its own for a part of :data:`INHERITABLE`."""


class Ancestry:
    """The spans above each span of a trace, as far as they are known, and what they have. Each way up is walked once
    for each part.
    """

    def __init__(self, parents: Mapping[str, str | None], has: Has) -> None:
        """``parents``: the parent of each known span."""
        self._parents = parents
        self._has = has
        self._nearest: dict[tuple[str, str], str | None] = {}
        """By part and span: the span itself or the nearest one above it that has the part."""

    def lender(self, span_id: str, part: str) -> str | None:
        """Return the nearest span above ``span_id`` that has ``part``. A ring of parents ends the way."""
        found: str | None = None
        path: dict[str, None] = {}
        current = self._parents.get(span_id)
        while current is not None and current in self._parents and current not in path:
            if (part, current) in self._nearest:
                found = self._nearest[part, current]
                break
            path[current] = None
            if self._has(current, part):
                found = current
                break
            current = self._parents[current]
        for passed in path:
            self._nearest[part, passed] = found
        return found


def inheritance(span_id: str, decision: Decision, has: Has, ancestry: Ancestry) -> dict[str, str]:
    """Return the parts that the counted span ``span_id`` takes, with the span that each is taken from."""
    taken: dict[str, str] = {}
    for parts, lenders in ((IDENTITY, decision.lenders), (CONTENT, decision.content_lenders)):
        for part in parts if lenders else ():
            if not has(span_id, part):
                lender = next((lender for lender in lenders if has(lender, part)), None)
                if lender is not None:
                    taken[part] = lender
    if decision.counts:
        for part in LENT_BELOW:
            if part not in taken and not has(span_id, part):
                for report in (span_id, *decision.lenders):
                    lender = ancestry.lender(report, part)
                    if lender is not None:
                        taken[part] = lender
                        break
    return taken


def kept_inheritance(
    before: Mapping[str, str] | None, taken: Mapping[str, str], known: Container[str]
) -> dict[str, str]:
    """Return what a span takes, with what it took before from spans that are not ``known`` here: an export may hold the
    calls alone, and retention drops the older half of a trace. That stays as it is.
    """
    kept = {part: lender for part, lender in (before or {}).items() if part not in taken and lender not in known}
    return {**kept, **taken}


def has_part(values: Callable[[str], Any], part: str) -> bool:
    """Return whether any column of ``part`` has a value; ``values`` is asked by column."""
    columns = INHERITABLE[part]
    if len(columns) == 1:
        return values(columns[0]) not in _NOTHING
    return any(values(column) not in _NOTHING for column in columns)


def columns_of(parts: Sequence[str] | Mapping[str, str]) -> list[str]:
    """Return the columns of ``parts``."""
    return [column for part in parts for column in INHERITABLE[part]]
