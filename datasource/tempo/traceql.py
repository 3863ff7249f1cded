"""TraceQL: text to a tree.

Spansets ``{ … }`` with ``&&``, ``||``, ``!`` and parentheses over comparisons; spansets joined by ``&&``, ``||`` and
the structural operators; pipelines of filters, aggregates, ``select`` and one function of metrics. Anything
unsupported is refused with its position and the nearest form that is: Grafana shows the sentence.

Grafana's tag editor also writes values without quotes (``{resource.service.name=api}``): accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from server.errors import InvalidParameter

LONGEST_QUERY: Final = 4096
DEEPEST: Final = 16
MOST_SPANSETS: Final = 16
"""In a whole query: the database is asked for the spans of each of them, page by page of traces."""
MOST_COMPARISONS: Final = 50
"""In a whole query, however they are shared out among spansets."""

STRUCTURE: Final = (
    "!>>", "!<<", "&>>", "&<<", ">>", "<<", "!>", "!<", "!~", "&>", "&<", "&~", ">", "<", "~",
)  # fmt: skip
COMPARISONS: Final = ("=", "!=", "=~", "!~", ">", ">=", "<", "<=")
FLIPPED: Final = {"=": "=", "!=": "!=", ">": "<", "<": ">", ">=": "<=", "<=": ">="}
AGGREGATES: Final = ("count", "avg", "min", "max", "sum")
METRIC_FUNCTIONS: Final = (
    "rate", "count_over_time", "sum_over_time", "avg_over_time", "min_over_time", "max_over_time",
    "quantile_over_time", "histogram_over_time", "compare",
)  # fmt: skip
_ARITHMETIC: Final = ("+", "-", "*", "/", "%", "^")
_SCOPES: Final = ("span.", "resource.", "event.", "link.", "instrumentation.", "parent.", ".")

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
      | (?P<sign>!>>|!<<|&>>|&<<|&&|\|\||>>|<<|>=|<=|=~|!~|!=|&>|&<|&~|!>|!<|[(){},|=<>!~])
      | (?P<word>[^\s"`(){}&|=!<>~,]+(?:"(?:[^"\\]|\\.)*")?)
    )""",
    re.VERBOSE,
)
_LITERAL: Final = re.compile(r"-?\d.*|true|false|nil", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """A string, sign or word, and its place."""

    kind: str
    text: str
    place: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """``name sign value``; without a sign: the attribute is there and not false."""

    name: str
    sign: str
    value: Token | None
    place: int


@dataclass(frozen=True, slots=True)
class Constant:
    """``true`` or ``false``."""

    value: bool


@dataclass(frozen=True, slots=True)
class Inverse:
    """The complement of the part."""

    part: Condition


@dataclass(frozen=True, slots=True)
class Joined:
    """Conditions joined by ``&&`` or ``||``."""

    sign: str
    parts: tuple[Condition, ...]


Condition = Comparison | Constant | Inverse | Joined


@dataclass(frozen=True, slots=True)
class Spanset:
    """The spans like ``condition``; None: all."""

    condition: Condition | None


@dataclass(frozen=True, slots=True)
class Structural:
    """Two spansets of one trace, related by ``sign``."""

    sign: str
    left: SpansetExpression
    right: SpansetExpression


SpansetExpression = Spanset | Structural


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``count() > 2``, ``avg(duration) > 1s``: keep the traces whose spanset compares so."""

    function: str
    name: str
    sign: str
    value: Token


@dataclass(frozen=True, slots=True)
class Metric:
    """A function of metrics with its arguments, and the names it is split by. ``selection``: of ``compare``."""

    function: str
    name: str = ""
    numbers: tuple[float, ...] = ()
    by: tuple[str, ...] = ()
    selection: Spanset | None = None


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """A whole query. ``selected``: names that the spans of a search are to show."""

    spans: SpansetExpression
    filters: tuple[SpansetExpression, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    selected: tuple[str, ...] = ()
    metric: Metric | None = None


def fault(place: int, detail: str) -> InvalidParameter:
    """Return the error for the text at ``place`` of ``q``."""
    return InvalidParameter.named("q", f"at character {place + 1}: {detail}")


def parse_query(query: str) -> TraceQuery:
    """Return the tree of ``query``; the empty text means every span.

    Raises :class:`InvalidParameter` with the position of what cannot be understood.
    """
    if len(query) > LONGEST_QUERY:
        raise InvalidParameter.named("q", f"longer than {LONGEST_QUERY} characters")
    if not query.strip():
        return TraceQuery(Spanset(None))
    return _Parser(query).query()


def unquoted(text: str) -> str:
    """Return the value of a string in double quotes or backticks."""
    if text.startswith("`"):
        return text[1:-1]
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text[1:-1], flags=re.DOTALL)


def is_name(token: Token, intrinsics: frozenset[str]) -> bool:
    """Return whether a token names an intrinsic or an attribute."""
    return token.kind == "word" and (token.text.startswith(_SCOPES) or token.text in intrinsics)


class _Parser:
    """Recursive descent; one method per rule."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens = list(self._read())
        self._position = 0
        self._spansets = 0
        self._comparisons = 0

    def _read(self) -> list[Token]:
        found: list[Token] = []
        position = 0
        while position < len(self._query):
            match = _TOKEN.match(self._query, position)
            if match is None:
                rest = self._query[position:]
                if not rest.strip():
                    break
                raise fault(position, f"{rest.strip()[:20]!r} cannot be read")
            kind = str(match.lastgroup)
            found.append(Token(kind, match[kind], match.start(kind)))
            position = match.end()
        return found

    def query(self) -> TraceQuery:
        spans = self._alternatives(1)
        filters: list[SpansetExpression] = []
        aggregates: list[Aggregate] = []
        selected: list[str] = []
        metric: Metric | None = None
        while self._accept("|"):
            if metric is not None:
                raise fault(self._place(), f"nothing may follow {metric.function}(); put filters before it")
            if self._peek() in ("{", "("):
                filters.append(self._alternatives(1))
                continue
            word = self._take("word", f"a stage such as count() > 2, select(name) or {METRIC_FUNCTIONS[0]}()")
            if word.text in AGGREGATES:
                aggregates.append(self._aggregate(word))
            elif word.text == "select":
                selected += self._names()
            elif word.text in METRIC_FUNCTIONS:
                metric = self._metric(word)
            else:
                known = ", ".join((*AGGREGATES, "select", *METRIC_FUNCTIONS))
                raise fault(word.place, f"the stage {word.text!r} is not supported; supported are {known}")
        if self._peek() == "with":
            self._hints()
        if self._position < len(self._tokens):
            if metric is not None:
                raise fault(self._place(), f"{metric.function}() cannot be compared or combined: ask for it alone")
            raise fault(self._place(), f"{self._peek()!r} is not understood here")
        return TraceQuery(spans, tuple(filters), tuple(aggregates), tuple(selected), metric)

    def _alternatives(self, depth: int) -> SpansetExpression:
        left = self._conjunction(depth)
        while self._accept("||"):
            left = Structural("||", left, self._conjunction(depth))
        return left

    def _conjunction(self, depth: int) -> SpansetExpression:
        left = self._related(depth)
        while self._accept("&&"):
            left = Structural("&&", left, self._related(depth))
        return left

    def _related(self, depth: int) -> SpansetExpression:
        left = self._spanset(depth)
        while self._peek() in STRUCTURE:
            sign = self._tokens[self._position].text
            self._position += 1
            left = Structural(sign, left, self._spanset(depth))
        return left

    def _spanset(self, depth: int) -> SpansetExpression:
        if depth > DEEPEST:
            raise fault(self._place(), f"nested deeper than {DEEPEST} levels")
        if self._accept("("):
            inner = self._alternatives(depth + 1)
            self._expect(")")
            return inner
        self._spansets += 1
        if self._spansets > MOST_SPANSETS:
            raise fault(self._place(), f"more than {MOST_SPANSETS} spansets {{ … }}: join conditions within one")
        self._expect("{")
        condition = None if self._peek() == "}" else self._any_of(1)
        self._expect("}")
        return Spanset(condition)

    def _any_of(self, depth: int) -> Condition:
        parts = [self._all_of(depth)]
        while self._accept("||"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else Joined("||", tuple(parts))

    def _all_of(self, depth: int) -> Condition:
        parts = [self._unary(depth)]
        while self._accept("&&"):
            parts.append(self._unary(depth))
        return parts[0] if len(parts) == 1 else Joined("&&", tuple(parts))

    def _unary(self, depth: int) -> Condition:
        if depth > DEEPEST:
            raise fault(self._place(), f"nested deeper than {DEEPEST} levels")
        if self._accept("!"):
            return Inverse(self._unary(depth + 1))
        if self._accept("("):
            inner = self._any_of(depth + 1)
            self._expect(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise fault(self._place(), f"more than {MOST_COMPARISONS} comparisons")
        left = self._operand("a name such as resource.service.name, duration or status")
        self._refuse_arithmetic(left)
        sign = self._peek()
        if sign not in COMPARISONS:
            if left.kind == "word" and left.text in ("true", "false"):
                return Constant(left.text == "true")
            return Comparison(left.text, "", None, left.place)
        self._position += 1
        right = self._operand(f"a value after {left.text} {sign}")
        self._refuse_arithmetic(right)
        is_literal = left.kind == "string" or _LITERAL.fullmatch(left.text) is not None
        if not is_literal:
            return Comparison(left.text, sign, right, left.place)
        if sign not in FLIPPED or right.kind != "word":
            raise fault(left.place, f"write the name on the left: name {sign} {left.text}")
        return Comparison(right.text, FLIPPED[sign], left, right.place)

    def _refuse_arithmetic(self, operand: Token) -> None:
        sign = self._peek()
        if self._kind() == "word" and sign in _ARITHMETIC:
            raise fault(
                self._place(),
                f"{operand.text} {sign} … is not supported: compare one attribute with one value (duration > 2s)",
            )

    def _operand(self, wanted: str) -> Token:
        if self._kind() not in ("word", "string"):
            raise fault(self._place(), f"expected {wanted}, found {self._peek() or 'the end'!r}")
        self._position += 1
        return self._tokens[self._position - 1]

    def _aggregate(self, function: Token) -> Aggregate:
        names = self._names()
        if (function.text == "count") is bool(names) or len(names) > 1:
            form = "count() > 2" if function.text == "count" else f"{function.text}(duration) > 1s"
            raise fault(function.place, f"write {form}")
        sign = self._peek()
        if sign not in FLIPPED:
            raise fault(self._place(), f"compare it: {function.text}({''.join(names)}) > 2")
        self._position += 1
        return Aggregate(function.text, "".join(names), sign, self._operand("a number or duration"))

    def _metric(self, function: Token) -> Metric:
        self._expect("(")
        name, numbers, selection = "", [], None
        while self._peek() != ")":
            if self._peek() == "{":
                found = self._spanset(1)
                selection = found if isinstance(found, Spanset) else None
            else:
                token = self._operand("an argument")
                try:
                    numbers.append(float(token.text))
                except ValueError:
                    if name:
                        raise fault(token.place, f"{function.text}() takes one name, and numbers after it") from None
                    name = token.text
            if not self._accept(","):
                break
        self._expect(")")
        by: tuple[str, ...] = ()
        if self._peek() == "by":
            self._position += 1
            by = self._names()
        return Metric(function.text, name, tuple(numbers), by, selection)

    def _names(self) -> tuple[str, ...]:
        self._expect("(")
        names = []
        while self._peek() != ")":
            names.append(self._take("word", "a name").text)
            if not self._accept(","):
                break
        self._expect(")")
        return tuple(names)

    def _hints(self) -> None:
        """Skip hints of how to compute, which do not change an answer: ``with (sample=true)``."""
        self._position += 1
        self._expect("(")
        while self._peek() not in (")", ""):
            self._position += 1
        self._expect(")")

    def _peek(self) -> str:
        return self._tokens[self._position].text if self._position < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._position].kind if self._position < len(self._tokens) else ""

    def _place(self) -> int:
        return self._tokens[self._position].place if self._position < len(self._tokens) else len(self._query)

    def _accept(self, sign: str) -> bool:
        if self._peek() != sign or self._kind() == "string":
            return False
        self._position += 1
        return True

    def _take(self, kind: str, wanted: str) -> Token:
        if self._kind() != kind:
            raise fault(self._place(), f"expected {wanted}, found {self._peek() or 'the end'!r}")
        self._position += 1
        return self._tokens[self._position - 1]

    def _expect(self, sign: str) -> None:
        if not self._accept(sign):
            raise fault(self._place(), f"expected {sign!r}, found {self._peek() or 'the end'!r}")
