"""New and late spans are visible within a second, whichever process took them and whichever answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx

from server.telemetry.observations import CacheAsked, Observation, subscribe
from tests.conftest import AppFactory, ProjectMaker
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]


def export(trace_id: str, span_id: str, started_ns: int) -> dict[str, Any]:
    """Return an OTLP request with one model call."""
    span = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": "chat",
        "startTimeUnixNano": str(started_ns),
        "endTimeUnixNano": str(started_ns + 1_000_000),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4o"}},
            {"key": "gen_ai.conversation.id", "value": {"stringValue": "talk"}},
        ],
    }
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}


async def until(client: httpx.AsyncClient, path: str, headers: dict[str, str], found: Callable[[Any], bool]) -> float:
    """Return the seconds until the answer at ``path`` satisfies ``found``. Fails long before a stored answer would end
    by itself, and leaves a busy test machine time.
    """
    begun = time.monotonic()
    while True:
        body = (await client.get(path, headers=headers)).json()
        took = time.monotonic() - begun
        if found(body):
            return took
        assert took < 5.0, path
        await asyncio.sleep(0.02)


async def test_spans_taken_by_one_process_are_seen_through_another_within_a_second(
    start_app: AppFactory, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("alpha")
    headers = bearer("developer", ["alpha"])
    writer, reader = await start_app(), await start_app()
    now = int(time.time())
    closed = f"from={now - 6 * 3600}&to={now - 2 * 3600}"
    paths: dict[str, Callable[[int], Callable[[Any], bool]]] = {
        "/api/v1/traces?from=now-1h&model=gpt-4o": lambda count: lambda body: len(body["data"]) == count,
        "/api/v1/traces?view=traces&from=now-1h": lambda count: lambda body: len(body["data"]) == 1,
        f"/api/v1/traces/{'a' * 32}": lambda count: lambda body: body["data"]["totals"]["span_count"] == count,
        "/api/v1/sessions/talk": lambda count: lambda body: body["data"]["span_count"] == count,
        "/api/v1/facets/model": lambda count: lambda body: body["data"] == [{"value": "gpt-4o", "count": count}],
    }
    async with (
        httpx.AsyncClient(base_url=writer.base_url, timeout=20) as sender,
        httpx.AsyncClient(base_url=reader.base_url, timeout=20) as client,
    ):
        for count in (1, 2, 3):
            body = export("a" * 32, f"{count:016x}", (now - 60) * 1_000_000_000 + count)
            sent = await sender.post("/v1/traces", json=body, headers=headers)
            assert sent.status_code == 200, sent.text
            for path, expected in paths.items():
                await until(client, path, headers, expected(count))
                # Now it is remembered: the next round must get past that.
                assert (await client.get(path, headers=headers)).json()["meta"]["cached"] is True
        # A closed window is remembered for longer, and still gives way to a late span.
        assert (await client.get(f"/api/v1/traces?{closed}", headers=headers)).json()["data"] == []
        assert (await client.get(f"/api/v1/traces?{closed}", headers=headers)).json()["meta"]["cached"] is True
        late = export("b" * 32, "f" * 16, (now - 3 * 3600) * 1_000_000_000)
        assert (await sender.post("/v1/traces", json=late, headers=headers)).status_code == 200
        await until(client, f"/api/v1/traces?{closed}", headers, lambda body: len(body["data"]) == 1)


async def test_a_stampede_over_http_asks_the_database_once_or_twice(
    start_app: AppFactory, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("alpha")
    # A busy test machine must not look like a lost Redis: without it every process asks for itself.
    app_server = await start_app(redis_timeout=5.0)
    await store(app_server.services, "alpha", [make_span() for _ in range(20)])
    headers = bearer("developer", ["alpha"])
    misses: list[Observation] = []

    def count(observation: Observation) -> None:
        if isinstance(observation, CacheAsked) and observation.outcome == "miss":
            misses.append(observation)

    subscribe(count)
    limits = httpx.Limits(max_connections=60)
    async with httpx.AsyncClient(base_url=app_server.base_url, limits=limits, timeout=30) as client:
        path = "/api/v1/traces?from=now-2h&sort_by=cost"
        answers = await asyncio.gather(*(client.get(path, headers=headers) for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({str(answer.json()["data"]) for answer in answers}) == 1
    assert 1 <= len(misses) <= 2


async def test_what_was_deleted_is_gone_everywhere_when_the_deletion_is_answered(
    start_app: AppFactory, project: ProjectMaker, bearer: Bearer
) -> None:
    await project("alpha")
    headers = bearer("admin", ["alpha"])
    writer, reader = await start_app(), await start_app()
    panel = {
        "range": {"from": "now-1h", "to": "now", "raw": {"from": "now-1h", "to": "now"}},
        "targets": [{"refId": "A", "target": "spans", "payload": {}}],
        "intervalMs": 60000,
        "maxDataPoints": 100,
    }
    async with (
        httpx.AsyncClient(base_url=writer.base_url, timeout=20, headers=headers) as sender,
        httpx.AsyncClient(base_url=reader.base_url, timeout=20, headers=headers) as client,
    ):

        async def seen() -> list[bool]:
            paths = (f"/api/v1/traces/{trace}", "/api/v1/traces?from=now-1h", "/api/v1/sessions/talk")
            texts = [(await client.get(path)).text for path in paths]
            texts.append((await client.post("/grafana/query", json=panel)).text)
            return [trace in text for text in texts]

        for attempt in range(3):
            trace, other = (f"{attempt:x}" * 31 + digit for digit in "ab")
            now = time.time_ns()
            await sender.post("/v1/traces", json=export(trace, "1" * 16, now - 10**9))
            await asyncio.sleep(0.5)
            await seen()
            assert (await seen())[:2] == [True, True], "it is remembered now"
            # A commit just before: the tokens of the next one would wait for their turn.
            await sender.post("/v1/traces", json=export(other, "2" * 16, now - 10**9))
            assert (await sender.delete(f"/api/v1/traces/{trace}")).status_code == 200
            assert await seen() == [False] * 4


async def test_projects_are_known_and_forgotten_everywhere_when_the_caller_is_told(
    start_app: AppFactory, bearer: Bearer
) -> None:
    one, two = await start_app(), await start_app()
    every, developer = bearer("admin", ["*"]), bearer("developer", ["fresh"])
    async with (
        httpx.AsyncClient(base_url=one.base_url, timeout=20, headers=every) as admin,
        httpx.AsyncClient(base_url=two.base_url, timeout=20, headers=developer) as tenant,
    ):
        assert (await tenant.get("/api/v1/projects")).json()["data"] == [], "the list is read, and kept"
        assert (await admin.post("/api/v1/projects", json={"project_id": "fresh"})).status_code == 201
        body = export("a" * 32, "1" * 16, time.time_ns() - 10**9)
        answers = await asyncio.gather(*(tenant.post("/v1/traces", json=body) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert (await admin.delete("/api/v1/projects/fresh")).status_code == 200
        assert (await tenant.post("/v1/traces", json=body)).status_code != 200
        assert (await tenant.get("/api/v1/traces")).json()["data"] == []
