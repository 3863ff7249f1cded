"""Work that anybody may ask for is done only so often."""

from __future__ import annotations

import asyncio
from time import monotonic

import httpx
import pytest

from server.fairness import spared
from server.fairness.pace import Pace
from server.fairness.party import SERVER, Party, current_party
from server.fairness.spared import Spared
from server.rest import health_routes
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
    for path in ("/openapi.json", "/docs", "/docs/explorer.js", "/docs/errors", "/openapi.json"):
        assert (await client.get(path)).status_code == 200
    assert monotonic() - began >= 0.35  # two beyond three, at five a second
