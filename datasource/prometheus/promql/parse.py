"""PromQL text to a tree of our own (:mod:`datasource.prometheus.promql.syntax`).

The grammar and the checks of types are promql-parser's (Rust). This module adds what it lacks: bounds on length, depth
and number of operators before it is called (its cost grows with their square), refusals of what it accepts and
Prometheus does not, and positions in errors.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any, Final

import promql_parser

from datasource.prometheus.promql.errors import ParseError
from datasource.prometheus.promql.syntax import (
    NAME_LABEL,
    Aggregation,
    Binary,
    Call,
    Expr,
    Matcher,
    Matching,
    MatchKind,
    Moment,
    Negation,
    Number,
    RangeSelector,
    Selector,
    Subquery,
    Text,
    compiled_pattern,
)

LONGEST_QUERY: Final = 8192
DEEPEST: Final = 64
MOST_OPERATORS: Final = 250
LONGEST_DURATION_MS: Final = 100 * 366 * 86_400_000

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
