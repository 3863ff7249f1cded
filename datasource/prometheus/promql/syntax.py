"""PromQL text to a tree of our own.

The grammar and the checks of types are promql-parser's (Rust). This module adds what it lacks: bounds on length, depth
and number of operators before it is called (its cost grows with their square), refusals of what it accepts and
Prometheus does not, and positions in errors. The tree is evaluated as it is and never printed and parsed again.

Times and durations are whole milliseconds, as in Prometheus.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, Literal

import promql_parser
import re2

from datasource.prometheus.promql.errors import ParseError

LONGEST_QUERY: Final = 8192
DEEPEST: Final = 64
MOST_OPERATORS: Final = 250
LONGEST_DURATION_MS: Final = 100 * 366 * 86_400_000
NAME_LABEL: Final = "__name__"

_LEXEME: Final = re.compile(
    r"""(?P<skip>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|\#[^\n]*|\s+)
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<word>[A-Za-z_:][\w:]*)
      | (?P<number>[0-9.][\w.]*)
      | (?P<operator>[-+*/%^<>=!]+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_WORD_OPERATORS: Final = frozenset({"and", "or", "unless", "atan2"})
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


def parse(text: str) -> Expr:
    """Return the tree of a PromQL expression. Raises :class:`ParseError` with a position."""
    _check_bounds(text)
    try:
        tree = promql_parser.parse(text)
    except ValueError as error:
        raise ParseError(_in_words(str(error)), _place(text, str(error))) from error
    try:
        return _Converter(text).expr(tree)
    except ParseError:
        raise
    except (ValueError, OverflowError) as error:  # what the parser takes and Python's clock does not hold
        raise ParseError(f"out of range: {error}") from error


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of a series selector, as the parameter ``match[]`` has it. Raises :class:`ParseError`."""
    tree = parse(text)
    if not isinstance(tree, Selector) or tree.offset or tree.at is not None:
        raise ParseError("expected a series selector without offset, range or @", 0)
    return tree.matchers


def _check_bounds(text: str) -> None:
    if len(text) > LONGEST_QUERY:
        raise ParseError(f"the expression is longer than {LONGEST_QUERY} characters")
    if not text.strip():
        raise ParseError("no expression found in input")
    depth = operators = signs = 0
    for match in _LEXEME.finditer(text):
        kind, found = match.lastgroup, match.group()
        if kind == "skip":
            continue
        depth += (kind == "open") - (kind == "close")
        is_sign = kind == "operator" and set(found) <= {"-", "+"}
        signs = signs + len(found) if is_sign else 0
        operators += kind == "operator" or (kind == "word" and found.lower() in _WORD_OPERATORS)
        if depth + signs > DEEPEST:
            raise ParseError(f"nested deeper than {DEEPEST} levels", match.start())
        if operators > MOST_OPERATORS:
            raise ParseError(f"more than {MOST_OPERATORS} operators", match.start())
        if found == "@" and re.match(r"@\s*-", text[match.start() :]):
            raise ParseError("a negative timestamp after @ is not supported", match.start())
        if kind == "number" and (match.end() - match.start() > 3) and _overflows(found):
            raise ParseError(f"number out of range: {found[:40]}", match.start())


def _overflows(number: str) -> bool:
    try:
        return math.isinf(float(number))
    except ValueError:
        return False


_QUOTED: Final = re.compile(r"'([^']+)'")


def _place(text: str, message: str) -> int:
    """Return the place in ``text`` that ``message`` names; 0 if it names none."""
    for name in _QUOTED.findall(message):
        found = locate(text, name)
        if found is not None:
            return found
    if any(words in message for words in ("unclosed", "end of input", "invalid promql query")):
        return len(text)
    return 0


_TYPE_WORD: Final = re.compile(r"(?:(?<=type )|(?<=got )|(?<=got: ))(?:vector|matrix)\b")
_TYPE_NAMES: Final = {"vector": "instant vector", "matrix": "range vector"}


def _in_words(message: str) -> str:
    """Return the parser's message with the words and quotes of Prometheus."""
    named = _TYPE_WORD.sub(lambda match: _TYPE_NAMES[match.group()], message)
    return _QUOTED.sub(r'"\1"', named)


def locate(text: str, word: str) -> int | None:
    """Return the first place of ``word`` outside of strings and comments."""
    for match in _LEXEME.finditer(text):
        if match.lastgroup != "skip" and match.group() == word:
            return match.start()
    return None


class _Converter:
    def __init__(self, text: str) -> None:
        self._text = text

    def expr(self, node: Any) -> Expr:
        method = getattr(self, "_" + type(node).__name__, None)
        if method is None:
            raise ParseError(f"{type(node).__name__} is not supported")
        converted: Expr = method(node)
        return converted

    def _NumberLiteral(self, node: Any) -> Expr:  # noqa: N802 - named after the class of the node
        return Number(float(node.val))

    def _StringLiteral(self, node: Any) -> Expr:  # noqa: N802
        return Text(node.val)

    def _ParenExpr(self, node: Any) -> Expr:  # noqa: N802
        return self.expr(node.expr)

    def _VectorSelector(self, node: Any) -> Selector:  # noqa: N802
        if node.matchers.or_matchers:
            raise ParseError('alternatives between matchers ("or" inside of braces) are not supported', self._at("or"))
        matchers = [
            Matcher(item.name, _KINDS[str(item.op).rpartition(".")[2]], item.value) for item in node.matchers.matchers
        ]
        if node.name is not None:
            matchers.insert(0, Matcher(NAME_LABEL, "=", node.name))
        for item in matchers:
            if item.kind in ("=~", "!~"):
                compiled_pattern(item.value)
        return Selector(tuple(matchers), self._milliseconds(node.offset), self._moment(node.at))

    def _MatrixSelector(self, node: Any) -> Expr:  # noqa: N802
        return RangeSelector(self._VectorSelector(node.vector_selector), self._milliseconds(node.range))

    def _SubqueryExpr(self, node: Any) -> Expr:  # noqa: N802
        step = None if node.step is None else self._milliseconds(node.step)
        return Subquery(
            self.expr(node.expr),
            self._milliseconds(node.range),
            step,
            self._milliseconds(node.offset),
            self._moment(node.at),
        )

    def _UnaryExpr(self, node: Any) -> Expr:  # noqa: N802
        return Negation(self.expr(node.expr))

    def _BinaryExpr(self, node: Any) -> Expr:  # noqa: N802
        modifier = node.modifier
        matching, returns_bool = Matching(), False
        if str(node.op) in ("and", "or", "unless"):
            matching = Matching("many-to-many")
        if modifier is not None:
            fill = modifier.fill_values
            if fill is not None and (fill.lhs is not None or fill.rhs is not None):
                raise ParseError("fill() is not supported", self._at("fill"))
            returns_bool = bool(modifier.return_bool)
            label_modifier = modifier.matching
            on = label_modifier is not None and str(label_modifier.type).endswith("Include")
            labels = tuple(label_modifier.labels) if label_modifier is not None else ()
            card = _CARDS[str(modifier.card).rpartition(".")[2]]
            matching = Matching(card, on, labels, tuple(modifier.group_labels or ()))  # type: ignore[arg-type]
        return Binary(str(node.op), self.expr(node.lhs), self.expr(node.rhs), matching, returns_bool)

    def _AggregateExpr(self, node: Any) -> Expr:  # noqa: N802
        modifier = node.modifier
        labels = tuple(modifier.labels) if modifier is not None else ()
        without = modifier is not None and str(modifier.type).endswith("Without")
        param = None if node.param is None else self.expr(node.param)
        return Aggregation(str(node.op), self.expr(node.expr), param, labels, without)

    def _Call(self, node: Any) -> Expr:  # noqa: N802
        return Call(node.func.name, tuple(self.expr(item) for item in node.args))

    def _milliseconds(self, duration: timedelta | None) -> int:
        if duration is None:
            return 0
        found = duration // timedelta(milliseconds=1)
        if abs(found) > LONGEST_DURATION_MS:
            raise ParseError("duration out of range: at most 100 years")
        return found

    def _moment(self, at: Any) -> Moment:
        if at is None:
            return None
        kind = str(at.type).rpartition(".")[2]
        if kind == "At":
            return round(at.at.timestamp() * 1000)
        return "start" if kind == "Start" else "end"

    def _at(self, word: str) -> int:
        return locate(self._text, word) or 0


_KINDS: Final[dict[str, MatchKind]] = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
_CARDS: Final = {
    "OneToOne": "one-to-one",
    "ManyToOne": "many-to-one",
    "OneToMany": "one-to-many",
    "ManyToMany": "many-to-many",
}
