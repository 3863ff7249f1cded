"""Forecasts follow level, trend and week, and their intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from server.reports.forecast import forecast


def weekly_series(days: int, *, seed: int, noise: float = 8.0) -> list[float]:
    """Return a series with weekdays 20 above the line, weekends 40 below, and half a unit of growth a day."""
    random = np.random.default_rng(seed)
    return [max(0.0, 100 + 0.5 * day + (20 if day % 7 < 5 else -40) + random.normal(0, noise)) for day in range(days)]


def test_a_constant_series_stays_constant_and_is_certain() -> None:
    answer = forecast([5.0] * 30, 7)
    assert [round(point.value, 6) for point in answer.points] == [5.0] * 7
    assert all(point.lower == pytest.approx(5) and point.upper == pytest.approx(5) for point in answer.points)
    assert answer.backtest is not None
    assert answer.backtest.mean_absolute_error == pytest.approx(0)


def test_weekends_are_seen() -> None:
    answer = forecast(weekly_series(70, seed=1), 14)
    weekend = [point.value for day, point in enumerate(answer.points) if day % 7 >= 5]
    weekdays = [point.value for day, point in enumerate(answer.points) if day % 7 < 5]
    assert max(weekend) < min(weekdays) - 30
    assert answer.model == "damped trend with weekly season"


def test_intervals_hold_about_as_often_as_they_say() -> None:
    inside = []
    for seed in range(25):
        series = weekly_series(74, seed=seed)
        answer = forecast(series[:60], 14, confidence=0.9)
        inside += [point.lower <= value <= point.upper for point, value in zip(answer.points, series[60:], strict=True)]
    assert 0.8 <= sum(inside) / len(inside) <= 0.97


def test_intervals_widen_with_the_horizon_and_the_total_is_the_sum() -> None:
    answer = forecast(weekly_series(90, seed=5), 28)
    widths = [point.upper - point.lower for point in answer.points]
    assert sum(widths[-7:]) > sum(widths[:7])
    assert answer.total.value == pytest.approx(sum(point.value for point in answer.points))
    assert answer.total.lower < answer.total.value < answer.total.upper


def test_it_is_deterministic_and_never_negative() -> None:
    series = [0.0, 3.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    first, second = forecast(series, 30), forecast(series, 30)
    assert first == second
    assert all(point.lower >= 0 for point in first.points)


def test_a_short_history_has_no_backtest_and_a_shorter_one_no_forecast() -> None:
    assert forecast([1.0, 2.0, 3.0, 2.0], 7).backtest is None
    with pytest.raises(ValueError, match="at least 4 days"):
        forecast([1.0, 2.0, 3.0], 7)


@pytest.mark.parametrize(("days", "confidence"), [(0, 0.9), (366, 0.9), (7, 0.2), (7, 1.0)])
def test_bad_horizons_and_confidences_are_refused(days: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"forecast reaches|confidence must"):
        forecast([1.0] * 10, days, confidence=confidence)
