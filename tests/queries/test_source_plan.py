"""Which parts of a range are read from where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from server.queries.metrics.metric_formula import Needs
from server.queries.metrics.raw_sql import Target
from server.queries.metrics.source_plan import Timeline, plan_sources
from server.storage.row_scope import RowScope
from server.text.instants import EPOCH

HOUR = datetime(2026, 11, 5, 10, tzinfo=UTC)
CALLS = Needs("spans", "calls", ("calls",), {}, frozenset(), ())


def at(minutes: float) -> datetime:
    return HOUR + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("low", "high", "now", "rollup", "raw", "less"),
    [
        # Much of the first and of the last five minutes is wanted: both are read whole.
        (1, 14, 60, [(0, 15)], [], [(0, 1), (14, 15)]),
        # Little is wanted, or about half.
        (4, 11, 60, [(5, 10)], [(4, 5), (10, 11)], []),
        (2.5, 12.5, 60, [(5, 10)], [(2.5, 5), (10, 12.5)], []),
        # Now: the latest five minutes have nothing else yet.
        (5, 11, 11, [(5, 15)], [], [(11, 15)]),
        (5, 11, 11.2, [(5, 15)], [], [(11, 15)]),
        (5, 11, 12, [(5, 10)], [(10, 11)], []),
        # Within one or two of them there are no rollups, and percentiles stay exact.
        (5.2, 9.9, 9.9, [], [(5.2, 9.9)], []),
        (4, 6, 6, [], [(4, 6)], []),
    ],
)
def test_ragged_ends_are_read_from_what_has_less_of_them(
    low: float,
    high: float,
    now: float,
    rollup: list[tuple[float, float]],
    raw: list[tuple[float, float]],
    less: list[tuple[float, float]],
) -> None:
    def pieces(minutes: list[tuple[float, float]]) -> list[tuple[datetime, datetime]]:
        return [(at(first), at(last)) for first, last in minutes]

    target = Target(RowScope(("alpha",)), (), None)
    timeline = Timeline(at(low), at(high), (at(low), at(high)))
    plan = plan_sources(target, CALLS, timeline, EPOCH, EPOCH, at(now))
    assert plan.rollups.get("rollup_5m", []) == pieces(rollup)
    assert (plan.raw, plan.less) == (pieces(raw), pieces(less))
    # Rollups of a time from which none were kept are not counted on.
    without = plan_sources(target, CALLS, timeline, at(120), EPOCH, at(now))
    assert without.raw == [(at(low), at(high))]
