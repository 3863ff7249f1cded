"""Values with counts: from rollups where they know, from rows otherwise, and the same from both."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.errors import InsufficientScope, InvalidParameter
from server.http.services import Services
from server.queries.filters.filter_tree import parse_filter
from server.queries.metrics import facet_reader
from server.queries.metrics.facet_reader import FacetAnswer, FacetQuestion, facet_fields, read_facet
from server.storage.row_scope import RowScope
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store

NOW = datetime.now(UTC)
ALPHA = RowScope(("alpha",))
BOTH = RowScope(("alpha", "beta"))
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4", "GPT-legacy")


@pytest.fixture
async def data(services: Services, project: ProjectMaker) -> Services:
    """60 spans of alpha over five hours, and 7 of beta with values of its own."""
    await project("alpha")
    await project("beta")
    spans = [
        make_span(
            ts=NOW - timedelta(minutes=5 * n),
            model=MODELS[n % 4] if n % 5 else None,
            status_code="ERROR" if n % 10 == 0 else "OK",
            user_id=f"u{n % 7}",
            tags=["web"] if n % 2 else ["web", "beta-test"],
            attributes={"team": f"t{n % 3}", "deep": {"x": 1}, "n": n},
            resource_attributes={"host": "h1"},
            error_type="timeout" if n % 10 == 0 else None,
        )
        for n in range(60)
    ]
    await store(services, "alpha", spans)
    await store(services, "beta", [make_span(model="CANARY-B", user_id="CANARY-B") for _ in range(7)])
    return services


async def ask(services: Services, field: str, scope: RowScope = ALPHA, **more: Any) -> FacetAnswer:
    window = {"start": NOW - timedelta(days=1), "end": NOW + timedelta(minutes=1)}
    return await read_facet(services.reads, scope, FacetQuestion(**{"field": field, **window, **more}))


def counted(answer: FacetAnswer) -> dict[str, int]:
    return {row["value"]: row["count"] for row in answer.values}


async def test_rolled_up_fields_are_counted_exactly_from_rollups(data: Services) -> None:
    answer = await ask(data, "model")
    expected = Counter(MODELS[n % 4] for n in range(60) if n % 5)
    assert counted(answer) == expected
    assert (answer.source, answer.is_exact, answer.distinct) == ("rollups", True, 4)
    counts = [row["count"] for row in answer.values]
    assert counts == sorted(counts, reverse=True)


async def test_other_fields_are_counted_from_rows(data: Services) -> None:
    answer = await ask(data, "user_id")
    assert counted(answer) == Counter(f"u{n % 7}" for n in range(60))
    assert (answer.source, answer.is_exact, answer.rows_read) == ("rows", True, 60)


EXPECTED: dict[str, dict[str, int]] = {
    "tags": {"web": 60, "beta-test": 30},
    "attribute_keys": {"team": 60, "deep": 60, "n": 60},
    "resource_keys": {"host": 60},
    "attribute.team": {"t0": 20, "t1": 20, "t2": 20},
    "resource.host": {"h1": 60},
    "has_error": {"false": 54, "true": 6},
    "status": {"OK": 54, "ERROR": 6},
    "error_type": {"timeout": 6},
    "project_id": {"alpha": 60},
    "attribute.nobody": {},
}


async def test_every_kind_of_field_has_values(data: Services) -> None:
    assert {field: counted(await ask(data, field)) for field in EXPECTED} == EXPECTED


async def test_every_facet_field_answers(data: Services) -> None:
    for field in facet_fields():
        assert (await ask(data, field, limit=2, prefix="zz")).values == []


async def test_rows_and_rollups_agree_under_the_same_filter(data: Services) -> None:
    tree = parse_filter({"field": "status", "operator": "ne", "value": "error"})
    rolled_up = await ask(data, "model", filter=tree)
    # A second condition that is always true, but that rollups do not know.
    wide = parse_filter(
        {
            "and": [
                {"field": "status", "operator": "ne", "value": "error"},
                {"field": "duration_ms", "operator": "gte", "value": 0},
            ]
        }
    )
    from_rows = await ask(data, "model", filter=wide)
    assert (rolled_up.source, from_rows.source) == ("rollups", "rows")
    assert counted(rolled_up) == counted(from_rows)


async def test_prefix_and_substring_search_ignore_letter_case(data: Services) -> None:
    cases: tuple[tuple[str, dict[str, Any], int], ...] = (
        ("model", {"prefix": "gpt"}, 3),
        ("model", {"prefix": "GPT-4O-"}, 1),
        ("user_id", {"prefix": "U"}, 7),
        ("model", {"contains": "LEGACY"}, 1),
        ("model", {"prefix": "gpt", "contains": "4o"}, 2),
        ("tags", {"contains": "Test"}, 1),
    )
    for field, more, found in cases:
        assert len((await ask(data, field, **more)).values) == found


async def test_a_prefix_is_literal(data: Services) -> None:
    for text in ("%", "_", "\\", "gpt%", "g.t", "'; DROP TABLE llm_traces; --"):
        for field in ("model", "user_id", "attribute.team"):
            assert (await ask(data, field, prefix=text)).values == []
            assert (await ask(data, field, contains=text)).values == []


async def test_the_limit_keeps_the_most_frequent(data: Services) -> None:
    for field in ("model", "user_id"):
        everything = await ask(data, field)
        cut = await ask(data, field, limit=2)
        assert [row["count"] for row in cut.values] == [row["count"] for row in everything.values[:2]]
        assert cut.distinct == everything.distinct


async def test_a_field_with_too_many_rows_is_sampled_and_says_so(
    data: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facet_reader, "_LEAST_ROWS", 1)
    monkeypatch.setattr(facet_reader, "MOST_ROWS", 10)
    answer = await ask(data, "user_id")
    assert (answer.is_exact, answer.rows_read) == (False, 10)
    assert not (await ask(data, "user_id", prefix="nothing")).is_exact


async def test_projects_stay_apart(data: Services) -> None:
    for field in ("model", "user_id", "project_id", "session_id"):
        assert "CANARY-B" not in str(await ask(data, field))
    assert counted(await ask(data, "model", BOTH))["CANARY-B"] == 7
    assert counted(await ask(data, "user_id", BOTH))["CANARY-B"] == 7
    assert (await ask(data, "model", RowScope(()))).values == []


async def test_a_scope_of_very_many_projects_is_one_branch(data: Services) -> None:
    many = RowScope(("alpha", *(f"p{n}" for n in range(40))))
    assert counted(await ask(data, "user_id", many)) == counted(await ask(data, "user_id"))
    assert counted(await ask(data, "model", many)) == counted(await ask(data, "model"))


async def test_attributes_are_content(data: Services) -> None:
    billing = RowScope(("alpha",), may_read_content=False)
    for field in ("attribute_keys", "attribute.team"):
        with pytest.raises(InsufficientScope):
            await ask(data, field, billing)
    tree = parse_filter({"field": "attribute.team", "operator": "eq", "value": "t1"})
    with pytest.raises(InsufficientScope):
        await ask(data, "user_id", billing, filter=tree)
    assert counted(await ask(data, "resource.host", billing)) == {"h1": 60}


async def test_fields_without_values_to_choose_from_are_refused(services: Services) -> None:
    refused = ("input_text", "duration_ms", "ts", "nothing", "attributes", "score.quality", "__class__", "t.model", "")
    for field in refused:
        with pytest.raises(InvalidParameter):
            await ask(services, field)
