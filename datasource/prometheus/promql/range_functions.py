"""Functions of range vectors: each sees the samples of one series in one window and returns one value or none.

Windows are open on the left, as in Prometheus 3. ``rate`` and ``increase`` here extrapolate to the ends of the window
as Prometheus does; over the counters of the store the planner asks for exact increases instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from datasource.prometheus.promql.aggregation import quantile
from datasource.prometheus.promql.bounds import check_samples, check_time
from datasource.prometheus.promql.errors import ExecutionError
from datasource.prometheus.promql.syntax import NAME_LABEL
from datasource.prometheus.promql.values import Floats, Ints, Vector, Windows, merged, without


@dataclass(frozen=True, slots=True)
class Window:
    """The samples of one series within one window, which ends at ``end`` and belongs to the evaluation at ``step``."""

    times: Ints
    values: Floats
    end: int
    range: int
    step: int


WindowFunction = Callable[[Window, Sequence[float]], float | None]


def apply(function: str, windows: Windows, params: Sequence[Floats]) -> Vector:
    """Apply ``function`` to each window; ``params`` are its scalar arguments at each step."""
    compute, keeps_name = WINDOW_FUNCTIONS[function], function in _KEEP_NAME
    steps = len(windows.ends)
    check_samples(len(windows.series), steps)
    values = np.zeros((len(windows.series), steps))
    present = np.zeros((len(windows.series), steps), dtype=bool)
    for row, series in enumerate(windows.series):
        first, last = windows.bounds(series)
        for step in np.flatnonzero(last > first).tolist():
            check_time()
            low, high = first[step], last[step]
            window = Window(
                series.times[low:high],
                series.values[low:high],
                int(windows.ends[step]),
                windows.range,
                int(windows.steps[step]),
            )
            found = compute(window, [param[step] for param in params])
            if found is not None:
                values[row, step], present[row, step] = found, True
    dropped = () if keeps_name else (NAME_LABEL,)
    return merged(Vector([without(series.labels, dropped) for series in windows.series], values, present))


def _extrapolated(window: Window, *, is_counter: bool, is_rate: bool) -> float | None:
    times, values = window.times, window.values
    if len(times) < 2:
        return None
    total = float(values[-1] - values[0])
    if is_counter:
        falls = values[1:] < values[:-1]
        total += float(values[:-1][falls].sum())
    begin = window.end - window.range
    to_start, to_end = (times[0] - begin) / 1000, (window.end - times[-1]) / 1000
    sampled = (times[-1] - times[0]) / 1000
    between = sampled / (len(times) - 1)
    # A series that begins or ends further from the border than its samples are apart is taken to end half way.
    threshold = between * 1.1
    if to_start >= threshold:
        to_start = between / 2
    if is_counter and total > 0 and values[0] >= 0:
        to_start = min(to_start, sampled * float(values[0]) / total)
    if to_end >= threshold:
        to_end = between / 2
    factor = (sampled + to_start + to_end) / sampled
    return float(total * factor / (window.range / 1000 if is_rate else 1.0))


def _instant(*, is_rate: bool) -> WindowFunction:
    def compute(window: Window, _: Sequence[float]) -> float | None:
        if len(window.times) < 2:
            return None
        before, now = float(window.values[-2]), float(window.values[-1])
        change = now if is_rate and now < before else now - before
        seconds = float(window.times[-1] - window.times[-2]) / 1000
        if seconds == 0:
            return None
        return change / seconds if is_rate else change

    return compute


def _regression(window: Window, around: int) -> tuple[float, float]:
    """Slope by second and value at ``around`` of the line of least squares."""
    values = window.values
    if np.all(values == values[0]):
        return (float("nan"), float("nan")) if np.isinf(values[0]) else (0.0, float(values[0]))
    seconds = (window.times - around) / 1000
    middle, height = seconds.mean(), values.mean()
    spread = ((seconds - middle) ** 2).sum()
    slope = float(((seconds - middle) * (values - height)).sum() / spread)
    return slope, float(height - slope * middle)


def _deriv(window: Window, _: Sequence[float]) -> float | None:
    return _regression(window, int(window.times[0]))[0] if len(window.times) > 1 else None


def _predict(window: Window, params: Sequence[float]) -> float | None:
    if len(window.times) < 2:
        return None
    slope, value = _regression(window, window.step)
    return value + slope * params[0]


def _smoothed(window: Window, params: Sequence[float]) -> float | None:
    smoothing, trending = params
    for name, factor in (("smoothing", smoothing), ("trend", trending)):
        if not 0 < factor < 1:
            raise ExecutionError(f"invalid {name} factor. Expected: 0 < factor < 1, got: {factor:g}")
    values = window.values
    if len(values) < 2:
        return None
    before, level, trend = 0.0, float(values[0]), float(values[1] - values[0])
    for place in range(1, len(values)):
        check_time()
        if place > 1:
            trend = trending * (level - before) + (1 - trending) * trend
        before, level = level, smoothing * float(values[place]) + (1 - smoothing) * (level + trend)
    return level


def _changes(window: Window, _: Sequence[float]) -> float:
    before, after = window.values[:-1], window.values[1:]
    return float(((before != after) & ~(np.isnan(before) & np.isnan(after))).sum())


def _of_values(compute: Callable[[Floats], float]) -> WindowFunction:
    return lambda window, _: float(compute(window.values))


WINDOW_FUNCTIONS: Final[dict[str, WindowFunction]] = {
    "rate": lambda window, _: _extrapolated(window, is_counter=True, is_rate=True),
    "increase": lambda window, _: _extrapolated(window, is_counter=True, is_rate=False),
    "delta": lambda window, _: _extrapolated(window, is_counter=False, is_rate=False),
    "irate": _instant(is_rate=True),
    "idelta": _instant(is_rate=False),
    "deriv": _deriv,
    "predict_linear": _predict,
    "double_exponential_smoothing": _smoothed,
    "changes": _changes,
    "resets": _of_values(lambda values: (values[1:] < values[:-1]).sum()),
    "avg_over_time": _of_values(np.mean),
    "sum_over_time": _of_values(np.sum),
    "min_over_time": _of_values(np.fmin.reduce),
    "max_over_time": _of_values(np.fmax.reduce),
    "count_over_time": _of_values(len),
    "last_over_time": _of_values(lambda values: values[-1]),
    "first_over_time": _of_values(lambda values: values[0]),
    "present_over_time": _of_values(lambda _: 1.0),
    "stddev_over_time": _of_values(np.std),
    "stdvar_over_time": _of_values(np.var),
    "mad_over_time": _of_values(lambda values: quantile(0.5, np.abs(values - quantile(0.5, values)))),
    "quantile_over_time": lambda window, params: quantile(params[0], window.values),
}
_KEEP_NAME: Final = frozenset({"last_over_time", "first_over_time"})
LEADING_PARAMETER: Final = frozenset({"quantile_over_time"})
"""Functions whose scalar comes before the range vector."""
