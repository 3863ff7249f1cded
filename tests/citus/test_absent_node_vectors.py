"""Search by meaning while a node is away: vectors of all other projects are made, and its own when it is back."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from tests.citus.citus_cluster import let_in, shut_out
from tests.citus.conftest import AWAY
from tests.conftest import AppServer
from tests.semantic.conftest import IndexerMaker, endpoint, make_indexer, server, settings
from tests.semantic.conversations import NOW, spoken
from tests.span_factory import store

__all__ = ["endpoint", "make_indexer", "server", "settings"]
MADE = "SELECT project_id, count(*) FROM span_vectors WHERE vector IS NOT NULL AND project_id = $1 GROUP BY 1"


async def test_vectors_of_other_projects_are_made_meanwhile(
    server: AppServer, owner: asyncpg.Connection, owner_url: str, pair: tuple[str, str], make_indexer: IndexerMaker
) -> None:
    here, away = pair

    async def say(minute: int) -> None:
        for name in (here, away):  # the newest come first: those of the absent node
            at = NOW + timedelta(minutes=minute, seconds=name == away)
            await store(server.services, name, [spoken(f"minute {minute}", ts=at)])

    async def made(name: str) -> int:
        return int(await owner.fetchval(f"SELECT coalesce(sum(count), 0) FROM ({MADE}) AS each", name))

    indexer = make_indexer(server.services)

    async def work() -> None:
        while await indexer.step():
            pass

    await say(0)  # is found by the walk
    await work()
    assert [await made(name) for name in pair] == [1, 1]
    late = make_indexer(server.services, backlog=None)
    late._holder = indexer._holder
    await say(1)
    await indexer._hear()
    try:
        await shut_out(owner_url, AWAY)
        await work()
        assert await made(here) == 2
        assert not len(indexer.backlog), "nothing keeps the others waiting"
        while await late.step():  # walks through everything that is stored
            pass
        assert away in late._resting
        assert here not in late._resting
    finally:
        await let_in(owner_url, AWAY)
    for again in (indexer, late):
        again._resting = dict.fromkeys(again._resting, 0.0)
        again._walk.left_out = again._resting.keys()
    await work()
    assert [await made(name) for name in pair] == [2, 2]
    while await late.step():
        pass
    assert late._walk.is_over
    for one in (indexer, late):
        await one._embedder.close()
