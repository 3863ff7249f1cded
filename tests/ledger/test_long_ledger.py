"""The ledger for minutes and many seeds: ``make test-ledger`` (LEDGER_SECONDS, LEDGER_SEED)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.process.ledger import keep_books

SECONDS = float(os.environ.get("LEDGER_SECONDS", "120"))
SEED = int(os.environ.get("LEDGER_SEED", secrets.randbelow(1 << 30)))


@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.parametrize("pause", [0.7, 2.5])
async def test_the_books_agree_after_minutes_of_killing(private_folder: Path, pause: float) -> None:
    print(f"LEDGER_SEED={SEED}")
    ledger, killed = await keep_books(private_folder, seconds=SECONDS, seed=SEED, pause=pause)
    print(f"{len(ledger.acknowledged)} of {len(ledger.sent)} batches acknowledged; killed {dict(killed)}")
    print(f"answers {dict(ledger.answers)}")
    assert ledger.acknowledged
