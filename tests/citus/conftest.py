"""These tests need a cluster: ``make test-citus``."""

from __future__ import annotations

import asyncpg
import pytest

from tests.citus.citus_cluster import PROGRAMS, SWITCH, is_on_citus, on_node, socket_of
from tests.conftest import ProjectMaker

AWAY = "w2"
HOME = """
SELECT p.groupid FROM pg_dist_placement p
WHERE p.shardid = get_shard_id_for_distribution_column('llm_traces', $1::text)
"""
HOST = f"SELECT nodename FROM pg_dist_node WHERE groupid = ({HOME})"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not is_on_citus() and "/citus/" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=f"needs {PROGRAMS} and {SWITCH}=citus: make test-citus"))


@pytest.fixture
async def pair(owner: asyncpg.Connection, owner_url: str, project: ProjectMaker) -> tuple[str, str]:
    """Two projects: one on the first worker, one on the second, which may go away."""
    found: dict[bool, str] = {}
    for number in range(12):
        name = await project(f"project-{number}")
        host = await owner.fetchval(HOST, name)
        found.setdefault(host == socket_of(on_node(owner_url, AWAY)), name)
        if len(found) == 2:
            break
    return found[False], found[True]
