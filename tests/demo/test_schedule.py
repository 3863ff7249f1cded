"""The demo's history is as long as asked for, and reaches to now, at whatever hour it is made."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest

from server.demo.episodes import AGENT_LOOP, COST_SPIKE, ERROR_BURST, SLOW_PROVIDER, episode_of, is_worse_prompt
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
    before = sum(now - timedelta(days=8) < start <= now - timedelta(days=7) for start in starts)
    coming = list(itertools.takewhile(lambda visit: visit[0] < now + timedelta(days=1), schedule.upcoming()))
    assert all(start > now - SETTLED for start, _ in coming)
    assert sum(len(traces) for _, traces in coming) == pytest.approx(before, rel=0.35), "it goes on as it was"


def test_the_last_hour_has_calls_at_every_hour_of_the_day() -> None:
    for hour in range(24):
        now = datetime(2026, 3, 10, hour, 40, tzinfo=UTC)
        schedule = Schedule(now, days=60, traces=18_000, seed=7)
        recent = [
            trace
            for day in schedule.dates()[-2:]
            for trace in schedule.day_traces(day)
            if trace.spans[0].start_ns / 1e9 > (now - timedelta(hours=1)).timestamp()
        ]
        assert len(recent) >= 4, hour


def test_every_week_has_an_episode_of_each_kind_and_two_months_a_worse_prompt() -> None:
    monday = date(2026, 3, 9)
    week = {episode.kind for day in range(7) if (episode := episode_of(monday + timedelta(days=day)))}
    assert week == {ERROR_BURST, SLOW_PROVIDER, COST_SPIKE, AGENT_LOOP}
    assert {is_worse_prompt(monday + timedelta(days=day)) for day in range(60)} == {True, False}


def test_what_is_announced_is_what_comes() -> None:
    schedule = Schedule(datetime(2026, 3, 10, 7, 15, tzinfo=UTC), days=30, traces=TRACES, seed=7)
    came = sum(
        bool(schedule.visit_traces(day, index)) for day in schedule.dates() for index in range(schedule.visits(day))
    )
    assert sum(map(schedule.expected_visits, schedule.dates())) == pytest.approx(came, rel=0.08)
