"""Evaluates an alert rule as Grafana does: queries through Infinity, then expressions, each over sets of labels.

Grafana (server-side expressions, 12.4) takes a table without a time for numbers when it has one column of numbers and
all others are text: each row is a number, labelled with its texts. To reduce a number is to leave it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.datasource.infinity_backend import Infinity, Json

Labels = tuple[tuple[str, str], ...]
Numbers = dict[Labels, float]

_EVALUATORS: dict[str, Callable[..., bool]] = {
    "gt": lambda value, bound: value > bound,
    "lt": lambda value, bound: value < bound,
    "within_range": lambda value, low, high: low < value < high,
    "outside_range": lambda value, low, high: value < low or value > high,
}
_COMPARISON = re.compile(r"\$(\w+) (>|<) (\d+(?:\.\d+)?)")


class RuleError(AssertionError):
    """The message of the rule's state "Error"."""


async def evaluate(rule: Json, infinity: Infinity) -> dict[str, Numbers]:
    """Return the numbers of every step by its refId; those of ``rule["condition"]`` that are not 0 are alerts."""
    queries = [step["model"] for step in rule["data"] if step["datasourceUid"] != "__expr__"]
    return express(rule, {model["refId"]: numeric_table(model, await infinity.query(model)) for model in queries})


def express(rule: Json, queried: dict[str, Numbers]) -> dict[str, Numbers]:
    """Evaluate the expressions of ``rule``, with given numbers for its queries."""
    found = dict(queried)
    for step in rule["data"]:
        model = step["model"]
        if step["refId"] != model["refId"] or (step["datasourceUid"] == "__expr__") is (step["refId"] in found):
            raise RuleError(f"refId of {step}")
        if step["datasourceUid"] == "__expr__":
            found[step["refId"]] = _EXPRESSIONS[model["type"]](model, found)
    return found


def numeric_table(model: Json, rows: list[list[Any]]) -> Numbers:
    """Return the numbers of a table. Raises :class:`RuleError` for one that Grafana would not take for numbers."""
    kinds = [column["type"] for column in model["columns"]]
    if model["parser"] != "backend" or kinds.count("number") != 1 or set(kinds) - {"number", "string"}:
        raise RuleError("input data must be a wide series but got type long")
    place = kinds.index("number")
    names = [column["text"] for column in model["columns"]]
    numbers: Numbers = {}
    for row in rows:
        labels = tuple((name, row[at]) for at, name in enumerate(names) if at != place)
        if labels in numbers:
            raise RuleError(f"duplicate results with labels {labels}")
        if not isinstance(row[place], int | float):
            raise RuleError(f"{row[place]!r} is not a number")
        numbers[labels] = float(row[place])
    return numbers


def _reduce(model: Json, found: dict[str, Numbers]) -> Numbers:
    if model["reducer"] not in {"last", "mean", "max", "min", "sum", "count"}:
        raise RuleError(f"reducer {model['reducer']}")
    return found[model["expression"]]


def _threshold(model: Json, found: dict[str, Numbers]) -> Numbers:
    (condition,) = model["conditions"]
    evaluator = condition["evaluator"]
    holds = _EVALUATORS[evaluator["type"]]
    return {labels: float(holds(value, *evaluator["params"])) for labels, value in found[model["expression"]].items()}


def _math(model: Json, found: dict[str, Numbers]) -> Numbers:
    """Evaluate comparisons joined by ``&&``, between numbers of the same labels."""
    parts = [_COMPARISON.fullmatch(part) for part in model["expression"].split(" && ")]
    first, *others = [
        {labels: _EVALUATORS["gt" if part[2] == ">" else "lt"](value, float(part[3])) for labels, value in of.items()}
        for part in parts
        if part is not None and (of := found[part[1]]) is not None
    ]
    if len(others) + 1 != len(parts):
        raise RuleError(f"cannot be read: {model['expression']}")
    return {labels: float(holds and all(other[labels] for other in others)) for labels, holds in first.items()}


_EXPRESSIONS: dict[str, Callable[[Json, dict[str, Numbers]], Numbers]] = {
    "reduce": _reduce,
    "threshold": _threshold,
    "math": _math,
}
