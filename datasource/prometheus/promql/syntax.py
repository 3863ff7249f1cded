"""The tree of a PromQL expression: what it is made of, and walks over it.

The tree is evaluated as it is and never printed and parsed again. Times and durations are whole milliseconds, as in
Prometheus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import re2

from datasource.prometheus.promql.errors import ParseError

NAME_LABEL: Final = "__name__"

_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

MatchKind = Literal["=", "!=", "=~", "!~"]
Moment = int | Literal["start", "end"] | None


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; a missing label is the empty text. Patterns are anchored at both ends."""

    name: str
    kind: MatchKind
    value: str

    def accepts(self, value: str) -> bool:
        """Return whether a series with this ``value`` is meant."""
        if self.kind in ("=", "!="):
            return (value == self.value) is (self.kind == "=")
        return (compiled_pattern(self.value).fullmatch(value) is not None) is (self.kind == "=~")


@dataclass(frozen=True, slots=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by their name and labels, each with its value at a moment. ``at`` fixes that moment."""

    matchers: tuple[Matcher, ...]
    offset: int = 0
    at: Moment = None


@dataclass(frozen=True, slots=True)
class RangeSelector:
    """The samples of the last ``range`` milliseconds."""

    selector: Selector
    range: int


@dataclass(frozen=True, slots=True)
class Subquery:
    """``expr`` at every ``step`` (None: the default) of the last ``range`` milliseconds."""

    expr: Expr
    range: int
    step: int | None
    offset: int = 0
    at: Moment = None


@dataclass(frozen=True, slots=True)
class Negation:
    """The opposite number."""

    expr: Expr


@dataclass(frozen=True, slots=True)
class Matching:
    """How the series of both sides find each other. ``labels`` None: by all labels but the name."""

    card: Literal["one-to-one", "many-to-one", "one-to-many", "many-to-many"] = "one-to-one"
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    """``left op right``. ``returns_bool``: a comparison returns 0 or 1 instead of keeping or dropping."""

    op: str
    left: Expr
    right: Expr
    matching: Matching
    returns_bool: bool


@dataclass(frozen=True, slots=True)
class Aggregation:
    """``op`` over groups of series: by ``labels``, or by all others when ``without``."""

    op: str
    expr: Expr
    param: Expr | None
    labels: tuple[str, ...]
    without: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function."""

    function: str
    args: tuple[Expr, ...]


Expr = Number | Text | Selector | RangeSelector | Subquery | Negation | Binary | Aggregation | Call
ValueType = Literal["scalar", "vector", "matrix", "string"]

_SCALAR_FUNCTIONS: Final = frozenset({"time", "scalar", "pi"})


def type_of(expr: Expr) -> ValueType:
    """Return the type of the value that ``expr`` has."""
    match expr:
        case Number():
            return "scalar"
        case Text():
            return "string"
        case RangeSelector() | Subquery():
            return "matrix"
        case Call(function):
            return "scalar" if function in _SCALAR_FUNCTIONS else "vector"
        case Negation(inner):
            return type_of(inner)
        case Binary(_, left, right):
            return "scalar" if type_of(left) == type_of(right) == "scalar" else "vector"
        case _:
            return "vector"


def children(expr: Expr) -> tuple[Expr, ...]:
    """Return the parts of ``expr``, from left to right."""
    match expr:
        case RangeSelector(selector):
            return (selector,)
        case Subquery(inner) | Negation(inner):
            return (inner,)
        case Binary(_, left, right):
            return (left, right)
        case Aggregation(_, inner, param):
            return (inner,) if param is None else (param, inner)
        case Call(_, args):
            return args
        case _:
            return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """Yield ``expr`` and all its parts."""
    yield expr
    for part in children(expr):
        yield from walk(part)


@lru_cache(maxsize=32)  # each may take a megabyte
def compiled_pattern(pattern: str) -> Any:
    """Return a pattern that takes linear time whatever it is given. Raises :class:`ParseError` for one that RE2
    refuses.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0] if error.args else ""
        text = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        raise ParseError(f"error parsing regexp: {text}: `{pattern[:100]}`") from error


def is_label_name(name: str) -> bool:
    """Return whether ``name`` may be written as a label without quotes."""
    return _LABEL_NAME.fullmatch(name) is not None
