"""How PostgreSQL answers: with indexes, under row-level security, and page 100 as cheaply as page 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from server.queries.filter_params import FILTER_PARAMETERS, KEYED_PARAMETERS, GivenParameter, filter_from_params
from server.queries.list_question import VIEWS, ListQuestion, Sort, lift_to_traces
from server.queries.row_scope import RowScope
from server.queries.time_range import TimeRange
from server.queries.trace_fields import FieldType
from server.queries.trace_reader import ListPage, list_spans
from server.services import Services
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


@pytest.fixture
async def window(services: Services, owner_url: str) -> TimeRange:
    """One day in the middle of a full week, among 15,000 spans of four weeks."""
    end = await load(owner_url, 15_000, days=28, say=lambda _: None)
    start = end - timedelta(days=14 + end.weekday() - 2)
    return TimeRange(start, start + timedelta(days=1))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def scanned_whole(page: ListPage) -> set[str]:
    """Names of the tables that were read from end to end."""
    found = (node for plan in page.plan or [] for node in nodes(plan["plan"]) if node["Node Type"] == "Seq Scan")
    return {node["Relation Name"] for node in found}


def used(page: ListPage) -> str:
    """Names of the indexes that were used."""
    return " ".join(name for plan in page.plan or [] for name in plan["indexes"])


async def ask(services: Services, **question: Any) -> ListPage:
    return await list_spans(services.reads, SCOPE, ListQuestion(**question), explain=True)


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
