"""The subset of TraceQL that Grafana's search builder writes, turned into our filter document.

One spanset with any nesting of ``&&``, ``||``, ``!`` and parentheses over comparisons::

{ resource.service.name = "api" && (duration > 1s || status = error) && span.gen_ai.request.model =~ "gpt.*" }

Grafana's tag editor also writes values without quotes (``{resource.service.name=api}``): accepted. Anything outside the
subset (pipelines, structural operators, metrics) is refused with a sentence that says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from datasource.traces.attribute_names import INTRINSICS, STATUS_WORDS, field_of
from server.errors import InvalidParameter

FilterDocument = dict[str, Any]

LONGEST_QUERY: Final = 4096
DEEPEST: Final = 16

_OPERATORS: Final[dict[str, str]] = {
    "=": "eq",
    "!=": "ne",
    "=~": "regex",
    "!~": "regex",
    ">": "gt",
    ">=": "gte",
    "<": "lt",
    "<=": "lte",
}
_MILLISECONDS: Final[dict[str, float]] = {
    "ns": 1e-6,
    "us": 1e-3,
    "µs": 1e-3,
    "ms": 1.0,
    "s": 1e3,
    "m": 60e3,
    "h": 3600e3,
}
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
      | (?P<logic>&&|\|\||[(){}])
      | (?P<compare>=~|!~|!=|>=|<=|=|>|<)
      | (?P<not>!)
      | (?P<word>[^\s"`(){}&|=!<>~]+(?:"(?:[^"\\]|\\.)*")?)
    )""",
    re.VERBOSE,
)
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_SCOPED: Final = re.compile(r"(?P<scope>span|resource|)\.(?P<name>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def parse_traceql(query: str) -> FilterDocument | None:
    """Return the filter document of ``query``; None for ``{}`` and for an empty query: every span.

    Raises :class:`InvalidParameter` that names what is not understood.
    """
    text = query.strip()
    if not text:
        return None
    if len(text) > LONGEST_QUERY:
        raise InvalidParameter.named("q", f"longer than {LONGEST_QUERY} characters")
    return _Parser(_tokens(text)).spanset()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if not text[position:].strip():
                break
            raise InvalidParameter.named("q", f"cannot be read at {text[position : position + 20]!r}")
        found.append(_Token(str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    return found


class _Parser:
    """Recursive descent; one method per rule."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def spanset(self) -> FilterDocument | None:
        self._expect("{")
        document = None if self._peek() == "}" else self._any_of(1)
        self._expect("}")
        if self._position < len(self._tokens):
            raise InvalidParameter.named(
                "q", f"only one spanset {{ … }} is supported; {self._peek()!r} after it is not understood"
            )
        return document

    def _any_of(self, depth: int) -> FilterDocument:
        return self._joined("||", "or", depth, self._all_of)

    def _all_of(self, depth: int) -> FilterDocument:
        return self._joined("&&", "and", depth, self._unary)

    def _joined(self, sign: str, word: str, depth: int, rule: Any) -> FilterDocument:
        parts = [rule(depth)]
        while self._peek() == sign:
            self._position += 1
            parts.append(rule(depth))
        return parts[0] if len(parts) == 1 else {word: parts}

    def _unary(self, depth: int) -> FilterDocument:
        if depth > DEEPEST:
            raise InvalidParameter.named("q", f"nested deeper than {DEEPEST} levels")
        if self._peek() == "!":
            self._position += 1
            return {"not": self._unary(depth + 1)}
        if self._peek() == "(":
            self._position += 1
            document = self._any_of(depth + 1)
            self._expect(")")
            return document
        return self._comparison()

    def _comparison(self) -> FilterDocument:
        name = self._take("word", "a name such as resource.service.name, duration or status")
        field = _field(name)
        if self._peek_kind() != "compare":
            # A bare name matches spans that have the attribute and where it is not false.
            return {"field": field, "operator": "exists", "value": True}
        sign = self._take("compare", "a comparison")
        if self._peek_kind() not in ("string", "word"):
            raise InvalidParameter.named("q", f"a value is missing after {name} {sign}")
        token = self._tokens[self._position]
        self._position += 1
        return _compare(field, sign, token)

    def _peek(self) -> str:
        return self._tokens[self._position].text if self._position < len(self._tokens) else ""

    def _peek_kind(self) -> str:
        return self._tokens[self._position].kind if self._position < len(self._tokens) else ""

    def _take(self, kind: str, wanted: str) -> str:
        if self._peek_kind() != kind:
            raise InvalidParameter.named("q", f"expected {wanted}, found {self._peek() or 'the end'!r}")
        self._position += 1
        return self._tokens[self._position - 1].text

    def _expect(self, text: str) -> None:
        if self._peek() != text:
            raise InvalidParameter.named("q", f"expected {text!r}, found {self._peek() or 'the end'!r}")
        self._position += 1


def _field(name: str) -> str:
    if name in INTRINSICS:
        return field_of("intrinsic", name)
    scoped = _SCOPED.fullmatch(name)
    if scoped is None:
        known = ", ".join(sorted(INTRINSICS))
        raise InvalidParameter.named(
            "q", f"unknown intrinsic {name!r}; known: {known}; attributes are span.x, resource.x"
        )
    attribute = scoped["name"]
    if attribute.startswith('"') and attribute.endswith('"'):
        attribute = _unquote(attribute)
    return field_of(scoped["scope"], attribute)


def _compare(field: str, sign: str, token: _Token) -> FilterDocument:
    operator = _OPERATORS[sign]
    value = _value(field, token)
    if operator == "regex":
        # TraceQL's expressions are anchored at both ends.
        document: FilterDocument = {"field": field, "operator": "regex", "value": f"^({value})$"}
        return {"not": document} if sign == "!~" else document
    if value is None:
        return {"field": field, "operator": "exists", "value": operator == "ne"}
    return {"field": field, "operator": operator, "value": value}


def _value(field: str, token: _Token) -> Any:
    if token.kind == "string":
        return _unquote(token.text)
    text = token.text
    if text == "nil":
        return None
    if field == "status_code":
        if text not in STATUS_WORDS:
            raise InvalidParameter.named("q", f"status is one of {', '.join(STATUS_WORDS)}, not {text!r}")
        return STATUS_WORDS[text]
    if _DURATION.fullmatch(text):
        return round(sum(float(number) * _MILLISECONDS[unit] for number, unit in _DURATION_PART.findall(text)), 6)
    if field == "duration_ms":
        raise InvalidParameter.named("q", f"{text!r} is not a duration such as 100ms or 1.5s")
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    if text in ("true", "false"):
        return text == "true"
    return text


def _unquote(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text[1:-1])
