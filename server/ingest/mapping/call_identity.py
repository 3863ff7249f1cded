"""Data that a counted call takes from the other reports of the same call: its user, and its content.

The vendor's client knows the tokens, the framework around it knows the user. Sums by user, filters and search look at
the span that counts, so it takes what it lacks; ``inherited`` of the row names what was taken, and from which span, so
that the decision can be made again when a further span of the trace comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from server.ingest.mapping.call_counting import Decision

IDENTITY: Final[Mapping[str, tuple[str, ...]]] = {
    "user_id": ("user_id",),
    "session_id": ("session_id",),
    "tags": ("tags",),
    "agent_name": ("agent_name",),
    "prompt": ("prompt_name", "prompt_version"),
}
"""What belongs together, with its columns: taken from any other report of the call."""

CONTENT: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("input_type", "input_text", "input_messages"),
    "output": ("output_text", "output_messages"),
}
"""The same for what was said: taken from a report of this call alone."""

INHERITABLE: Final[Mapping[str, tuple[str, ...]]] = {**IDENTITY, **CONTENT}

Has = Callable[[str, str], bool]
"""Whether a span, by its id, has a value of its own for a part of :data:`INHERITABLE`."""


def inheritance(span_id: str, decision: Decision, has: Has) -> dict[str, str]:
    """Return the parts that the counted span ``span_id`` takes, with the span that each is taken from."""
    taken = {}
    for parts, lenders in ((IDENTITY, decision.lenders), (CONTENT, decision.content_lenders)):
        for part in parts if lenders else ():
            if not has(span_id, part):
                lender = next((lender for lender in lenders if has(lender, part)), None)
                if lender is not None:
                    taken[part] = lender
    return taken


def has_part(values: Callable[[str], Any], part: str) -> bool:
    """Return whether any column of ``part`` has a value; ``values`` is asked by column."""
    return any(values(column) not in (None, "", []) for column in INHERITABLE[part])


def columns_of(parts: Sequence[str] | Mapping[str, str]) -> list[str]:
    """Return the columns of ``parts``."""
    return [column for part in parts for column in INHERITABLE[part]]
