"""The body of /query: steps, bounds, ranges, and what is ignored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasource.json.panel_engine import align
from datasource.panels.panel_request import (
    MAX_POINTS,
    MAX_RANGE,
    STEPS,
    choose_step,
    parse_panel_request,
    parse_range,
)
from datasource.targets.events import bursts
from server.errors import InvalidBody
from server.queries.filters.time_range import BoundedRange
from server.text.instants import EPOCH

RANGE = {"from": "2026-11-22T10:00:00.000Z", "to": "2026-11-22T12:00:00.000Z", "raw": {"from": "now-2h", "to": "now"}}


def body(**changes: Any) -> dict[str, Any]:
    return {"range": RANGE, "targets": [{"refId": "A", "target": "timeseries", "payload": {}}], **changes}


@given(st.floats(1, 366 * 20 * 86400), st.floats(0, 1e12), st.floats(1, 1e9))
def test_a_step_respects_the_panel_and_the_bound(seconds: float, interval_ms: float, points: float) -> None:
    step = choose_step(seconds, interval_ms, points)
    assert step in STEPS or step % STEPS[-1] == 0
    assert step >= min(interval_ms / 1000, MAX_RANGE.total_seconds())
    assert seconds / step <= min(points, MAX_POINTS) + 1e-6


def test_steps_are_those_a_person_would_choose() -> None:
    assert choose_step(6 * 3600, 30_000, 812) == 30
    assert choose_step(6 * 3600, 0, 500) == 60
    assert choose_step(30 * 86400, 3_600_000, 800) == 3600


def test_times_are_iso_texts_or_milliseconds() -> None:
    start, end = datetime(2026, 11, 22, 10, tzinfo=UTC), datetime(2026, 11, 22, 11, tzinfo=UTC)
    for raw in ("2026-11-22T10:00:00.000Z", "2026-11-22T11:00:00+01:00", 1795341600000, "1795341600000"):
        assert parse_range({"from": raw, "to": "2026-11-22T11:00:00Z"}, "/range") == BoundedRange(start, end)
    bad: Any
    for bad in ("2026-11-22T10:00:00", "yesterday", None, True, 1e30, "99999999999999999999", {}):
        with pytest.raises(InvalidBody) as caught:
            parse_range({"from": bad, "to": "2026-11-22T11:00:00Z"}, "/range")
        assert caught.value.errors[0]["pointer"] == "/range/from"


def test_a_panel_may_be_zoomed_out_to_1970() -> None:
    # Twenty years is the longest range; the years before 2000 are refused to everybody else.
    assert parse_range({"from": 0, "to": "1970-02-01T00:00:00.000Z"}, "/range").start == EPOCH


def test_windows_that_move_with_now_move_in_ticks() -> None:
    start = datetime(2026, 11, 22, 10, 0, 1, 234567, tzinfo=UTC)
    moving = BoundedRange(start, start + timedelta(hours=1), is_relative=True)
    aligned = align(moving, 5)
    assert aligned.start == datetime(2026, 11, 22, 10, 0, 5, tzinfo=UTC)
    assert aligned.end - aligned.start == timedelta(hours=1)
    assert align(moving, 5) == align(BoundedRange(start + timedelta(seconds=1), moving.end, is_relative=True), 5)
    fixed = BoundedRange(start, moving.end)
    assert align(fixed, 5) == fixed


def test_hidden_and_nameless_targets_are_left_out_and_unknown_keys_ignored() -> None:
    targets = [{"refId": "A"}, {"refId": "B", "target": "x", "hide": True}, {"refId": "C", "target": "", "new": [1]}]
    request = parse_panel_request(body(targets=targets, scopes=[{}], groupByKeys=None, liveStreaming=True))
    assert [target.ref_id for target in request.targets] == ["C"]
    assert request.time_range.is_relative
    assert request.timezone == "UTC"


def test_a_payload_may_arrive_as_text() -> None:
    targets = [{"refId": "A", "target": "x", "payload": '{"metric": "calls"}'}]
    assert parse_panel_request(body(targets=targets)).targets[0].payload == {"metric": "calls"}
    with pytest.raises(InvalidBody):
        parse_panel_request(body(targets=[{"refId": "A", "target": "x", "payload": '{"metric": '}]))


def test_error_bursts_are_runs_far_above_the_usual() -> None:
    times = [datetime(2026, 11, 22, 10, minute, tzinfo=UTC) for minute in range(10)]
    end = datetime(2026, 11, 22, 10, 10, tzinfo=UTC)
    quiet = [(100, 1)] * 10
    assert list(bursts(times, quiet, end)) == []
    loud = [(100, 1), (100, 40), (50, 30), (100, 1), (0, 0), (10, 0), (10, 0), (10, 0), (10, 0), (10, 9)]
    first, last = bursts(times, loud, end)
    assert (first.time, first.end) == (times[1], times[3])
    assert first.title == "Error burst: 47% of calls failed"
    assert (last.time, last.end) == (times[9], end)
    few = [(4, 4)] + [(4, 0)] * 9
    assert list(bursts(times, few, end)) == []
