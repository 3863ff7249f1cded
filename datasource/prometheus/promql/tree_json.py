"""The tree of an expression as JSON, in the form of Prometheus' ``/api/v1/parse_query``."""

from __future__ import annotations

from typing import Any, Final

from datasource.prometheus.promql.number_format import format_number
from datasource.prometheus.promql.syntax import (
    NAME_LABEL,
    Aggregation,
    Binary,
    Call,
    Expr,
    Negation,
    Number,
    RangeSelector,
    Selector,
    Subquery,
    Text,
    type_of,
)

Json = dict[str, Any]
_TYPE_WORDS: Final = {"scalar": "scalar", "vector": "vector", "matrix": "matrix", "string": "string"}


def tree_json(expr: Expr) -> Json:
    """Return a node with all below it. Times are in ms; parentheses leave no node, since they change nothing."""
    match expr:
        case Number(value):
            return {"type": "numberLiteral", "val": format_number(value)}
        case Text(value):
            return {"type": "stringLiteral", "val": value}
        case Selector():
            return {"type": "vectorSelector", **_selector(expr)}
        case RangeSelector(selector, length):
            return {"type": "matrixSelector", "range": length, **_selector(selector)}
        case Subquery(inner, length, step, offset, at):
            return {
                "type": "subquery", "expr": tree_json(inner), "range": length, "step": step or 0, "offset": offset,
                **_moment(at),
            }  # fmt: skip
        case Negation(inner):
            return {"type": "unaryExpr", "op": "-", "expr": tree_json(inner)}
        case Binary(op, left, right, matching, returns_bool):
            both = type_of(left) == type_of(right) == "vector"
            return {
                "type": "binaryExpr", "op": op, "lhs": tree_json(left), "rhs": tree_json(right), "bool": returns_bool,
                "matching": {"card": matching.card, "labels": list(matching.labels), "on": matching.on,
                             "include": list(matching.include)} if both else None,
            }  # fmt: skip
        case Aggregation(op, inner, param, labels, without):
            return {
                "type": "aggregation", "op": op, "expr": tree_json(inner),
                "param": None if param is None else tree_json(param), "grouping": list(labels), "without": without,
            }  # fmt: skip
        case Call(function, arguments):
            kinds = [_TYPE_WORDS[type_of(item)] for item in arguments]
            return {
                "type": "call", "args": [tree_json(item) for item in arguments],
                "func": {"name": function, "argTypes": kinds, "variadic": 0, "returnType": _TYPE_WORDS[type_of(expr)]},
            }  # fmt: skip
    raise TypeError(type(expr).__name__)


def _selector(selector: Selector) -> Json:
    names = [item.value for item in selector.matchers if item.name == NAME_LABEL and item.kind == "="]
    return {
        "name": names[0] if names else "",
        "matchers": [{"type": item.kind, "name": item.name, "value": item.value} for item in selector.matchers],
        "offset": selector.offset,
        **_moment(selector.at),
    }


def _moment(at: int | str | None) -> Json:
    return {"timestamp": at if isinstance(at, int) else None, "startOrEnd": at if isinstance(at, str) else None}
