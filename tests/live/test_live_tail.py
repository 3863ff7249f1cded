"""GET /api/v1/traces/live: what is stored is seen, once, by those whom it concerns."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from server.live import live_feed, live_stream
from server.live.live_tail import RESUME_SECONDS
from server.queries.lists import change_reader
from tests.conftest import AppFactory, AppServer
from tests.live.conftest import LIVE, store_live, tail
from tests.span_factory import make_span

MANY = 40


async def test_spans_come_as_rows_of_lists_and_a_later_report_is_an_update(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str]
) -> None:
    running = make_span(user_id="ü", duration_ms=1.0, status_code="UNSET")
    async with tail(client, alpha, fields="all") as live:
        await store_live(app_server.services, "alpha", running, make_span(tags=["a", "b"]))
        await live.until(lambda live: len(live.spans) == 2)
        listed = (await client.get("/api/v1/traces?sort_order=asc&fields=all", headers=alpha)).json()["data"]
        assert [event.data for event in live.named("span")] == listed
        ended = make_span(ts=running.ts, trace_id=running.trace_id, span_id=running.span_id, duration_ms=99.0)
        await store_live(app_server.services, "alpha", ended)
        await live.until(lambda live: live.named("update"))
        assert [event.data["duration_ms"] for event in live.named("update")] == [99.0]
        await store_live(app_server.services, "alpha", ended)  # a replay changes nothing
        await store_live(app_server.services, "alpha", make_span(span_id="f" * 16))
        await live.until(lambda live: "f" * 16 in live.spans)
        assert len(live.spans) == 4


async def test_filters_fields_content_and_projects_are_those_of_the_caller(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str], bearer: Any
) -> None:
    billing = bearer("billing", ["alpha"])
    everything = bearer("admin", ["*"])
    async with (
        tail(client, alpha, model="gpt-4o", fields="core,input_text") as by_model,
        tail(client, alpha, search="giraffe") as by_text,
        tail(client, billing, fields="all") as without_content,
        tail(client, everything, fields="core") as of_all,
    ):
        mine = make_span(input_text="a giraffe", user_id="u")
        await store_live(app_server.services, "alpha", mine, make_span(model="o3", request_model="o3"))
        await store_live(app_server.services, "beta", make_span(input_text="a giraffe of beta"))
        await of_all.until(lambda live: len(live.spans) == 3)
        await without_content.until(lambda live: len(live.spans) == 2)
        await by_model.until(lambda live: live.spans)
        await by_text.until(lambda live: live.spans)
        assert by_model.spans == by_text.spans == [mine.span_id]
        assert by_model.events[-1].data["input_text"] == "a giraffe"
        assert {event.data["input_text"] for event in without_content.named("span")} == {None}
        assert {event.data["project_id"] for event in of_all.named("span")} == {"alpha", "beta"}
    for params, headers, status in (
        ({"search": "giraffe"}, billing, 403),
        ({"project_id": "beta"}, alpha, 403),
        ({"limit": "5"}, alpha, 400),
        ({"from": "now-1h"}, alpha, 400),
        ({"view": "traces"}, alpha, 400),
        ({"nonsense": "1"}, alpha, 400),
        ({"last_event_id": "17"}, alpha, 400),
        ({"last_event_id": f"{int(time.time())}/9:3:"}, alpha, 400),
        ({}, bearer("developer", ["alpha"], scopes=["metrics:read"]), 403),
        ({}, {}, 401),
    ):
        answer = await client.get(LIVE, params=params, headers=headers)
        assert answer.status_code == status, (params, answer.text)


async def test_a_transaction_that_began_earlier_and_commits_later_is_not_missed(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str]
) -> None:
    services = app_server.services
    slow, quick = make_span(), make_span()
    await store_live(services, "alpha", slow)
    async with tail(client, alpha) as live:
        async with services.writes.write(["alpha"]) as connection:
            await connection.execute(
                "INSERT INTO span_feed (project_id, trace_ids, span_ids, starts, updates)"
                " VALUES ('alpha', $1, $2, $3, '{false}')",
                [slow.trace_id],
                [slow.span_id],
                [slow.ts],
            )
            await store_live(services, "alpha", quick)
            await live.until(lambda live: live.spans)
        await live.until(lambda live: len(live.spans) == 2)
        assert live.spans == [quick.span_id, slow.span_id]


async def test_who_comes_back_with_an_id_gets_the_rest_and_nothing_twice_from_any_process(
    start_app: AppFactory, alpha: dict[str, str]
) -> None:
    writer, reader = await start_app(), await start_app(live_streams=MANY * 2)
    spans = [make_span(ts=make_span().ts + timedelta(seconds=number)) for number in range(MANY)]
    async with httpx.AsyncClient(base_url=reader.base_url, timeout=30) as http, tail(http, alpha) as whole:
        for start in range(0, MANY, 7):
            await store_live(writer.services, "alpha", *spans[start : start + 7])
            await asyncio.sleep(0.03)
        await whole.until(lambda live: len(live.spans) == MANY)
        assert whole.spans == [span.span_id for span in spans]
        events = whole.named("span")
        for number in range(0, MANY, 5):
            headers = {**alpha, "Last-Event-ID": events[number].id}
            async with tail(http, headers) as again, tail(http, alpha, last_event_id=events[number].id) as by_param:
                for live in (again, by_param):
                    await live.until(lambda live: len(live.spans) >= MANY - number - 1)  # noqa: B023
                    assert live.spans == whole.spans[number + 1 :]
        expected = whole.spans[-2:]
        async with tail(http, {**alpha, "Last-Event-ID": events[-3].id}) as again:
            late = make_span()
            await store_live(writer.services, "alpha", late)
            await again.until(lambda live: late.span_id in live.spans)
            assert again.spans == [*expected, late.span_id]


async def test_an_id_from_too_long_ago_or_another_database_is_answered_with_a_gap(
    client: httpx.AsyncClient, alpha: dict[str, str]
) -> None:
    now = int(time.time())
    for given, reason in (
        (f"{now - RESUME_SECONDS}/5:5:", "expired"),
        (f"{now}/999999999:999999999:", "other_database"),
    ):
        async with tail(client, {**alpha, "Last-Event-ID": given}) as live:
            assert live.events[0].name == "gap"
            assert live.events[0].data == {"count": None, "reason": reason, "resume_from": None}


async def test_a_slow_reader_is_told_what_it_missed_and_slows_nobody(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_stream, "BUFFER_BYTES", 200_000)
    total = 300
    url = httpx.URL(app_server.base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1 << 12)
    headers = "".join(f"{name}: {value}\r\n" for name, value in alpha.items())
    writer.write(f"GET {LIVE}?fields=all HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    await reader.readuntil(b"event: heartbeat")
    async with tail(client, alpha, fields="core") as quick:
        for _ in range(total // 10):
            await store_live(app_server.services, "alpha", *(make_span(input_text="x" * 90_000) for _ in range(10)))
        await quick.until(lambda live: len(live.spans) == total)
    (slow,) = [stream for stream in app_server.services.live.streams if "input_text" in stream.selection.fields]
    assert slow.waiting_bytes <= 300_000
    got = gaps = 0
    async with asyncio.timeout(20):
        while got + gaps < total:
            line = await read_line(reader)
            got += line == b"event: span"
            if line == b"event: gap":
                gaps += int((await read_line(reader)).partition(b'"count":')[2].partition(b",")[0])
    assert got + gaps == total
    assert gaps == slow.lost > 0
    writer.close()


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """Read a line, without the part that is too long for the buffer."""
    line = b""
    while True:
        try:
            return (line + await reader.readuntil(b"\n")).rstrip()[:200]
        except asyncio.LimitOverrunError as error:
            line = (line + await reader.readexactly(error.consumed))[:200]


async def test_expiry_revocation_and_deletion_end_a_stream_within_five_seconds(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str], bearer: Any
) -> None:
    admin = bearer("admin", ["*"])
    key = await client.post(
        "/api/v1/keys", headers=admin, json={"label": "x", "kind": "dashboard", "projects": ["alpha"]}
    )
    revoked = {"X-API-Key": key.json()["data"]["key"]}
    async with (
        tail(client, bearer("viewer", ["alpha"], ttl=2)) as expiring,
        tail(client, revoked) as taken_back,
        tail(client, bearer("viewer", ["beta"], scopes=["traces:read"]), project_id="beta") as deleted,
        tail(client, alpha) as unharmed,
    ):
        assert (await client.delete(f"/api/v1/keys/{key.json()['data']['key_id']}", headers=admin)).status_code < 300
        assert (await client.delete("/api/v1/projects/beta", headers=admin)).status_code < 300
        for live, reason in (
            (taken_back, "invalid_token"),
            (deleted, "project_forbidden"),
            (expiring, "invalid_token"),
        ):
            await live.until(lambda live: live.is_over, seconds=5)
            assert live.events[-1].name == "goodbye"
            assert live.events[-1].data == {"reason": reason, "retry_ms": None}
        await store_live(app_server.services, "alpha", make_span())
        await unharmed.until(lambda live: live.spans)


async def test_streams_are_limited_and_a_client_that_leaves_is_forgotten(
    start_app: AppFactory, alpha: dict[str, str], bearer: Any
) -> None:
    server = await start_app(live_streams=2, live_streams_total=3)
    other = bearer("developer", ["alpha"], subject="another")
    async with httpx.AsyncClient(base_url=server.base_url, timeout=30) as http:
        async with tail(http, alpha), tail(http, alpha):
            refused = await http.get(LIVE, headers=alpha)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_concurrent")
            async with tail(http, other):
                full = await http.get(LIVE, headers=other)
                assert (full.status_code, full.json()["code"]) == (503, "overloaded")
        async with asyncio.timeout(5):
            while server.services.live.streams:
                await asyncio.sleep(0.01)
        async with tail(http, alpha):
            pass


async def test_without_redis_spans_come_before_the_next_heartbeat(start_app: AppFactory, alpha: dict[str, str]) -> None:
    writer, reader = await start_app(redis_url=""), await start_app(redis_url="")
    async with httpx.AsyncClient(base_url=reader.base_url, timeout=30) as http, tail(http, alpha) as live:
        for number in range(3):
            begun = time.monotonic()
            await store_live(writer.services, "alpha", make_span())
            await live.until(lambda live: len(live.spans) > number)  # noqa: B023
            assert time.monotonic() - begun < 5  # the next heartbeat would be later


async def test_a_database_that_loses_its_connections_loses_no_span(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str], owner: asyncpg.Connection
) -> None:
    spans = [make_span() for _ in range(20)]
    async with tail(client, alpha) as live:
        for number, span in enumerate(spans):
            if number in (5, 12):
                await owner.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name LIKE '%reads'"
                )
            await store_live(app_server.services, "alpha", span)
        await live.until(lambda live: len(live.spans) == len(spans))
        assert live.spans == [span.span_id for span in spans]
        assert not live.named("gap", "goodbye")


async def test_a_filter_that_the_database_gives_up_on_ends_its_streams_only(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = change_reader.read_changed_spans

    async def gives_up(connection: Any, scope: Any, fields: Any, filters: Any, changes: Any) -> Any:
        if any(filters):
            await connection.execute("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)")
        return await read(connection, scope, fields, filters, changes)

    async with tail(client, alpha, model="slow") as slow, tail(client, alpha) as live:
        await store_live(app_server.services, "alpha", make_span())
        await live.until(lambda live: live.spans)
        monkeypatch.setattr(live_feed, "read_changed_spans", gives_up)
        spans = [make_span() for _ in range(3)]
        for span in spans:
            await store_live(app_server.services, "alpha", span)
        await slow.until(lambda live: live.is_over)
        assert slow.events[-1].data == {"reason": "query_timeout", "retry_ms": 1000}
        await live.until(lambda live: len(live.spans) == 4)
        assert live.spans[1:] == [span.span_id for span in spans]


async def test_a_server_that_stops_says_when_to_come_back(
    app_server: AppServer, client: httpx.AsyncClient, alpha: dict[str, str]
) -> None:
    async with tail(client, alpha) as live:
        await app_server.services.live.drain()
        await live.until(lambda live: live.is_over)
        assert live.events[-1].data["reason"] == "draining"
        assert 500 <= live.events[-1].data["retry_ms"] <= 2500
        refused = await client.get(LIVE, headers=alpha)
        assert refused.status_code == 503
