"""Cursors: only the right one opens, for the right caller, for the right question, for a day."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from server.errors import InvalidCursor
from server.queries.lists.cursor import LIFETIME, CursorSeal, continuation

NOW = datetime(2026, 11, 23, 12, 0, 0, 1, tzinfo=UTC)
QUESTION = {"filter": None, "sort": [["ts", True]]}
BINDING = {"subject": "a", "projects": ["alpha"]}
POSITION = (NOW, "t\u00e9", None, Decimal("0.10"), 0.1, 7)
SEAL = CursorSeal(["first secret"])


def make(seal: CursorSeal = SEAL, issued_at: datetime = NOW) -> str:
    start = continuation(POSITION, question=QUESTION, now=NOW)
    return seal.seal(json.loads(json.dumps(start)), binding=BINDING, issued_at=issued_at)


def test_position_and_moment_come_back_exactly() -> None:
    opened = SEAL.open(make(), binding=BINDING, at=NOW)
    assert opened.position == POSITION
    assert [type(value) for value in opened.position] == [type(value) for value in POSITION]
    assert opened.now == NOW
    opened.check_question(dict(reversed(QUESTION.items())))


def test_every_flipped_bit_is_found() -> None:
    """No byte of a cursor can be changed, none cut off or added."""
    cursor = make()
    sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1 << (index % 8)
        with pytest.raises(InvalidCursor):
            SEAL.open(base64.urlsafe_b64encode(changed).decode().rstrip("="), binding=BINDING, at=NOW)
    for cut in range(len(cursor)):
        with pytest.raises(InvalidCursor):
            SEAL.open(cursor[:cut], binding=BINDING, at=NOW)


@pytest.mark.parametrize(
    "forged",
    [
        "", "x", "=", "....", "\u00e9\u00e9\u00e9\u00e9", "A" * 100_000, "AAAA\n", "null",
        base64.b64encode(b'{"timestamp": "2026-01-01T00:00:00Z"}').decode(),
        base64.urlsafe_b64encode(b"0" * 32 + b'{"v":1}').decode().rstrip("="),
        make() + "=", make() + "A", make() + "\n", " " + make(), make(CursorSeal(["another secret"])),
    ],
)  # fmt: skip
def test_forgeries_are_refused(forged: str) -> None:
    """Other key, other format, other base64, the seed's plain cursor."""
    with pytest.raises(InvalidCursor):
        SEAL.open(forged, binding=BINDING, at=NOW)


def test_one_spelling_only() -> None:
    """Base64 has spare bits in the last character of most lengths; a cursor with them set is another text."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = 0
    for length in range(3):
        start = continuation(("x" * length,), question=QUESTION, now=NOW)
        cursor = SEAL.seal(start, binding=BINDING, issued_at=NOW)
        SEAL.open(cursor, binding=BINDING, at=NOW)
        if len(cursor) % 4:
            spare += 1
            other = cursor[:-1] + alphabet[alphabet.index(cursor[-1]) + 1]
            with pytest.raises(InvalidCursor):
                SEAL.open(other, binding=BINDING, at=NOW)
    assert spare == 2


@pytest.mark.parametrize(
    "binding",
    [{}, {"subject": "b", "projects": ["alpha"]}, {"subject": "a", "projects": ["alpha", "beta"]}, {"subject": "a"}],
)
def test_others_cannot_use_it(binding: Any) -> None:
    """Another caller, or the same with other rights."""
    with pytest.raises(InvalidCursor):
        SEAL.open(make(), binding=binding, at=NOW)


@pytest.mark.parametrize("question", [{}, {**QUESTION, "filter": {"field": "model"}}, {**QUESTION, "sort": []}])
def test_it_fits_no_other_question(question: Any) -> None:
    """Another filter, another order."""
    with pytest.raises(InvalidCursor):
        SEAL.open(make(), binding=BINDING, at=NOW).check_question(question)


def test_it_lives_for_a_day_and_not_in_the_future() -> None:
    """An old cursor is an error, not an empty page."""
    SEAL.open(make(), binding=BINDING, at=NOW + LIFETIME)
    for moment in (NOW + LIFETIME + timedelta(seconds=1), NOW - timedelta(minutes=6)):
        with pytest.raises(InvalidCursor):
            SEAL.open(make(), binding=BINDING, at=moment)


def test_keys_rotate() -> None:
    """The former secret still opens, the new one seals, a forgotten one does not open."""
    rotated = CursorSeal(["second secret", "first secret"])
    rotated.open(make(), binding=BINDING, at=NOW)
    with pytest.raises(InvalidCursor):
        SEAL.open(make(rotated), binding=BINDING, at=NOW)
    with pytest.raises(InvalidCursor):
        CursorSeal(["third secret", "second secret"]).open(make(), binding=BINDING, at=NOW)
    with pytest.raises(ValueError, match="secret"):
        CursorSeal(["", ""])
