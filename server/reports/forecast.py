"""Forecasts of a daily series with a weekly rhythm: level, damped trend, season, honest intervals.

The model is additive exponential smoothing with a damped trend and a season of seven days (ETS(A,Ad,A) in Hyndman et
al., *Forecasting with Exponential Smoothing*, 2008); with less than three weeks of history the season is left out.
Smoothing weights are chosen by the one-step errors over the history. Intervals come from simulated futures that redraw
the model's own past errors, so they widen with the horizon and need no normal distribution; the interval of a total is
taken from the totals of those futures, since the days of one future depend on each other. The forecast is tried on the
past: the last days are forecast from the days before.

Everything is deterministic: the random numbers have a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SEASON: Final = 7
SHORTEST_HISTORY: Final = 4
_SEASONAL_FROM: Final = 3 * SEASON
_FUTURES: Final = 1000
_LEVEL_WEIGHTS: Final = (0.05, 0.1, 0.2, 0.35, 0.5, 0.8)
_TREND_WEIGHTS: Final = (0.0, 0.05, 0.15)
_SEASON_WEIGHTS: Final = (0.0, 0.1, 0.3)
_DAMPING: Final = 0.9


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """One future day: the expected value, and bounds that contain the value with the requested probability."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Backtest:
    """The forecast tried on the past.

    ``mean_absolute_error`` is in the unit of the series; ``mape`` the mean absolute percentage error over days with a
    value (None when there are none); ``coverage`` the share of days that lay within their interval; ``versus_naive``
    the error divided by that of "same as a week before" (below 1: better).
    """

    days: int
    mean_absolute_error: float
    mape: float | None
    coverage: float
    versus_naive: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Future days, their total, and the same method's result on the past (None if the past is too short)."""

    points: tuple[ForecastPoint, ...]
    total: ForecastPoint
    model: str
    backtest: Backtest | None


@dataclass(frozen=True, slots=True)
class _Fit:
    level: float
    trend: float
    season: tuple[float, ...]
    weights: tuple[float, float, float]
    errors: Floats


def forecast(history: Sequence[float], days: int, *, confidence: float = 0.95) -> Forecast:
    """Forecast the ``days`` after ``history`` (daily values, oldest first, days without traffic as 0, no gaps).

    Values are never below zero. Raises ValueError for fewer than four days of history, for ``days`` outside 1 to 365,
    and for a ``confidence`` outside 0.5 to 0.999.
    """
    if len(history) < SHORTEST_HISTORY:
        raise ValueError(f"a forecast needs at least {SHORTEST_HISTORY} days of history, there are {len(history)}")
    if not 1 <= days <= 365:
        raise ValueError("a forecast reaches 1 to 365 days ahead")
    if not 0.5 <= confidence <= 0.999:
        raise ValueError("the confidence must be between 0.5 and 0.999")
    series = np.asarray(history, dtype=np.float64)
    points, total, seasonal = _project(series, days, confidence)
    return Forecast(
        points=points,
        total=total,
        model="damped trend with weekly season" if seasonal else "damped trend",
        backtest=_backtest(series, days, confidence),
    )


def _project(series: Floats, days: int, confidence: float) -> tuple[tuple[ForecastPoint, ...], ForecastPoint, bool]:
    period = SEASON if len(series) >= _SEASONAL_FROM else 1
    fit = _fit(series, period)
    futures = _simulate(fit, days, period)
    middle = np.maximum(_simulate(fit, days, period, errors=np.zeros((1, days)))[0], 0.0)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(futures, [tail, 1 - tail], axis=0)
    points = tuple(
        ForecastPoint(float(value), float(min(low, value)), float(max(high, value)))
        for value, low, high in zip(middle, lower, upper, strict=True)
    )
    total_low, total_high = np.quantile(futures.sum(axis=1), [tail, 1 - tail])
    expected = float(middle.sum())
    total = ForecastPoint(expected, float(min(total_low, expected)), float(max(total_high, expected)))
    return points, total, period > 1


def _fit(series: Floats, period: int) -> _Fit:
    """Return the weights of the grid whose one-step forecasts were closest, and the state after the last day."""
    season_weights = _SEASON_WEIGHTS if period > 1 else (0.0,)
    fits = (_smooth(series, period, weights) for weights in product(_LEVEL_WEIGHTS, _TREND_WEIGHTS, season_weights))
    warm_up = min(period, len(series) - 2)
    return min(fits, key=lambda fit: float(np.square(fit.errors[warm_up:]).mean()))


def _smooth(series: Floats, period: int, weights: tuple[float, float, float]) -> _Fit:
    level_weight, trend_weight, season_weight = weights
    level, trend, season = _start(series, period)
    errors = np.empty(len(series))
    for day, value in enumerate(series.tolist()):
        place = day % period
        expected = level + _DAMPING * trend + season[place]
        error = value - expected
        errors[day] = error
        level += _DAMPING * trend + level_weight * error
        trend = _DAMPING * trend + trend_weight * error
        season[place] += season_weight * error
    shift = len(series) % period
    return _Fit(level, trend, tuple(season[shift:] + season[:shift]), weights, errors)


def _start(series: Floats, period: int) -> tuple[float, float, list[float]]:
    if period == 1:
        return float(series[: min(7, len(series))].mean()), 0.0, [0.0]
    weeks = len(series) // period
    table = series[: weeks * period].reshape(weeks, period)
    offsets = np.median(table - table.mean(axis=1, keepdims=True), axis=0)
    return float(table[0].mean()), 0.0, (offsets - offsets.mean()).tolist()


def _simulate(fit: _Fit, days: int, period: int, *, errors: Floats | None = None) -> Floats:
    """Return futures, one per row. ``errors`` None: redraw the past errors, the warm-up left out."""
    level_weight, trend_weight, season_weight = fit.weights
    if errors is None:
        past = fit.errors[min(period, len(fit.errors) - 2) :]
        # The weights were fitted to these errors, so the correction makes up for the lost degrees of freedom.
        spread = np.sqrt(len(past) / max(len(past) - 3, 1))
        errors = np.random.default_rng(1).choice((past - past.mean()) * spread, size=(_FUTURES, days))
    count = len(errors)
    level = np.full(count, fit.level)
    trend = np.full(count, fit.trend)
    season = np.tile(np.asarray(fit.season), (count, 1))
    paths = np.empty((count, days))
    for day in range(days):
        place = day % period
        error = errors[:, day]
        paths[:, day] = level + _DAMPING * trend + season[:, place] + error
        level = level + _DAMPING * trend + level_weight * error
        trend = _DAMPING * trend + trend_weight * error
        season[:, place] += season_weight * error
    return np.maximum(paths, 0.0)


def _backtest(series: Floats, days: int, confidence: float) -> Backtest | None:
    """Forecast the last days of the history from up to four earlier moments, a week (or less) at a time."""
    reach = min(days, SEASON)
    origins = [len(series) - reach * step for step in range(1, 5)]
    origins = [origin for origin in origins if origin >= max(SHORTEST_HISTORY, 2 * reach)]
    if not origins:
        return None
    actual_values: list[float] = []
    predicted: list[ForecastPoint] = []
    naive_errors: list[float] = []
    for origin in origins:
        points, _, _ = _project(series[:origin], reach, confidence)
        actual = series[origin : origin + reach].tolist()
        actual_values.extend(actual)
        predicted.extend(points)
        if origin >= SEASON:
            before = series[origin - SEASON : origin - SEASON + reach].tolist()
            naive_errors.extend(abs(value - old) for value, old in zip(actual, before, strict=True))
    errors = [abs(value - point.value) for value, point in zip(actual_values, predicted, strict=True)]
    shares = [error / value for error, value in zip(errors, actual_values, strict=True) if value > 0]
    inside = [point.lower <= value <= point.upper for value, point in zip(actual_values, predicted, strict=True)]
    error = sum(errors) / len(errors)
    naive = sum(naive_errors) / len(naive_errors) if naive_errors else 0.0
    return Backtest(
        days=len(errors),
        mean_absolute_error=error,
        mape=sum(shares) / len(shares) if shares else None,
        coverage=sum(inside) / len(inside),
        versus_naive=error / naive if naive > 0 else None,
    )
