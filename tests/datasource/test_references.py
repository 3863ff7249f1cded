"""The references that trace views follow always end: any spans in, a forest with a root out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datasource.jaeger.format import jaeger_trace
from datasource.traces.references import drawable

TRACE, OTHER = "a" * 32, "b" * 32
START = datetime(2026, 11, 1, tzinfo=UTC)


def row(
    span_id: str, parent: str | None = None, at: int = 0, links: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    return {
        "trace_id": TRACE, "span_id": span_id, "parent_span_id": parent, "ts": START + timedelta(seconds=at),
        "links": links or [],
    }  # fmt: skip


def within(span: int) -> dict[str, str]:
    return {"trace_id": TRACE, "span_id": str(span)}


def parents(rows: list[dict[str, Any]]) -> dict[str, str | None]:
    return {item["span_id"]: item["parent_span_id"] for item in drawable(rows)}


def test_a_sound_trace_is_served_as_it_is() -> None:
    rows = [row("1"), row("2", "1", 1, [{"trace_id": OTHER, "span_id": "9"}, {"trace_id": TRACE, "span_id": "1"}])]
    assert drawable(rows) == rows


def test_a_ring_of_parents_ends_at_its_earliest_span() -> None:
    assert parents([row("2", "1", 1), row("1", "2", 0), row("3", "2", 2)]) == {"1": None, "2": "1", "3": "2"}


def test_a_trace_whose_root_never_came_has_one() -> None:
    assert parents([row("3", "gone", 1), row("2", "gone", 0), row("4", "2", 2)]) == {"2": None, "3": "gone", "4": "2"}


def test_an_orphan_beside_a_root_keeps_its_parent() -> None:
    assert parents([row("1"), row("2", "gone", 1)]) == {"1": None, "2": "gone"}


def test_a_link_that_leads_back_is_not_served() -> None:
    down, itself = {"trace_id": TRACE, "span_id": "2"}, {"trace_id": TRACE, "span_id": "1"}
    rows = drawable([row("1", links=[down, itself]), row("2", "1", 1)])
    assert [item["links"] for item in rows] == [[], []]


NUMBERS = st.integers(0, 5)
LINKS = st.lists(st.integers(0, 6), max_size=2)
SPANS = st.lists(
    st.tuples(NUMBERS, st.none() | st.integers(0, 7), NUMBERS, LINKS), min_size=1, unique_by=lambda item: item[0]
)


@given(SPANS)
def test_no_span_is_reached_from_itself(spans: list[tuple[int, int | None, int, list[int]]]) -> None:
    rows = drawable(
        [
            row(str(span), None if parent is None else str(parent), at, [within(to) for to in links])
            for span, parent, at, links in spans
        ]
    )
    edges = {item["span_id"]: {link["span_id"] for link in item["links"]} | {item["parent_span_id"]} for item in rows}
    assert any(item["parent_span_id"] is None for item in rows)
    for start in edges:
        reached: set[str] = set()
        pending = [to for to in edges[start] if to is not None]
        while pending:
            span = pending.pop()
            if span not in reached:
                reached.add(span)
                pending.extend(to for to in edges.get(span, ()) if to is not None)
        assert start not in reached


def test_jaeger_serves_drawable_references() -> None:
    base = {"span_name": "s", "duration_ms": 1.0, "status_code": "OK", "span_kind": "internal", "service_name": "x"}
    rows = [{**row("1", "2"), **base}, {**row("2", "1", 1), **base}]
    spans = jaeger_trace(TRACE, rows)["spans"]
    assert sorted(len(span["references"]) for span in spans) == [0, 1]
