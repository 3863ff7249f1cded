"""Copies of cached answers in a process: how much memory they may take."""

from __future__ import annotations

import tracemalloc
from time import time

from server.cache.stored_answer import COPIES_BYTES, CachedAnswer, Copies


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
