"""Warnings and infos about an expression that is answered all the same, in the words of Prometheus."""

from __future__ import annotations

from typing import Final

from datasource.prometheus.gauges import GAUGES
from datasource.prometheus.promql.number_format import format_number
from datasource.prometheus.promql.syntax import (
    NAME_LABEL,
    Aggregation,
    Call,
    Expr,
    Negation,
    Number,
    RangeSelector,
    walk,
)

_OF_COUNTERS: Final = frozenset({"rate", "increase", "irate"})
_QUANTILES: Final = frozenset({"histogram_quantile", "quantile_over_time"})


def notices_of(expr: Expr) -> tuple[list[str], list[str]]:
    """Return the warnings and the infos about ``expr``, each once."""
    warnings: dict[str, None] = {}
    infos: dict[str, None] = {}
    for part in walk(expr):
        match part:
            case Call(function, (asked, *_)) if function in _QUANTILES:
                _note_quantile(asked, warnings)
            case Aggregation("quantile", param=param) if param is not None:
                _note_quantile(param, warnings)
            case Call(function, (RangeSelector(selector), *_)) if function in _OF_COUNTERS:
                for item in selector.matchers:
                    if item.name == NAME_LABEL and item.kind == "=" and item.value in GAUGES:
                        infos[
                            "PromQL info: metric might not be a counter, name does not end in"
                            f' _total/_sum/_count/_bucket: "{item.value}"'
                        ] = None
    return list(warnings), list(infos)


def _note_quantile(param: Expr, warnings: dict[str, None]) -> None:
    value = _number(param)
    if value is not None and not 0 <= value <= 1:
        warnings[f"PromQL warning: quantile value should be between 0 and 1, got {format_number(value)}"] = None


def _number(expr: Expr) -> float | None:
    match expr:
        case Number(value):
            return value
        case Negation(Number(value)):
            return -value
        case _:
            return None
