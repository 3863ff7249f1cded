"""The parts of shared content that a process keeps for a minute."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

from server.queries.lists.known_parts import KnownParts

WEEK = ("acme", datetime(2026, 11, 23, tzinfo=UTC))
OTHER = ("borealis", WEEK[1])
PART = (None, None, "a text")


async def test_parts_are_kept_by_project_and_week() -> None:
    known, part = KnownParts(), uuid4()
    known.of(WEEK)[part] = PART
    assert known.of(WEEK) == {part: PART}
    assert known.of(OTHER) == {}


async def test_parts_are_forgotten_by_age_whether_somebody_asks_or_not() -> None:
    known = KnownParts(seconds=0.05)
    kept = known.of(WEEK)
    kept[uuid4()] = PART
    await asyncio.sleep(0.3)
    assert known.is_empty
    assert known.of(WEEK) == {}


async def test_too_many_parts_are_forgotten_at_once() -> None:
    known = KnownParts(characters=100)
    known.of(WEEK)[uuid4()] = PART
    known.grew(60)
    assert len(known.of(WEEK)) == 1
    known.grew(60)
    assert known.is_empty
