"""The operators of filters, as one table.

A row holds everything about an operator: its operand, its SQL, its sign in Grafana's ad hoc filters and in TraceQL, and
its sentence on the reference page docs/reference/trace-query.md. Adding an operator means adding a row, and naming it
in the types that have it (:data:`~server.queries.filters.span_fields.TYPE_OPERATORS`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

Operand = Literal["one", "list", "pair", "truth", "text", "pattern", "search", "meaning", "reference"]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    ``operand``: one value, a list, a pair of bounds, a truth value, a text, a regular expression, a search, a text to
    compare by meaning, or a trace or span (``TRACE_ID``, ``TRACE_ID/SPAN_ID``). ``sql``: the predicate over an
    expression ``{x}`` and a bound value ``{v}``; None where the field's type decides. ``like``: the LIKE pattern that a
    text is put into. ``negates``: the operator of which this is the complement. ``sign``: its sign in ad hoc filters
    and TraceQL; ``negated_sign``: that of its complement, where the complement has no name here. ``compare``: the
    comparison of two numbers in Python. ``is_ranking``: the operator orders the rows of a list instead of choosing
    among them, so it has no SQL predicate.
    """

    operand: Operand
    sentence: str
    sql: str | None = None
    like: str | None = None
    negates: str | None = None
    sign: str | None = None
    negated_sign: str | None = None
    compare: Callable[[Any, Any], bool] | None = None
    is_ranking: bool = False


_LIKE: Final = "{x} ILIKE {v}"

OPERATORS: Final[dict[str, Operator]] = {
    "eq": Operator(
        "one",
        "Equal, byte for byte; `null` asks for rows without a value.",
        sql="{x} = {v}",
        sign="=",
        compare=operator.eq,
    ),
    "ne": Operator(
        "one",
        "Not `eq`: rows without a value are included.",
        sql="{x} <> {v}",
        negates="eq",
        sign="!=",
        compare=operator.ne,
    ),
    "gt": Operator(
        "one",
        "Greater than; never true for rows without a value.",
        sql="{x} > {v}",
        sign=">",
        compare=operator.gt,
    ),
    "gte": Operator("one", "Greater than or equal.", sql="{x} >= {v}", sign=">=", compare=operator.ge),
    "lt": Operator("one", "Less than.", sql="{x} < {v}", sign="<", compare=operator.lt),
    "lte": Operator("one", "Less than or equal.", sql="{x} <= {v}", sign="<=", compare=operator.le),
    "between": Operator("pair", "`[low, high]`, both included."),
    "in": Operator("list", "Equal to one of 1 to 100 values.", sql="{x} = ANY ({v})", sign="=|"),
    "not_in": Operator("list", "Not `in`: rows without a value are included.", negates="in", sign="!=|"),
    "exists": Operator("truth", "`true`: has a value; `false`: has none."),
    "contains": Operator(
        "text", "Has this substring; case is ignored, and no character is a wildcard.", sql=_LIKE, like="%{}%"
    ),
    "not_contains": Operator("text", "Not `contains`: rows without a value are included.", negates="contains"),
    "starts_with": Operator("text", "Begins with this text; case is ignored.", sql=_LIKE, like="{}%"),
    "ends_with": Operator("text", "Ends with this text; case is ignored.", sql=_LIKE, like="%{}"),
    "regex": Operator(
        "pattern",
        "A part matches a restricted regular expression; see Regular expressions.",
        sql="{x} ~ {v}",
        sign="=~",
        negated_sign="!~",
    ),
    "any": Operator("list", "Has at least one of these tags."),
    "all": Operator("list", "Has each of these tags."),
    "search": Operator("search", "Full-text search in web-search syntax; see docs/reference/search.md."),
    "search_new": Operator(
        "search", "As `search`, but not in the history that a call repeats; see docs/reference/search.md."
    ),
    "meaning": Operator(
        "meaning",
        "Closest in meaning to this text, in any language: an order of lists; see docs/reference/semantic-search.md.",
        is_ranking=True,
    ),
    "like": Operator(
        "reference", "Closest in meaning to this trace or span: `TRACE_ID` or `TRACE_ID/SPAN_ID`.", is_ranking=True
    ),
}

SEARCHES: Final = frozenset(name for name, row in OPERATORS.items() if row.operand == "search")
"""Operators that look for words."""

SIGNS: Final[dict[str, tuple[str, bool]]] = {
    **{row.sign: (name, False) for name, row in OPERATORS.items() if row.sign is not None},
    **{row.negated_sign: (name, True) for name, row in OPERATORS.items() if row.negated_sign is not None},
}
"""Sign → the operator, and whether the sign means its complement."""

NUMBER_OPERATORS: Final = {name: row.compare for name, row in OPERATORS.items() if row.compare is not None}
"""Operators that compare two numbers, as functions."""
