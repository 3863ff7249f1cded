"""Work that fails leaves nothing in memory: no circle of error, frame and future keeps what it was about."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest

from server.errors import DatabaseUnavailable
from server.fairness.off_loop import in_thread
from server.ingest.writing.group_commit import GroupCommit
from server.ingest.writing.prepared_span import PreparedSpan
from tests.conftest import AppServer, ProjectMaker
from tests.ingest.otlp_payloads import JSON

PARTS = 20_000


@pytest.fixture(autouse=True)
def collector_rests() -> Iterator[None]:
    """Without the collector, only what nobody refers to goes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("path", ["traces", "traces/explain", "logs", "metrics"])
async def test_a_refused_body_leaves_no_circles(
    app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker, bearer: Callable[..., dict[str, str]],
    path: str,
) -> None:  # fmt: skip
    await project("alpha")
    name = {"logs": "resourceLogs", "metrics": "resourceMetrics"}.get(path, "resourceSpans")
    inner, items = name.replace("resource", "scope"), {"logs": "logRecords", "metrics": "metrics"}.get(path, "spans")
    bad = f'{{"{name}":[{{"{inner}":[{{"{items}":[' + '{"name":"x"},' * PARTS + '{"name":5,"traceId":5,"body":5}]}]}]}'
    headers = {**bearer("developer", ["alpha"]), "Content-Type": JSON}
    for content in (b"{", bad.encode()):  # the first is a small one, for what is made once
        gc.collect()
        answer = await client.post(f"/v1/{path}", content=content, headers=headers)
        assert answer.status_code in (400, 413), answer.text
        del answer
    assert gc.collect() < PARTS / 2


class Large:
    """Stands for what a computation is about."""


async def gone(what: weakref.ref[Large]) -> None:
    """Wait until it is no more: the thread may still be about to let go."""
    async with asyncio.timeout(5):
        while what() is not None:
            await asyncio.sleep(0.01)


async def test_a_failed_computation_goes_with_its_error() -> None:
    known: list[weakref.ref[Large]] = []

    def work() -> None:
        large = Large()
        known.append(weakref.ref(large))
        raise ValueError

    with suppress(ValueError):  # pytest.raises would keep it
        await in_thread(work)
    await gone(known[0])


async def test_rows_that_could_not_be_stored_go_with_their_error() -> None:
    class Away:
        async def store(self, *_: object, **__: object) -> None:
            raise DatabaseUnavailable

    commits = GroupCommit(Away(), writers=1, most_pending_rows=1000, most_pending_bytes=1 << 20)  # type: ignore[arg-type]
    large = Large()
    large.key, large.size = ("alpha", "t", "s"), 100  # type: ignore[attr-defined]
    seen = weakref.ref(large)
    rows: list[PreparedSpan] = [large]  # type: ignore[list-item]
    del large
    with suppress(DatabaseUnavailable):
        await commits.submit(rows)
    rows.clear()
    await gone(seen)
    await commits.close()
