"""A database that already holds the history of :mod:`tests.datasource.seed`: stored once, cloned by each test.

Imported by the conftest.py of the folders whose tests need it.
"""

from __future__ import annotations

import asyncio
import os

import asyncpg
import pytest

from server.app import build_services
from server.settings import Settings
from server.storage.statements import statement
from tests.citus import citus_cluster
from tests.citus.citus_cluster import is_on_citus
from tests.conftest import JWT_SECRET, Cluster
from tests.datasource.seed import ACME, GLOBEX, Seed, seed

SEEDED = f"observatory_seeded_{os.getpid()}"

# Each conftest.py that imports the fixture has one of its own; the database is made once all the same.
_stored: list[Seed] = []


@pytest.fixture(scope="session")
def seeded_history(cluster: Cluster, template_database: str) -> Seed:
    """Store the history in a database of its own; return its seed."""
    if _stored:
        return _stored[0]

    async def prepare() -> Seed:
        admin = await asyncpg.connect(cluster.url("postgres", "owner_url"))
        if is_on_citus():
            await citus_cluster.clone_database(cluster.url("postgres", "owner_url"), SEEDED, template_database)
        else:
            await admin.execute(f"CREATE DATABASE {SEEDED} TEMPLATE {template_database}")
        owner = await asyncpg.connect(cluster.url(SEEDED, "owner_url"))
        for project in (ACME, GLOBEX):
            await owner.execute(statement("create_project"), project, project)
        await owner.close()
        services = build_services(
            Settings(
                database_url=cluster.url(SEEDED),
                database_owner_url=cluster.url(SEEDED, "owner_url"),
                database_worker_url=cluster.url(SEEDED, "worker_url"),
                redis_url=cluster.urls.redis_url,
                database_distribution=citus_cluster.distribution(),
                jwt_secret=JWT_SECRET,
            )
        )
        await services.writes.open()
        try:
            return await seed(services)
        finally:
            await services.writes.close()
            await admin.close()
            if is_on_citus():
                await citus_cluster.close_database(cluster.url("postgres", "owner_url"), SEEDED)

    _stored.append(asyncio.run(prepare()))
    return _stored[0]


@pytest.fixture
def database_template(seeded_history: Seed) -> str:
    """The template that ``database_name`` clones."""
    return SEEDED


__all__ = ["database_template", "seeded_history"]
