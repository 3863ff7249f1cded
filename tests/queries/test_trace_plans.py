"""How PostgreSQL answers: with indexes, under row-level security, and page 100 as cheaply as page 1."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from server.http.services import Services
from server.queries.filters.filter_params import (
    FILTER_PARAMETERS,
    KEYED_PARAMETERS,
    GivenParameter,
    filter_from_params,
)
from server.queries.filters.filter_tree import Leaf
from server.queries.filters.span_fields import FieldType
from server.queries.filters.time_range import TimeRange
from server.queries.lists.list_question import VIEWS, ListQuestion, Sort, lift_to_traces
from server.queries.lists.list_reader import ListPage, list_spans
from server.storage.database import Database
from server.storage.row_scope import RowScope
from tests.bench.load import PROJECT, load

SCOPE = RowScope((PROJECT,))
SAMPLES = {
    "status": "error",
    "span_kind": "client",
    "cost_source": "computed",
    "trace_id": f"{1000:032x}",
    "session_id": "session-20",
    "user_id": "user-7",
    "parent": "none",
}
BY_TYPE = {FieldType.BOOLEAN: "true", FieldType.INTEGER: "100", FieldType.NUMBER: "100", FieldType.MONEY: "0.001"}


reads_plans = pytest.mark.one_postgresql("reads the plans of PostgreSQL, which nodes keep to themselves")


@pytest.fixture
async def window(services: Services, owner_url: str) -> TimeRange:
    """One day in the middle of a full week, among 15,000 spans of four weeks."""
    end = await load(owner_url, 15_000, days=28, say=lambda _: None)
    start = end - timedelta(days=14 + end.weekday() - 2)
    return TimeRange(start, start + timedelta(days=1))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan."""
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def scanned_whole(page: ListPage) -> set[str]:
    """Return the names of the tables that were read from end to end; those that were left out while it ran are not."""
    found = (node for plan in page.plan or [] for node in nodes(plan["plan"]) if node["Node Type"] == "Seq Scan")
    return {node["Relation Name"] for node in found if node["Actual Loops"]}


def used(page: ListPage) -> str:
    """Return the names of the indexes that were used."""
    return " ".join(name for plan in page.plan or [] for name in plan["indexes"])


async def ask(services: Services, **question: Any) -> ListPage:
    return await list_spans(services.reads, SCOPE, ListQuestion(**question), explain=True)


@reads_plans
@pytest.mark.slow
async def test_no_filter_with_a_time_range_reads_a_whole_partition(services: Services, window: TimeRange) -> None:
    """Every documented filter, plain and negated, for spans and for traces, with each default order."""
    parameters = [*FILTER_PARAMETERS.values(), *KEYED_PARAMETERS.values()]
    for parameter in parameters:
        name = f"{parameter.name}team" if parameter.name.endswith(".") else parameter.name
        value = SAMPLES.get(name, BY_TYPE.get(parameter.value_type, "1" if "score" in name else "word"))
        for negated in (False, True) if parameter.is_negatable else (False,):
            tree = filter_from_params([GivenParameter(name, (value,), negated)])
            page = await ask(services, window=window, filter=tree, limit=20)
            assert not {table for table in scanned_whole(page) if table.startswith("llm_traces")}, name
            lifted = await ask(services, view="traces", window=window, filter=lift_to_traces(tree), limit=20)
            assert not {table for table in scanned_whole(lifted) if table.startswith("llm_traces")}, name
    await indexes_serve_what_they_are_there_for(services, window)


async def indexes_serve_what_they_are_there_for(services: Services, window: TimeRange) -> None:
    """Row-level security is on; it would keep operators that are not leakproof out of these indexes."""

    async def indexes(parameter: str, value: str, **question: Any) -> str:
        tree = filter_from_params([GivenParameter(parameter, (value,))])
        return used(await ask(services, window=window, filter=tree, **question))

    assert "search_vector" in await indexes("search", "nowhere")
    assert "session_id" in await indexes("session_id", "session-20")
    assert "user_id" in await indexes("user_id", "user-7")
    assert "duration_ms" in await indexes("min_duration", "100000")
    everywhere = ListQuestion(sort=(Sort("total_cost_usd"),), limit=20)
    for question in (everywhere, replace(everywhere, sort=(Sort("total_cost_usd", False),))):
        page = await list_spans(services.reads, SCOPE, question, explain=True)
        assert "total_cost_usd" in used(page)
        assert not scanned_whole(page)


@reads_plans
async def test_traces_of_the_newest_hours_are_not_compared_with_all_spans_of_them(
    services: Services, owner_url: str
) -> None:
    """Statistics end before the newest hours, in which PostgreSQL then expects a single row."""
    end = await load(owner_url, 1_500, days=1, say=lambda _: None)
    owner = await asyncpg.connect(owner_url)
    await owner.execute("SELECT ensure_trace_partition($1)", end + timedelta(days=1))
    known = end - timedelta(hours=22)
    for low, high in ((end - timedelta(days=2), known), (known, end)):
        await owner.execute("ANALYZE llm_traces, trace_summaries")
        for table, times in (("llm_traces", ("ts",)), ("trace_summaries", ("start_ts", "end_ts"))):
            columns = await owner.fetchval(
                "SELECT string_agg(attname, ', ') FROM pg_attribute"
                " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
                table,
            )
            moved = {"trace_id": "md5(trace_id)", **{name: f"{name} + interval '1 day'" for name in times}}
            values = ", ".join(moved.get(name, name) for name in columns.split(", "))
            await owner.execute(
                f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table}"
                f" WHERE {times[0]} >= $1 AND {times[0]} < $2",
                low,
                high,
            )
    await owner.close()
    tree = filter_from_params([GivenParameter("attribute.nothing", ("x",), False)])
    page = await ask(services, view="traces", window=TimeRange(end), filter=lift_to_traces(tree), limit=20)
    assert not page.rows
    looked_at = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for plan in page.plan or []
        for node in nodes(plan["plan"])
        if str(node.get("Relation Name", "")).startswith("llm_traces")
    )
    assert 500 < looked_at < 10_000


FOLLOWING = {"Limit", "Append", "Merge Append", "Incremental Sort", "Index Scan", "Subquery Scan", "Result"}


def time_index(view: str, name: str) -> str:
    """Return the index that lists by time with a filter on the field ``name`` (or none) are to follow, as a pattern."""
    time = {"spans": "ts", "traces": "start_ts"}[view]
    if name in {"status_code", "has_error"}:
        return rf"\(project_id, {time} DESC\) WHERE \(status_code = 'ERROR'"
    column = f"{name}, " if name else ""
    return rf"\(project_id, {column}{time} DESC\)" + ("" if name in {"session_id", "user_id"} else "$")


@reads_plans
async def test_newest_rows_are_found_by_the_time_index_with_one_plan_for_all_values(
    services: Services, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That plan knows no values, and here it knows no statistics either: tables are empty when a server starts, and
    each week begins with an empty partition."""
    asked: list[tuple[str, tuple[Any, ...]]] = []
    fetch = asyncpg.Connection.fetch

    async def watched(connection: asyncpg.Connection, query: str, *args: Any, **kwargs: Any) -> Any:
        if args:  # a periodic task asks without
            asked.append((query, args))
        return await fetch(connection, query, *args, **kwargs)

    now = datetime.now(UTC)
    owner = await asyncpg.connect(owner_url)
    for week in range(5):
        await owner.execute("SELECT ensure_trace_partition($1)", now - timedelta(weeks=week))
    await owner.close()
    monkeypatch.setattr(asyncpg.Connection, "fetch", watched)
    place = {"spans": (now, "t", "s", PROJECT), "traces": (now, "t", PROJECT)}
    filters = [(view.name, None, "") for view in VIEWS.values()] + [
        (view.name, Leaf(view.fields[name], "eq", "x" if value is None else value), name)
        for view in VIEWS.values()
        for name, value in view.time_indexes.items()
    ]
    for (view, tree, name), window, descending, is_first, projects in itertools.product(
        filters, (TimeRange(), TimeRange(now - timedelta(days=9), now)), (True, False), (True, False), (1, 3)
    ):
        question = ListQuestion(
            view=view,
            window=window,
            filter=tree,
            sort=(Sort("ts", descending),),
            position=None if is_first else place[view],
        )
        scope = RowScope((PROJECT, "beta", "gamma")[:projects])
        asked.clear()
        await list_spans(services.reads, scope, question)
        async with services.reads.read(scope, follows_index=True) as connection:
            statement, values = asked[0]
            await connection.execute(f"PREPARE listed AS {statement}")
            literals = ", ".join(f"'{value}'" for value in values)
            explained = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE listed ({literals})")
            await connection.execute("DEALLOCATE listed")
            found = list(nodes(orjson.loads(explained)[0]["Plan"]))
            indexes = {node["Index Name"] for node in found if "Index Name" in node}
            definitions = [await connection.fetchval("SELECT pg_get_indexdef($1::regclass)", name) for name in indexes]
        # Branches of projects, each in order and cut, may be put together in any way.
        allowed = FOLLOWING | ({"Sort"} if projects > 1 else set())
        assert {node["Node Type"] for node in found} <= allowed, question
        assert indexes
        assert all(re.search(time_index(view, name), definition) for definition in definitions), definitions


@reads_plans
@pytest.mark.slow
async def test_a_search_reads_the_nearest_days_and_the_others_only_for_a_page_that_is_not_full(
    services: Services, window: TimeRange
) -> None:
    assert window.end is not None
    tree = filter_from_params([GivenParameter("search", ("nowhere",))])
    month = TimeRange(window.end - timedelta(days=20), window.end)
    assert len((await ask(services, window=month, filter=tree)).plan or []) == 2
    assert len((await ask(services, window=window, filter=tree)).plan or []) == 1, "a day is read at once"
    common = filter_from_params([GivenParameter("search", ("-nowhere",))])
    assert len((await ask(services, window=month, filter=common)).plan or []) == 1, "the first days fill the page"


async def test_filters_and_other_orders_are_planned_for_their_values(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How rare a word is, say, decides which index is right."""
    begun: list[bool] = []
    read = Database.read

    def watched(database: Database, scope: RowScope, *, follows_index: bool = False) -> Any:
        begun.append(follows_index)
        return read(database, scope, follows_index=follows_index)

    monkeypatch.setattr(Database, "read", watched)
    errors = filter_from_params([GivenParameter("status", ("error",))])
    plain = ListQuestion()
    fine = filter_from_params([GivenParameter("status", ("success",))])
    models = filter_from_params([GivenParameter("model", ("o1", "gpt-4o"))])
    for question in (
        plain,
        replace(plain, filter=errors),
        replace(plain, filter=fine),
        replace(plain, filter=models),
        replace(plain, sort=(Sort("total_cost_usd"),)),
        replace(plain, total="capped"),
        replace(plain, include=frozenset({"scores"})),
    ):
        await list_spans(services.reads, SCOPE, question)
    assert begun == [True, True, False, False, False, False, False]


@reads_plans
@pytest.mark.slow
async def test_a_deep_page_reads_no_more_rows_than_the_first(services: Services, window: TimeRange) -> None:
    """Keyset paging: nothing is counted through, whatever the order."""
    for sort in (Sort("ts"), Sort("ts", False), Sort("total_cost_usd"), Sort("duration_ms")):
        question = ListQuestion(sort=(sort,), limit=40, fields=("span_id",))
        scanned = []
        for number in range(31):
            page = await list_spans(services.reads, SCOPE, question, explain=number in {0, 30})
            if page.plan:
                scanned.append(sum(plan["rows_scanned"] for plan in page.plan))
            question = replace(question, position=page.next_position)
        assert scanned[1] <= scanned[0] + 40, (sort, scanned)


def test_sorts_offered_are_numbers_and_times() -> None:
    for view in VIEWS.values():
        assert {"ts", "duration_ms", "total_cost_usd", "total_tokens"} <= set(view.sortable())
