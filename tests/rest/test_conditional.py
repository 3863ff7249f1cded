"""If-None-Match, as RFC 9110 13.1.2 has it."""

from __future__ import annotations

import pytest

from server.http.conditional import entity_tag, is_match


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ('W/"abc"', True),
        ('"abc"', True),
        ('"x", W/"abc"', True),
        ('"a,b" ,"abc"', True),
        ("*", True),
        (" * ", True),
        (None, False),
        ("", False),
        ("abc", False),
        ('"ABC"', False),
        ('"abc', False),
        ('w/"abc"', False),
        ('"abc" "x"', False),
        ('*, "abc"', False),
        ('"abc",', False),
    ],
)
def test_if_none_match_is_compared_weakly_and_only_when_well_formed(sent: str | None, expected: bool) -> None:
    assert is_match(sent, entity_tag("abc")) is expected
    assert is_match(sent, entity_tag("abc", weak=False)) is expected


def test_a_very_long_header_is_judged_at_once() -> None:
    assert not is_match('"x", ' * 1500 + "!", entity_tag("abc"))
