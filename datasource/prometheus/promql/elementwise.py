"""Functions of single values: each takes a vector and returns the vector of results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from datasource.prometheus.promql.values import Floats, Ints, Scalar, Vector, nameless

DAY_MS: Final = 86_400_000

MATHS: Final[dict[str, Callable[[Floats], Floats]]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "sgn": np.sign,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "deg": np.degrees,
    "rad": np.radians,
}


def clamp(vector: Vector, low: Floats, high: Floats) -> Vector:
    """Return the values within both bounds; no series where the bounds are reversed. A NaN bound results in NaN."""
    values = np.maximum(low, np.minimum(high, vector.values))
    kept = vector.present & ~(low > high)
    return nameless(Vector(vector.labels, values, kept))


def rounded(vector: Vector, nearest: Floats) -> Vector:
    """Return the nearest multiple of ``nearest``; a value half way goes up."""
    inverse = 1.0 / nearest
    return vector.mapped(np.floor(vector.values * inverse + 0.5) / inverse)


def timestamps(vector: Vector, steps: Ints) -> Vector:
    """Return the time of each sample in seconds."""
    stamps = np.broadcast_to(steps, vector.values.shape) if vector.stamps is None else vector.stamps
    return vector.mapped(stamps / 1000.0)


def scalar_of(vector: Vector) -> Scalar:
    """Return the value of the only series of a step; NaN where there is none or more than one."""
    count = vector.present.sum(axis=0)
    total = np.where(vector.present, vector.values, 0.0).sum(axis=0)
    return Scalar(np.where(count == 1, total, np.nan))


def _month(days: Ints) -> Ints:
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _days_in_month(days: Ints) -> Floats:
    months = _month(days)
    begins = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    ends = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return np.asarray(ends - begins, dtype=np.float64)


def _day_of(unit: str) -> Callable[[Ints], Floats]:
    def day(days: Ints) -> Floats:
        begins = days.astype("datetime64[D]").astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(np.int64)
        return np.asarray(days - begins + 1, dtype=np.float64)

    return day


# Parts of a date in UTC: functions of the number of days since 1970.
_OF_DAY: Final[dict[str, Callable[[Ints], Floats]]] = {
    "day_of_month": _day_of("M"),
    "day_of_year": _day_of("Y"),
    "day_of_week": lambda days: np.asarray((days + 4) % 7, dtype=np.float64),
    "days_in_month": _days_in_month,
    "month": lambda days: np.asarray(_month(days) % 12 + 1, dtype=np.float64),
    "year": lambda days: np.asarray(_month(days) // 12 + 1970, dtype=np.float64),
}
_OF_SECOND: Final[dict[str, Callable[[Ints], Floats]]] = {
    "minute": lambda seconds: np.asarray(seconds // 60 % 60, dtype=np.float64),
    "hour": lambda seconds: np.asarray(seconds // 3600 % 24, dtype=np.float64),
}
DATES: Final = (*_OF_DAY, *_OF_SECOND)
_FURTHEST: Final = 1e17


def date_part(name: str, values: Floats) -> Floats:
    """Return one part of the date of Unix times in seconds; NaN for values that are not times."""
    is_time = np.abs(values) < _FURTHEST
    seconds = np.where(is_time, values, 0.0).astype(np.int64)
    found = _OF_SECOND[name](seconds) if name in _OF_SECOND else _OF_DAY[name](seconds // 86_400)
    return np.where(is_time, found, np.nan)
