"""The ledger with a hundred kills: ``make test-ledger`` (LEDGER_KILLS, LEDGER_SEED)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.process.ledger import keep_books

KILLS = int(os.environ.get("LEDGER_KILLS", "100"))
SEED = int(os.environ.get("LEDGER_SEED", secrets.randbelow(1 << 30)))


@pytest.mark.timeout(KILLS * 35)
@pytest.mark.parametrize("pause", [0.1, 1.5])
async def test_the_books_agree_after_a_hundred_kills(private_folder: Path, pause: float) -> None:
    print(f"LEDGER_SEED={SEED}")
    ledger, killed = await keep_books(private_folder, kills=KILLS, seed=SEED, pause=pause)
    print(f"{len(ledger.acknowledged)} of {len(ledger.sent)} batches acknowledged; killed {dict(killed)}")
    print(f"answers {dict(ledger.answers)}")
    assert ledger.acknowledged
