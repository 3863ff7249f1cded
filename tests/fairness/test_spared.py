"""Work that anybody may ask for is done only so often."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic

import httpx
import pytest

from server.fairness import spared
from server.fairness.pace import Pace
from server.fairness.party import SERVER, Party, current_party
from server.fairness.spared import Spared
from server.rest import health_routes
from server.rest.openapi.static_document import accepts_gzip
from server.schema import migrate
from tests.conftest import AppServer


async def test_those_who_ask_at_once_get_one_answer_and_later_ones_a_new_one() -> None:
    made: list[Party] = []

    async def make() -> int:
        made.append(current_party.get())
        await asyncio.sleep(0.01)
        return len(made)

    answer: Spared[int] = Spared()
    current_party.set(Party("somebody", "somebody"))
    assert set(await asyncio.gather(*(answer.get(make) for _ in range(50)))) == {1}
    assert await answer.get(make) == 2, "who asks now and then gets what is true at that moment"
    assert made == [SERVER, SERVER]


async def test_beyond_so_many_a_second_the_last_answer_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spared, "monotonic", lambda: 1000.0)
    made = 0

    async def make() -> int:
        nonlocal made
        made += 1
        return made

    answer: Spared[int] = Spared()
    for _ in range(100):
        await answer.get(make)
    assert made == spared.AT_ONCE
    monkeypatch.setattr(spared, "monotonic", lambda: 1000.25)
    for _ in range(100):
        await answer.get(make)
    assert made == spared.AT_ONCE + 2


async def test_a_failure_is_everybodys_and_is_not_kept() -> None:
    async def fail() -> int:
        raise OSError

    async def succeed() -> int:
        return 1

    answer: Spared[int] = Spared()
    failed = await asyncio.gather(*(answer.get(fail) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(item, OSError) for item in failed)
    assert await answer.get(succeed) == 1


async def test_a_flood_without_credential_takes_few_connections_to_the_database(
    app_server: AppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    original = migrate.pending_migrations

    async def counted(*arguments: object) -> list[str]:
        nonlocal asked
        asked += 1
        return await original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(health_routes, "pending_migrations", counted)
    async with httpx.AsyncClient(base_url=app_server.base_url) as http:
        answers = await asyncio.gather(*(http.get("/ready") for _ in range(60)))
        answers += await asyncio.gather(*(http.get("/metrics") for _ in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    assert asked <= 20


async def test_documents_without_a_credential_come_at_a_steady_pace(
    app_server: AppServer, client: httpx.AsyncClient
) -> None:
    """Five hundred connections that asked for the description of the API once kept everybody waiting for seconds."""
    app_server.app.ctx.documents = Pace(3, 5)
    began = monotonic()
    for path in ("/openapi.json", "/docs", "/docs/explorer.js", "/docs/errors", "/metrics"):
        assert (await client.get(path)).status_code == 200
    assert monotonic() - began >= 0.35  # two beyond three, at five a second


async def test_who_takes_very_many_documents_is_refused(app_server: AppServer) -> None:
    """The pace alone had hundreds wait until one moment, at which the server wrote to all of them."""
    app_server.app.ctx.documents = Pace(3, 5, 1.0)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=app_server.base_url, limits=limits) as http:
        answers = await asyncio.gather(*(http.get("/openapi.json") for _ in range(60)))
        probes = [(await http.get("/live")).status_code for _ in range(5)]
    given = Counter(answer.status_code for answer in answers)
    assert set(given) == {200, 429}
    assert 3 <= given[200] <= 12  # three at once, five that wait, and those whose turn comes meanwhile
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["retry-after"] == "1"
    assert probes == [200] * 5


async def test_a_flood_of_small_open_answers_comes_at_a_steady_pace_by_route(app_server: AppServer) -> None:
    """Five hundred connections that asked for /live again and again took the event loop."""
    app_server.app.ctx.opened = Pace(5, 50, 0.5)
    async with httpx.AsyncClient(base_url=app_server.base_url) as http:
        for path in ("/live", "/.well-known/jwks.json"):
            began = monotonic()
            answers = await asyncio.gather(*(http.get(path) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            assert monotonic() - began >= 0.25  # fifteen beyond five, at fifty a second
        began = monotonic()
        await http.get("/ready")
        assert monotonic() - began < 0.25, "each route has a pace of its own"


async def test_documents_are_sent_compressed_to_those_who_accept_it(client: httpx.AsyncClient) -> None:
    for path in ("/openapi.json", "/docs", "/docs/explorer.js", "/docs/explorer.css", "/docs/errors"):
        plain = await client.get(path, headers={"Accept-Encoding": "identity"})
        packed = await client.get(path, headers={"Accept-Encoding": "br;q=1.0, gzip;q=0.8, *;q=0.1"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
        tags = [plain.headers["etag"], packed.headers["etag"]]
        assert tags[0] != tags[1]
        again = await client.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": ", ".join(tags)})
        assert (again.status_code, again.headers["etag"]) == (304, tags[1])


@pytest.mark.parametrize(
    ("accept_encoding", "is_accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP ; Q=0.001", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity, gzip;q=0.0", False),
        ("gzip;level=9", False),
        ("x-gzip-like", False),
        (",;,gzip;q=2", False),
    ],
)
def test_gzip_is_used_where_the_header_allows_it(accept_encoding: str | None, *, is_accepted: bool) -> None:
    assert accepts_gzip(accept_encoding) is is_accepted
