"""Vectors are made in what others leave of the processors, and hardly at all while these leave nothing."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from server.fairness.processors import processor_times
from server.semantic.busy_machine import LONGEST_SECONDS, WORK_SHARE, BusyMachine
from tests.conftest import AppServer, ProjectMaker
from tests.semantic.conftest import IndexerMaker
from tests.semantic.conversations import NOW, spoken
from tests.semantic.embedding_endpoint import EmbeddingEndpoint
from tests.span_factory import store


def test_work_rests_while_others_use_the_processors_and_goes_on_when_they_are_idle() -> None:
    worked, passed, own = 0.0, 0.0, 0.0
    machine = BusyMachine(read=lambda: (worked + own, passed), own=lambda: own)

    def step(others: float, of: float, used: float) -> float:
        nonlocal worked, passed, own
        worked, passed, own = worked + others, passed + of, own + used
        return machine.rest_seconds()

    assert step(others=1.0, of=2.0, used=0.2) == 0, "half of the machine is idle"
    rest = step(others=1.8, of=2.0, used=0.2)
    assert 0.2 / (0.2 + rest) == pytest.approx(WORK_SHARE)
    assert step(others=0.0, of=0.1, used=0.01) == pytest.approx(rest / 20), "too short to say something new"
    assert step(others=1.9, of=2.0, used=5.0) == LONGEST_SECONDS
    assert step(others=0.1, of=4.0, used=3.0) == 0, "its own work makes no machine busy"
    assert BusyMachine(read=lambda: None).rest_seconds() == 0


def test_a_machine_tells_what_its_processors_do() -> None:
    before = processor_times()
    if before is None:
        pytest.skip("only Linux tells it in /proc/stat")
    ends = time.process_time() + 0.3
    while time.process_time() < ends:
        pass
    after = processor_times()
    assert after is not None
    assert after[0] - before[0] > 0.2
    assert after[1] - before[1] > after[0] - before[0] - 0.001


async def test_background_work_rests_and_takes_small_batches(
    server: AppServer, project: ProjectMaker, endpoint: EmbeddingEndpoint, make_indexer: IndexerMaker
) -> None:
    class Busy(BusyMachine):
        rests = 0

        def rest_seconds(self) -> float:
            self.is_busy = True
            self.rests += 1
            return 0.01

    await project("alpha")
    await store(server.services, "alpha", [spoken(f"words {n}", ts=NOW + timedelta(seconds=n)) for n in range(20)])
    machine = Busy()
    indexer = make_indexer(server.services, machine=machine, batch=16)
    await indexer._work()
    assert machine.rests == 1 + 2, "16 spans before it was known, then two at a time"
    assert len(endpoint.texts) >= 20
    await indexer._embedder.close()
