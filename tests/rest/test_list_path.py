"""The round trips and statements of one list request: counted, not timed (docs/decisions/0080-list-path.md)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from server.cache.freshness import Touched
from server.cache.result_cache import LOCK_MS, Answer, CacheQuestion
from server.storage.redis_line import RedisLine
from server.storage.row_scope import RowScope
from tests.conftest import AppServer
from tests.span_factory import make_span, store


class Watch:
    """Counts what goes to the stores, and lets it through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        for name, owner, method in (
            ("redis waits", RedisLine, "calls"),
            ("redis posts", RedisLine, "post"),
            ("statements", asyncpg.Connection, "execute"),
            ("statements", asyncpg.Connection, "fetch"),
            ("resets", asyncpg.Connection, "reset"),
        ):
            monkeypatch.setattr(owner, method, self._counting(name, getattr(owner, method)))

    def _counting(self, name: str, method: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.counts[name] += 1
            return method(*args, **kwargs)

        return counted

    @contextmanager
    def requests(self) -> Iterator[Counter[str]]:
        self.counts.clear()
        yield self.counts


@pytest.fixture
async def api(app_server: AppServer, client: httpx.AsyncClient, project: Any, bearer: Any) -> httpx.AsyncClient:
    """A client whose credential and projects the server knows already, and whose lists have one span."""
    await project("alpha")
    await store(app_server.services, "alpha", make_span(ts=datetime.now(UTC) - timedelta(hours=3)))
    # Statements of background tasks would be counted, too.
    services = app_server.services
    for task in (services.access.state.task, services.folder.task, services.retention.task, services.exports.jobs.task):
        await task.stop()
    client.headers.update(bearer("developer", ["alpha"]))
    app_server.services.projects.forget()
    assert (await client.get("/api/v1/traces?limit=1")).status_code == 200
    return client


async def test_a_remembered_list_costs_one_round_trip_to_redis_and_nothing_else(
    api: httpx.AsyncClient, app_server: AppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await api.get("/api/v1/traces?limit=50")
    watch = Watch(monkeypatch)
    await app_server.services.projects.ids()
    for _ in range(3):  # from Redis, from the copy that this process keeps of it, and so on
        with watch.requests() as counts:
            answer = await api.get("/api/v1/traces?limit=50")
        assert answer.json()["meta"]["cached"] is True
        assert answer.json()["data"] == first.json()["data"]
        assert "x-ratelimit-remaining" in answer.headers
        assert counts == {"redis waits": 1}


@pytest.mark.one_postgresql("Citus takes each setting of a transaction in a message of its own")
async def test_a_computed_list_waits_for_redis_once_and_for_three_statements(
    api: httpx.AsyncClient, app_server: AppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limit, lookup and the right to compute come together; what was found is stored without waiting."""
    watch = Watch(monkeypatch)
    await app_server.services.projects.ids()
    with watch.requests() as counts:
        answer = await api.get("/api/v1/traces?limit=49")
    assert answer.json()["meta"]["cached"] is False
    assert counts == {"redis waits": 1, "redis posts": 1, "statements": 3}


async def test_a_caller_that_leaves_before_it_computes_keeps_nobody_waiting(app_server: AppServer) -> None:
    """The right to compute was taken in its name, but the reply that says so reached nobody."""
    services = app_server.services
    question = CacheQuestion("list", RowScope(("alpha",)), {"asked": "once"})

    class LeavingReader:
        async def read(
            self, names: Sequence[str], known: bytes = b"", lock: tuple[str, int] | None = None
        ) -> list[bytes | None]:
            assert lock is not None
            await services.redis.ask(["SET", lock[0], "1", "PX", lock[1]])
            raise asyncio.CancelledError

    async def compute() -> Answer:
        return Answer([])

    with pytest.raises(asyncio.CancelledError):
        await services.cache.answer(question, compute, reader=LeavingReader())
    started = time.monotonic()
    assert not (await services.cache.answer(question, compute)).is_hit
    assert time.monotonic() - started < LOCK_MS / 1000


async def test_what_is_known_of_an_address_holds_for_one_caller_and_its_rights(
    api: httpx.AsyncClient, bearer: Any, project: Any
) -> None:
    """The same address, asked by others within the second in which it is known."""
    await project("beta")
    address = "/api/v1/traces?limit=48&project_id=alpha&fields=input_text"
    own = await api.get(address)
    assert (await api.get(address)).status_code == own.status_code == 200
    assert (await api.get(address, headers=bearer("developer", ["beta"]))).status_code == 403
    assert (await api.get(address, headers={"Authorization": "Bearer x.y.z"})).status_code == 401
    billing = await api.get(address, headers=bearer("billing", ["alpha"]))
    assert billing.json()["meta"]["hidden_fields"] == ["input_text"]
    assert "hidden_fields" not in (await api.get(address)).json()["meta"]
    assert (await api.get(address)).json()["data"] == own.json()["data"]


async def test_a_window_that_moves_does_not_stand_still_while_its_address_is_known(
    api: httpx.AsyncClient, app_server: AppServer
) -> None:
    address = "/api/v1/traces?from=now-1h&to=now&limit=47"
    assert (await api.get(address)).json()["data"] == []
    late = datetime.now(UTC)
    await store(app_server.services, "alpha", make_span(ts=late, span_id="late"))
    await app_server.services.freshness.touched({"alpha": Touched(late, late, frozenset())})
    assert len((await api.get(address)).json()["data"]) == 1
