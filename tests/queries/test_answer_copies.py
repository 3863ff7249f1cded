"""Copies of cached answers in a process: how much memory they may take."""

from __future__ import annotations

import tracemalloc
from time import time

import pytest

from server.cache import stored_answer
from server.cache.stored_answer import COPIES_BYTES, COPIES_SECONDS, CachedAnswer, Copies


def test_a_copy_that_nobody_uses_is_forgotten_and_one_in_use_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of answers that had ended filled sixteen megabytes in two hours."""
    now = 1000.0
    monkeypatch.setattr(stored_answer, "monotonic", lambda: now)
    copies, answer = Copies(), CachedAnswer(b"[1]", None, {}, "f", True, time())
    for name in ("used", "unused"):
        copies.keep(name, b"sum", (b"token",), answer)
    for number in range(10):
        now += COPIES_SECONDS / 2
        copies.keep(f"other{number}", b"sum", (), answer)
        assert copies.checksum("used") == b"sum"
        assert copies.take("used", b"sum") == ((b"token",), answer)
        assert copies.take("used", b"another") is None
    assert copies.checksum("unused") == b""
    assert copies.take("unused", b"sum") is None
    assert len(copies._lately) + len(copies._earlier) < 8
    copies.drop("used")
    assert copies.checksum("used") == b""


def test_a_copy_that_is_dropped_or_replaced_counts_no_more() -> None:
    copies = Copies()
    large = CachedAnswer(bytes(COPIES_BYTES // 4), None, {}, "f", True, time())
    for _ in range(20):
        copies.keep("same", b"sum", (), large)
    copies.keep("other", b"sum", (), CachedAnswer(b"[]", None, {}, "f", True, time()))
    assert copies.checksum("same") == copies.checksum("other") == b"sum"
    assert len(copies._lately) == 2, "one that is replaced does not push others out"
    copies.keep("huge", b"sum", (), CachedAnswer(bytes(COPIES_BYTES), None, {}, "f", True, time()))
    assert copies.checksum("huge") == b""


def test_answers_without_a_row_take_no_more_memory_than_large_ones() -> None:
    """Copies were once counted by their data alone: eight million empty answers would have been kept."""
    copies = Copies()
    tracemalloc.start()
    try:
        for number in range(2 * COPIES_BYTES // 2048):
            tokens = tuple(b"%032x" % (number + place) for place in range(4))
            meta = {"as_of": f"2026-11-30T00:00:{number}", "sources": [str(number)]}
            answer = CachedAnswer(b"[]", {"cursor": None, "limit": number}, meta, f"{number:032x}", True, time())
            copies.keep(f"observatory:answer:{number:064x}", b"%08x" % number, tokens, answer)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < COPIES_BYTES
    last, first = 2 * COPIES_BYTES // 2048 - 1, 0
    assert copies.take(f"observatory:answer:{last:064x}", b"%08x" % last) is not None
    assert copies.take(f"observatory:answer:{first:064x}", b"%08x" % first) is None
