"""The coverage of a range by vectors: counters that are as good as counting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx

from server.queries.filters.time_range import TimeRange
from server.semantic.coverage import count_rows, count_vectors
from server.storage.row_scope import RowScope
from server.upkeep.retention import apply_retention
from tests.conftest import AppServer, ProjectMaker
from tests.semantic.conftest import IndexerMaker
from tests.semantic.conversations import NOW, EmbedAll, spoken
from tests.semantic.test_meaning_lists import rows_of
from tests.span_factory import make_span, store

COUNTED = """
SELECT project_id, model_id, date_trunc('hour', ts, 'UTC') AS hour, count(*) AS vectors
FROM span_vectors WHERE bits IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
KEPT = """
SELECT project_id, model_id, hour, sum(vectors)::bigint AS vectors
FROM vector_counts GROUP BY 1, 2, 3 HAVING sum(vectors) <> 0 ORDER BY 1, 2, 3
"""


async def check_counters(owner: Any) -> int:
    """Check that the counters equal a count of the rows; return the number of vectors."""
    counted = [tuple(row) for row in await owner.fetch(COUNTED)]
    assert [tuple(row) for row in await owner.fetch(KEPT)] == counted
    return sum(row[-1] for row in counted)


async def test_counters_follow_vectors_whatever_becomes_of_them(
    server: AppServer,
    project: ProjectMaker,
    embed_all: EmbedAll,
    make_indexer: IndexerMaker,
    owner: Any,
    http: httpx.AsyncClient,
) -> None:
    for name in ("alpha", "beta"):
        await project(name)
    spans = [spoken(f"money {n}", ts=NOW - timedelta(minutes=25 * n)) for n in range(20)]
    old = [spoken(f"old rain {n}", ts=NOW - timedelta(weeks=3, minutes=n)) for n in range(3)]
    await store(server.services, "alpha", [*spans, *old, make_span(ts=NOW)])
    await store(server.services, "beta", [spoken("money", ts=NOW)])
    await embed_all()
    assert await check_counters(owner) == 24

    assert (await http.delete(f"/api/v1/traces/{spans[0].trace_id}", params={"project_id": "alpha"})).status_code < 300
    assert await check_counters(owner) == 23

    # Another text, no text any more, another start.
    await store(server.services, "alpha", replace(spans[1], input_text="rain", input_messages=None, duration_ms=900.0))
    await store(server.services, "alpha", replace(spans[2], operation_type="tool", duration_ms=900.0))
    await store(server.services, "alpha", replace(spans[3], ts=spans[3].ts - timedelta(hours=2), duration_ms=900.0))
    await embed_all()
    assert await check_counters(owner) == 22

    for number in range(12):  # many small batches within an hour
        await store(server.services, "beta", [spoken(f"soup {number}", ts=NOW)])
        await embed_all()
    assert await check_counters(owner) == 34
    rows = await owner.fetchval("SELECT count(*) FROM vector_counts WHERE project_id = 'beta'")
    assert rows < 10, "they are put together"

    await owner.execute("UPDATE embedding_lease SET expires_at = now() - interval '1 hour'")
    renewed = make_indexer(server.services, embeddings_model="words-2")
    assert await renewed.step()
    assert await check_counters(owner) == 34
    while await renewed.step():
        pass
    await renewed._embedder.close()
    assert await check_counters(owner) == 34
    assert len({row["model_id"] for row in await owner.fetch(KEPT)}) == 1

    now = datetime.now(UTC)
    await apply_retention(server.services.worker, replace(server.services.settings, retention_days=8), now)
    assert await check_counters(owner) == 31

    await owner.execute("UPDATE projects SET deleted_at = now() - interval '2 days' WHERE project_id = 'beta'")
    await server.services.access.housekeeping.tidy()
    assert await check_counters(owner) == 18


async def test_the_coverage_of_any_range_is_what_counting_would_say(
    server: AppServer, http: httpx.AsyncClient, project: ProjectMaker, embed_all: EmbedAll
) -> None:
    await project("alpha")
    hour = NOW.replace(minute=0, second=0, microsecond=0)
    starts = [hour - timedelta(minutes=17 * n, microseconds=n % 3) for n in range(30)]
    await store(server.services, "alpha", [spoken(f"money {n}", ts=ts) for n, ts in enumerate(starts)])
    await store(server.services, "alpha", [make_span(ts=ts) for ts in starts[::5]])
    await embed_all()
    edges = [
        hour - timedelta(hours=10),
        starts[20],
        hour - timedelta(hours=3),
        hour - timedelta(hours=2, minutes=50),
        starts[4],
        hour - timedelta(minutes=17),
        hour,
        hour + timedelta(microseconds=1),
    ]
    windows = [TimeRange(*pair) for pair in (*pairwise(edges), (edges[0], edges[4]), (edges[2], edges[6]))]
    windows += [TimeRange(), TimeRange(edges[3], None), TimeRange(None, edges[3])]
    for window in windows:
        inside = [
            ts for ts in starts if (window.start is None or ts >= window.start) and (not window.end or ts < window.end)
        ]
        silent = [ts for ts in starts[::5] if ts in inside]
        scope, expected = RowScope(("alpha",)), (len(inside), len(inside) + len(silent))
        reads = server.services.reads
        assert (await count_vectors(reads, scope, window, [1]), await count_rows(reads, scope, window)) == expected
        if window.start and window.end:
            bounds = {"from": window.start.isoformat(), "to": window.end.isoformat()}
            told = (await rows_of(http, meaning="money", project_id="alpha", **bounds))["meta"]["meaning"]
            assert (told["rows_with_vectors"], told["rows_in_range"]) == expected, window


async def test_rows_looked_at_are_those_that_pass_the_filter(http: httpx.AsyncClient, corpus: dict[str, Any]) -> None:
    for params, looked_at in (({}, 5), ({"model": "o1"}, 1), ({"view": "traces"}, 5), ({"user_id": "nobody"}, 0)):
        answer = await rows_of(http, meaning="money", project_id="alpha", **params)
        coverage = answer["meta"]["meaning"]
        assert coverage["rows_looked_at"] == looked_at, params
        assert (coverage["rows_in_range"], coverage["rows_with_vectors"]) == (7, 5)
        assert not any("newest" in note for note in coverage["notes"])


async def test_a_bound_that_was_reached_is_told(
    server: AppServer, http: httpx.AsyncClient, corpus: dict[str, Any]
) -> None:
    server.services.meaning._most = 3
    answer = await rows_of(http, meaning="furious about money", project_id="alpha")
    assert len(answer["data"]) == 3
    assert answer["meta"]["meaning"]["rows_looked_at"] == 3
    assert any("Only the newest 3 rows" in note for note in answer["meta"]["meaning"]["notes"])
