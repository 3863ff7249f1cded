"""Acknowledged is stored, whatever dies when. The long form: ``make test-ledger``."""

from __future__ import annotations

from pathlib import Path

from tests.process.ledger import keep_books


async def test_what_was_acknowledged_is_stored_exactly_once_while_processes_are_killed(private_folder: Path) -> None:
    ledger, killed = await keep_books(private_folder, kills=5, seed=20261123, pause=0.2)
    assert len(ledger.acknowledged) >= 60
    assert len(killed) > 1
