"""The tables of docs/reference/metrics.md, from the tables of the program."""

from __future__ import annotations

from collections.abc import Iterable

from server.queries.metrics.metric_catalog import DIMENSIONS, METRICS, Dimension
from server.rest.metric_request import METRIC_PARAMETERS


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def metrics() -> str:
    """Return every metric."""
    return _table(
        ("Metric", "Unit", "Aggregations", "Scope", "Meaning"),
        (
            (f"`{metric.name}`", metric.unit, ", ".join(metric.aggregations), f"`{metric.permission}`", metric.sentence)
            for metric in METRICS.values()
        ),
    )


def dimensions() -> str:
    """Return every dimension, and the cost of splitting by it."""

    def read_from(dimension: Dimension) -> str:
        if dimension.is_rolled_up:
            return "rollups"
        return "packed hours, raw rows" if dimension.name in {"user", "session"} else "raw rows"

    rows = [(f"`{item.name}`", item.sentence, read_from(item)) for item in DIMENSIONS.values()]
    rows.append(("`attribute.KEY`", "Any attribute of a span by its key; needs the scope `content:read`.", "raw rows"))
    return _table(("Dimension", "Meaning", "Read from"), rows)


def parameters() -> str:
    """Return the parameters of the simple form."""
    return _table(("Parameter", "Meaning"), ((f"`{name}`", text) for name, text in METRIC_PARAMETERS.items()))
