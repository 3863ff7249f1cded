"""One trace in full, from the real store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from server.errors import Conflict, InvalidCursor, SpanNotFound, TraceNotFound
from server.http.services import Services
from server.queries.filters.span_fields import groups
from server.queries.lists import trace_tree
from server.queries.lists.trace_tree import SpanPosition, TraceQuestion, read_span, read_trace
from server.storage.row_scope import RowScope
from tests.conftest import ProjectMaker
from tests.span_factory import make_span, store

START = datetime.now(UTC) - timedelta(minutes=10)
ALPHA = RowScope(("alpha",))
BILLING = RowScope(("alpha",), may_read_content=False)
EVERYTHING = groups()["all"]
CONTENT = ("input_text", "input_messages", "output_text", "output_messages", "error_message", "attributes", "events")


def span(span_id: str, parent: str | None = None, second: float = 0, **more: Any) -> Any:
    return make_span(
        trace_id="t1", span_id=span_id, parent_span_id=parent, ts=START + timedelta(seconds=second), **more
    )


def ask(**more: Any) -> TraceQuestion:
    return TraceQuestion(**{"trace_id": "t1", "fields": ("span_id", "parent_span_id"), **more})


@pytest.fixture
async def alpha(services: Services, project: ProjectMaker) -> Services:
    await project("alpha")
    await project("beta")
    return services


async def test_a_trace_has_totals_its_root_and_its_spans_in_tree_order(alpha: Services) -> None:
    await store(
        alpha,
        "alpha",
        [
            span("agent", None, 0, is_generation=False, span_name="plan trip", total_tokens=999, duration_ms=9000),
            span("b", "agent", 2, total_tokens=10, total_cost_usd=Decimal("0.25"), cost_source="computed"),
            span("a", "agent", 1, total_tokens=5, status_code="ERROR"),
            span("a1", "a", 1.5, session_id="s1", user_id="u1", total_tokens=1),
        ],
    )
    trace = (await read_trace(alpha.reads, ALPHA, ask())).trace
    assert [(row["span_id"], row["depth"]) for row in trace["spans"]] == [("agent", 0), ("a", 1), ("a1", 2), ("b", 1)]
    assert trace["root"] == {"span_id": "agent", "span_name": "plan trip"}
    assert trace["totals"]["total_tokens"] == 16, "the agent's own figure repeats those of its calls"
    assert trace["totals"]["total_cost_usd"] == Decimal("0.25")
    assert (trace["totals"]["span_count"], trace["totals"]["error_count"]) == (4, 1)
    assert (trace["session_id"], trace["user_id"]) == ("s1", "u1")
    assert trace["duration_ms"] == pytest.approx(9000)
    assert trace["omitted_spans"] == 0


async def test_orphans_and_cycles_survive(alpha: Services) -> None:
    await store(alpha, "alpha", [span("x", "gone", 0), span("p", "q", 1), span("q", "p", 2), span("self", "self", 3)])
    trace = (await read_trace(alpha.reads, ALPHA, ask())).trace
    assert [(row["span_id"], row["placement"]) for row in trace["spans"]] == [
        ("x", "orphan"),
        ("p", "cycle"),
        ("q", "child"),
        ("self", "cycle"),
    ]
    assert trace["root"] is None


async def test_events_links_messages_and_scores_are_values_not_text(alpha: Services, owner: asyncpg.Connection) -> None:
    await store(
        alpha,
        "alpha",
        span(
            "a",
            events=[{"name": "first", "attributes": {"n": 1}}],
            links=[{"trace_id": "t2", "span_id": "z"}],
            input_messages=[{"role": "user", "parts": []}],
            attributes={"k": [1, 2.5, None]},
        ),
    )
    await owner.execute(
        "INSERT INTO scores (project_id, score_id, trace_id, span_id, name, data_type, value, source, ts, comment)"
        " VALUES ('alpha', '1', 't1', 'a', 'quality', 'numeric', 0.5, 'human', now(), 'too long'),"
        " ('alpha', '2', 't1', NULL, 'ok', 'boolean', 1, 'eval', now() + interval '1 s', NULL),"
        " ('beta', '3', 't1', NULL, 'CANARY', 'boolean', 1, 'eval', now(), NULL)"
    )
    trace = (await read_trace(alpha.reads, ALPHA, ask(fields=EVERYTHING))).trace
    (row,) = trace["spans"]
    assert row["events"] == [{"name": "first", "attributes": {"n": 1}}]
    assert row["links"] == [{"trace_id": "t2", "span_id": "z"}]
    assert row["input_messages"] == [{"role": "user", "parts": []}]
    assert row["attributes"] == {"k": [1, 2.5, None]}
    assert [score["name"] for score in trace["scores"]] == ["quality", "ok"]
    one = await read_span(alpha.reads, ALPHA, "t1", "a", EVERYTHING)
    assert [score["name"] for score in one["scores"]] == ["quality"]
    hidden = (await read_trace(alpha.reads, BILLING, ask())).trace
    assert [score["comment"] for score in hidden["scores"]] == [None, None]


async def test_those_without_content_see_every_key_and_no_content(alpha: Services) -> None:
    secret = "CANARY-CONTENT"
    await store(
        alpha,
        "alpha",
        span(
            "a",
            input_text=secret,
            output_text=secret,
            error_message=secret,
            input_messages=[{"x": secret}],
            output_messages=[{"x": secret}],
            attributes={"x": secret},
            events=[{"name": secret}],
        ),
    )
    (full,) = (await read_trace(alpha.reads, ALPHA, ask(fields=EVERYTHING))).trace["spans"]
    (cut,) = (await read_trace(alpha.reads, BILLING, ask(fields=EVERYTHING))).trace["spans"]
    assert cut.keys() == full.keys()
    assert secret not in str(cut)
    assert all(cut[name] is None and full[name] is not None for name in CONTENT)
    assert secret not in str(await read_span(alpha.reads, BILLING, "t1", "a", EVERYTHING))


async def test_pages_walk_the_tree_once(alpha: Services) -> None:
    spans = [span("root")] + [span(f"c{n:03}", "root", n + 1) for n in range(99)]
    await store(alpha, "alpha", spans)
    seen: list[str] = []
    after: SpanPosition | None = None
    while True:
        answer = await read_trace(alpha.reads, ALPHA, ask(limit=30, after=after))
        seen += [row["span_id"] for row in answer.trace["spans"]]
        after = answer.last
        if after is None:
            break
    assert seen == ["root", *(f"c{n:03}" for n in range(99))]


async def test_a_page_ends_before_its_payload_is_too_large(alpha: Services) -> None:
    # Random-looking text: stored without compression, as prompts are.
    await store(alpha, "alpha", [span(f"c{n}", None, n, input_text=f"{n} " * 600_000) for n in range(5)])
    first = await read_trace(alpha.reads, ALPHA, ask())
    assert 0 < len(first.trace["spans"]) < 5
    assert first.last is not None


async def test_a_trace_above_the_bound_is_cut_and_says_so(alpha: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_tree, "MAX_TREE_SPANS", 10)
    await store(alpha, "alpha", [span(f"c{n}", None, n) for n in range(12)])
    trace = (await read_trace(alpha.reads, ALPHA, ask())).trace
    assert (len(trace["spans"]), trace["omitted_spans"], trace["totals"]["span_count"]) == (10, 2, 12)


async def test_a_page_after_a_span_that_is_gone_is_refused(alpha: Services) -> None:
    await store(alpha, "alpha", span("a"))
    with pytest.raises(InvalidCursor):
        await read_trace(alpha.reads, ALPHA, ask(after=SpanPosition("never", START)))


async def test_foreign_and_unknown_traces_fail_alike(alpha: Services) -> None:
    await store(alpha, "beta", span("a"))
    raised = []
    for trace_id in ("t1", "unknown", "", "x" * 65, "a/b", "T1"):
        with pytest.raises(TraceNotFound) as caught:
            await read_trace(alpha.reads, ALPHA, ask(trace_id=trace_id))
        raised.append((type(caught.value), str(caught.value)))
        with pytest.raises(SpanNotFound):
            await read_span(alpha.reads, ALPHA, trace_id, "a", EVERYTHING)
    assert len(set(raised)) == 1
    with pytest.raises(TraceNotFound):
        await read_trace(alpha.reads, RowScope(()), ask())


async def test_a_trace_id_of_two_projects_needs_a_project(alpha: Services) -> None:
    for name in ("alpha", "beta"):
        await store(alpha, name, span("a", service_name=name))
    with pytest.raises(Conflict):
        await read_trace(alpha.reads, RowScope(("alpha", "beta")), ask())
    assert (await read_trace(alpha.reads, RowScope(("beta",)), ask())).trace["service_name"] == "beta"
