"""Bounds on what one expression may hold and take, whatever it is made of.

A few characters can ask for a table of ten thousand by ten thousand numbers, or for a label that doubles at each level.
So whatever makes a table larger than those it was given asks here first, and loops look at the clock.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic
from typing import Final

from datasource.prometheus.promql.errors import ExecutionError, TookTooLong, TooMuch

MOST_SAMPLES: Final = 4_000_000
"""Numbers of one table: series times steps."""
LONGEST_LABEL: Final = 65_536
EVALUATION_SECONDS: Final = 10.0

deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))
"""Moment of the monotonic clock at which the evaluation at hand is given up."""


def check_samples(series: int, steps: int) -> None:
    """Raise :class:`TooMuch` for a table of more than :data:`MOST_SAMPLES`."""
    if series * steps > MOST_SAMPLES:
        raise TooMuch(
            f"query processing would load too many samples into memory in query execution: {series} series at {steps} "
            f"steps, at most {MOST_SAMPLES} samples; sum by fewer labels, or choose a shorter range or a wider step"
        )


def check_time() -> None:
    """Raise :class:`TookTooLong` once the time of the evaluation is over."""
    if monotonic() > deadline.get():
        raise TookTooLong("query timed out in expression evaluation")


def check_label(value: str) -> str:
    """Return ``value``. Raises :class:`ExecutionError` if it is longer than a label may be."""
    if len(value) > LONGEST_LABEL:
        raise ExecutionError(f"a label would have more than {LONGEST_LABEL} characters")
    return value
