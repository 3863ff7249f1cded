"""The demo's history is as long as asked for, and reaches to now, at whatever hour it is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from server.demo.schedule import SETTLED, Schedule

TRACES = 6000


@pytest.mark.parametrize("hour", [0, 2, 5, 9, 14, 20, 23])
def test_the_history_is_whole_at_every_hour(hour: int) -> None:
    now = datetime(2026, 3, 10, hour, 40, tzinfo=UTC)
    schedule = Schedule(now, days=30, traces=TRACES, seed=7)
    starts = [
        datetime.fromtimestamp(trace.spans[0].start_ns / 1e9, UTC)
        for day in schedule.dates()
        for trace in schedule.day_traces(day)
    ]
    assert len(starts) == pytest.approx(TRACES, rel=0.08)
    assert now - timedelta(days=30) <= min(starts)
    assert now - timedelta(hours=4) < max(starts) < now - SETTLED + timedelta(minutes=5)
    last_day = sum(start > now - timedelta(days=1) for start in starts)
    assert last_day > 2 * TRACES / 30, "the last day is busier, at every hour"


def test_what_is_announced_is_what_comes() -> None:
    schedule = Schedule(datetime(2026, 3, 10, 7, 15, tzinfo=UTC), days=30, traces=TRACES, seed=7)
    came = sum(
        bool(schedule.visit_traces(day, index)) for day in schedule.dates() for index in range(schedule.visits(day))
    )
    assert sum(map(schedule.expected_visits, schedule.dates())) == pytest.approx(came, rel=0.08)
