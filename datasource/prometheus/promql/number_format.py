"""Numbers as Prometheus writes them in answers and labels."""

from __future__ import annotations

import math
from decimal import Decimal


def format_number(value: float) -> str:
    """Return the shortest text that reads back as ``value``, never with an exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(float(value))
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")
