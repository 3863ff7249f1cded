"""Numbers as Prometheus writes them in answers and labels."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

SMALLEST_PLAIN: Final = 1e-6
SMALLEST_HUGE: Final = 1e21
"""Samples nearer to zero than the first, or from the second on, have an exponent."""


def format_sample(value: float) -> str:
    """Return a number as Prometheus writes samples of vectors and matrices."""
    if value and not SMALLEST_PLAIN <= abs(value) < SMALLEST_HUGE and math.isfinite(value):
        return repr(float(value))
    return format_number(value)


def format_number(value: float) -> str:
    """Return the shortest text that reads back as ``value``, never with an exponent: scalars, labels, expositions."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(float(value))
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")
