"""The vectors that a process keeps: never more, less or older than what the database has."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from server.embedding.vectors import from_bytes, similarities, to_bits, to_bytes, to_sizes, unit
from server.queries.filters.time_range import TimeRange
from server.queries.lists import vector_memory
from server.queries.lists.nearest_reader import Nearest, NearQuestion, read_nearest
from server.queries.lists.query_plan import explained
from server.queries.lists.vector_cut import NOTHING, Bits, Measure, packed
from server.queries.lists.vector_memory import VectorMemory
from server.storage.row_scope import RowScope
from tests.conftest import AppServer, ProjectMaker
from tests.semantic.conversations import NOW, EmbedAll, spoken
from tests.semantic.test_coverage import COUNTED
from tests.semantic.test_meaning_lists import ids, rows_of
from tests.span_factory import store

GENERATOR = np.random.default_rng(5)
SMALL = 50_000
COLUMNS = ("project_id", "ts", "trace_id", "span_id", "model_id", "version", "text_hash", "bits", "sizes", "vector")


@pytest.mark.parametrize("dimensions", [7, 64, 100])
def test_rows_are_chosen_by_the_weight_of_the_signs_that_differ(dimensions: int) -> None:
    vectors = unit(GENERATOR.standard_normal((300, dimensions)).astype(np.float32))
    question = unit(GENERATOR.standard_normal((1, dimensions)).astype(np.float32))[0]
    levels = np.minimum(np.abs(question) / (2.5 * np.abs(question).mean()) * 8, 7).astype(int)
    expected = [int(levels[(vector > 0) != (question > 0)].sum()) for vector in vectors]
    signs = np.stack([packed(vector > 0) for vector in vectors], axis=1)
    measure = Measure(question)
    assert measure.of(signs).tolist() == expected
    ts = np.arange(300)
    large = np.abs(vectors) > 0.98 / np.sqrt(dimensions)
    sizes = np.stack([packed(line) for line in large])
    whole = Bits("p", ts, ts, np.array([f"s{n}".encode() for n in ts]), signs, sizes)
    best = sorted(range(300), key=lambda n: (expected[n], -n))[:20]
    assert measure.choose([whole], 20).ts.tolist() == best
    parts = [whole.rows(slice(200, 300)), whole.rows(slice(0, 150)), whole.rows(slice(150, 200))]
    chosen = measure.choose(parts[:2], 20)
    assert measure.choose(parts[2:], 20, chosen).ts.tolist() == best
    fine = np.minimum(np.abs(question) / (2.5 * np.abs(question).mean()) * 16, 15).astype(int)
    stand_in = np.where(vectors > 0, 1, -1) * np.where(large, 1.51, 0.4528)
    near = (stand_in * np.where(question > 0, fine, -fine)).sum(axis=1) / np.linalg.norm(stand_in, axis=1)
    found = measure.ordered(measure.choose(parts, 300))
    np.testing.assert_allclose(measure.likeness(found), near[found.ts] / np.where(large.any(1), 0.94, 0.798)[found.ts])
    own = measure.likeness(found)
    assert all((own[n], found.ts[n]) > (own[n + 1], found.ts[n + 1]) for n in range(299))
    assert measure.ordered(NOTHING) is NOTHING


def test_sizes_find_the_right_rows_among_far_fewer() -> None:
    """Of the right ten among 20,000, signs and sizes have more in the best 100 than signs alone, and so with unknown
    sizes of some rows.
    """
    vectors = unit(np.random.default_rng(2).standard_normal((20_000, 128)).astype(np.float32))
    signs = np.packbits(vectors > 0, axis=1).view(np.uint64).T.copy()
    sizes = np.packbits(np.abs(vectors) > 0.98 / np.sqrt(128), axis=1).view(np.uint64)
    half = sizes.copy()
    half[::2] = 0
    ts = np.arange(20_000)
    shares = []
    for known in (sizes, half, np.zeros_like(sizes)):
        whole, found = Bits("p", ts, ts, ts.astype("S5"), signs, known), []
        for question in unit(np.random.default_rng(1).standard_normal((20, 128)).astype(np.float32)):
            measure = Measure(question)
            best = measure.ordered(measure.choose([whole], 4000)).ts[:100]
            found.append(np.isin(np.argsort(-(vectors @ question))[:10], best).mean())
        shares.append(np.mean(found))
    assert shares[0] > 0.9
    assert shares[0] > shares[1] > shares[2]


async def test_the_memory_says_what_the_database_says(
    server: AppServer, project: ProjectMaker, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alpha", "beta", "gamma"):
        await project(name)
    await owner.execute("SELECT ensure_vector_partition(now()), ensure_vector_partition(now() - interval '7 days')")
    await owner.execute("INSERT INTO embedding_models (name, dimensions) VALUES ('m', 64)")
    vectors = unit(GENERATOR.standard_normal((900, 64)).astype(np.float32))
    question = unit(GENERATOR.standard_normal((1, 64)).astype(np.float32))[0]
    vectors[600:640] = unit(question + vectors[600:640] * np.float32(0.3))
    starts = [NOW - timedelta(minutes=7 * n) for n in range(900)]
    rows = [
        (
            ("alpha", "beta", "gamma")[n % 3],
            *(ts, f"t{n}", f"s{n}", 1, 1, b"x"),
            *(to_bits(vector), to_sizes(vector) if n % 4 else None, to_bytes(vector)),
        )
        for n, (ts, vector) in enumerate(zip(starts, vectors, strict=True))
    ]
    await owner.copy_records_to_table("span_vectors", records=rows, columns=COLUMNS)
    await owner.execute(f"INSERT INTO vector_counts (project_id, model_id, hour, vectors) {COUNTED}")
    scope = RowScope(("alpha", "beta"))
    memories = [VectorMemory(1 << 20), VectorMemory(SMALL), VectorMemory(0)]

    async def ask(**changes: Any) -> Nearest:
        """Check that the answer is the same with much memory, little and none, first and again; return it."""
        asked = NearQuestion(**{"view": "spans", "window": TimeRange(), "filter": None, "most": 10_000, **changes})
        found = []
        for memory in [*memories, *memories]:
            async with server.services.reads.read(scope) as connection:
                found.append(await read_nearest(connection, scope, asked, 1, question, memory, now=NOW))
        assert all(answer == found[0] for answer in found)
        return found[0]

    def right(numbers: Any) -> list[str]:
        mine = [n for n in numbers if n % 3 != 2]
        near = similarities(from_bytes((to_bytes(vectors[n]) for n in mine), 64), question)
        return [f"s{mine[place]}" for place in np.argsort(-near, kind="stable")]

    assert [span.span_id for span in (await ask()).spans] == right(range(900))
    monkeypatch.setattr(vector_memory, "ROWS_AT_ONCE", 70)
    assert [span.span_id for span in (await ask()).spans] == right(range(900)), "in parts"
    window = TimeRange(starts[500], starts[99])
    assert [span.span_id for span in (await ask(window=window)).spans] == right(range(100, 501))
    newest = await ask(most=200)
    assert [span.span_id for span in newest.spans] == right(range(600))
    assert (newest.looked_at, newest.is_bounded) == (400, True)
    assert await ask(window=TimeRange(NOW, NOW)) == Nearest([], 0, is_all=True)

    # As many vectors as before, but one says something else, since the first page.
    moment = await owner.fetchval("SELECT clock_timestamp()")
    vectors[300] = question
    changed = "UPDATE span_vectors SET bits = $1, vector = $2, added_at = $3 WHERE span_id = 's300'"
    later = moment + timedelta(milliseconds=1)
    await owner.execute(changed, to_bits(question), to_bytes(question), later)
    await owner.execute(
        "INSERT INTO vector_counts (project_id, model_id, hour, vectors, mark) VALUES ('alpha', 1, $1, 0, 77)",
        starts[300].replace(minute=0, second=0, microsecond=0),
    )
    assert (await ask()).spans[0].span_id == "s300"
    assert [span.span_id for span in (await ask(cut=moment)).spans] == right(n for n in range(900) if n != 300)

    plans: list[dict[str, Any]] = []
    async with server.services.reads.read(scope) as connection:
        seen = explained(connection, plans)
        asked = NearQuestion(view="spans", window=TimeRange(), filter=None, most=10_000)
        await read_nearest(seen, scope, asked, 1, question, memories[0], now=NOW)
    assert len(plans) == 3, "the marks, and the vectors of two projects: no bits"
    assert all(memory._days.currsize <= size for memory, size in zip(memories, (1 << 20, SMALL // 2, 0), strict=True))
    # A ranking that goes on begins as the one that ended there.
    begin, whole = await ask(first=60, is_whole=False), await ask(first=60)
    assert (len(begin.spans), begin.has_more, whole.has_more) == (60, True, False)
    assert whole.spans[:60] == begin.spans
    assert begin.spans[:10] == (await ask()).spans[:10]
    assert [span.span_id for span in begin.spans[:10]] == right(range(900))[:10]


async def test_a_warm_server_notices_what_becomes_of_spans(
    server: AppServer, http: httpx.AsyncClient, project: ProjectMaker, embed_all: EmbedAll
) -> None:
    await project("alpha")
    spans = [spoken(f"money {n}", ts=NOW + timedelta(seconds=n)) for n in range(4)]

    async def asked() -> list[str]:
        await embed_all()
        return ids(await rows_of(http, meaning="money", project_id="alpha", limit=2))

    await store(server.services, "alpha", spans[:2])
    assert set(await asked()) == {spans[0].span_id, spans[1].span_id}
    await store(server.services, "alpha", replace(spans[0], input_text="rain", input_messages=None, duration_ms=9e5))
    await store(server.services, "alpha", replace(spans[1], ts=NOW - timedelta(hours=1), duration_ms=9e5))
    await store(server.services, "alpha", spans[2])
    assert set(await asked()) == {spans[1].span_id, spans[2].span_id}
    assert (await http.delete(f"/api/v1/traces/{spans[1].trace_id}")).status_code < 300
    assert await asked() == [spans[2].span_id, spans[0].span_id]


async def test_traces_of_a_past_range_are_found_by_spans_that_came_after_it(
    server: AppServer, http: httpx.AsyncClient, project: ProjectMaker, embed_all: EmbedAll
) -> None:
    await project("alpha")
    begin = datetime.now(UTC) - timedelta(hours=5)
    long, later = "ab" * 16, "cd" * 16
    spans = [
        spoken("rain", ts=begin, trace_id=long, span_id="1" * 16),
        spoken("money money", ts=begin + timedelta(hours=2), trace_id=long, span_id="2" * 16),
        spoken("money", ts=begin + timedelta(hours=2), trace_id=later, span_id="3" * 16),
    ]
    await store(server.services, "alpha", spans)
    await embed_all()
    bounds = {"from": begin - timedelta(minutes=1), "to": begin + timedelta(hours=1)}
    asked = {"meaning": "money", "view": "traces", **{name: moment.isoformat() for name, moment in bounds.items()}}
    answer = await rows_of(http, **asked)
    assert [row["trace_id"] for row in answer["data"]] == [long]
    assert answer["data"][0]["similarity"] > 0.9
    assert answer["meta"]["meaning"]["rows_looked_at"] == 2
