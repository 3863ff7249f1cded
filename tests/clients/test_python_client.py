"""The Python client of docs/clients/python against a running server, sync and async."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

PACKAGE = Path(__file__).resolve().parents[2] / "docs" / "clients" / "python"
sys.path.insert(0, str(PACKAGE))

import llm_observatory_client as api  # noqa: E402

NOW = datetime.now(UTC)


@pytest.fixture
async def server(app_server: AppServer, project: ProjectMaker) -> AppServer:
    """A server with seven spans."""
    await project("alpha")
    spans = [
        make_span(ts=NOW - timedelta(minutes=n), trace_id=f"{n + 1:032x}", span_id=f"{n + 1:016x}", model=f"m{n % 2}")
        for n in range(7)
    ]
    await store(app_server.services, "alpha", spans)
    return app_server


@pytest.fixture
def credential(token: Callable[..., str]) -> str:
    return token("developer", ["alpha"])


async def test_the_sync_client_pages_searches_and_makes_frames(server: AppServer, credential: str) -> None:
    def use() -> None:
        with api.Client(server.base_url, credential) as client:
            rows = list(client.traces(limit=3))
            assert [row["span_id"] for row in rows] == [f"{n + 1:016x}" for n in range(7)]
            assert len(list(client.traces(model=["m1"], from_="now-1d", has_error=False))) == 3
            searched = client.search({"filter": {"field": "model", "operator": "eq", "value": "m0"}, "limit": 2})
            assert len(list(searched)) == 4
            assert client.trace(f"{1:032x}")["spans"][0]["span_id"] == f"{1:016x}"
            assert sum(row["value"] for row in client.metrics("calls", from_="now-1d", group_by="model")) == 7
            assert client.costs(from_="now-1d")["overview"]["calls"] == 7
            assert len(list(client.sessions())) + len(list(client.users())) >= 0
            assert client.score(f"{1:032x}", "helpful", True, score_id="s")["name"] == "helpful"
            pandas, polars = api.to_pandas(rows), api.to_polars(rows)
            assert (len(pandas), str(pandas["ts"].dt.tz)) == (7, "UTC")
            assert (polars.height, str(polars["ts"].dtype)) == (7, "Datetime(time_unit='us', time_zone='UTC')")

    await asyncio.to_thread(use)


async def test_the_async_client_pages_and_raises_errors_by_kind(server: AppServer, credential: str) -> None:
    async with api.AsyncClient(server.base_url, credential) as client:
        assert len([row async for row in client.traces(limit=2)]) == 7
        with pytest.raises(api.NotFound) as missing:
            await client.trace("f" * 32)
        assert (missing.value.code, missing.value.status) == ("trace_not_found", 404)
        with pytest.raises(api.InvalidRequest) as wrong:
            await client.metrics("nonsense", from_="now-1h")
        assert wrong.value.code == "unknown_metric"
        with pytest.raises(api.AccessDenied):
            await client.request("GET", "/api/v1/audit")
    async with api.AsyncClient(server.base_url, "not-a-token") as stranger:
        with pytest.raises(api.InvalidCredential):
            await stranger.costs()


async def test_the_live_tail_yields_spans_with_any_text(server: AppServer, credential: str) -> None:
    """A line separator within a text is no end of an event."""
    text = "one\u2028two\u0085three\nfour"
    async with api.AsyncClient(server.base_url, credential) as client, asyncio.timeout(60):
        async for event in client.live(fields="span_id,output_text"):
            if event.event == "heartbeat":
                await store(server.services, "alpha", make_span(ts=NOW, span_id="a" * 16, output_text=text))
            elif event.event == "span":
                assert event.data["output_text"] == text
                break


class Answers:
    """A server that answers what it is told to, in order."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers: Iterator[httpx.Response | Exception] = iter(answers)
        self.asked = 0

    def __call__(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def busy(retry_after: str | None, status: int = 429) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, json={"code": "rate_limited", "status": status}, headers=headers)


def good() -> httpx.Response:
    return httpx.Response(200, json={"data": [], "next_cursor": None})


QUICK = api.Retries(attempts=3, first_wait=0.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of the async client, which do not happen."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("llm_observatory_client.async_client.asyncio.sleep", sleep)
    return waits


def made(answers: Answers, **options: Any) -> api.AsyncClient:
    transport = httpx.MockTransport(answers)
    return api.AsyncClient("http://server", "t", transport=transport, **{"retries": QUICK, **options})


async def test_a_refused_request_waits_as_long_as_the_server_says(asked: list[float]) -> None:
    answers = Answers(busy("7"), busy(None, 503), good())
    async with made(answers) as client:
        assert [row async for row in client.traces()] == []
    assert (answers.asked, asked) == (3, [7, 0])


async def test_a_request_that_changes_something_is_only_repeated_if_it_was_refused(asked: list[float]) -> None:
    answers = Answers(busy("1"), httpx.ReadError("gone"))
    async with made(answers) as client:
        with pytest.raises(api.TransportFailed):
            await client.score("f" * 32, "helpful", 1)
    assert answers.asked == 2


async def test_retries_end(asked: list[float]) -> None:
    answers = Answers(busy("1"), busy("1"), busy("1"), good())
    async with made(answers) as client:
        with pytest.raises(api.RateLimited) as refused:
            await client.costs()
    assert (refused.value.retry_after, answers.asked) == (1, 3)
    patient = Answers(busy("3600"), good())
    async with made(patient) as client:
        with pytest.raises(api.RateLimited):
            await client.costs()
    assert patient.asked == 1, "an hour is longer than the longest wait"


@pytest.mark.parametrize("token", ["", " \n", "two words", "schlüssel"])
def test_a_token_that_cannot_be_one_is_refused_before_anything_is_sent(token: str) -> None:
    for client in (api.Client, api.AsyncClient):
        with pytest.raises(ValueError, match="token"):
            client("http://127.0.0.1:9", token)
