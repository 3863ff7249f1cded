"""From conditions of TraceQL to the filter of spans that every reader of the store takes.

As in Tempo a comparison with a missing attribute is false whatever its sign: ``!=`` and ``!~`` find spans that have the
attribute, with another value.
"""

from __future__ import annotations

import re
from typing import Any, Final

from datasource.tempo.traceql import (
    COMPARISONS,
    Comparison,
    Condition,
    Constant,
    Inverse,
    Joined,
    Spanset,
    Token,
    fault,
    unquoted,
)
from datasource.traces.attribute_names import INTRINSICS, STATUS_WORDS, field_of
from datasource.traces.trace_search import normal_trace_id
from server.errors import ApiError
from server.queries.filters.filter_tree import And, FieldKey, Filter, Has, Leaf, Not, Or, find_field, parse_filter
from server.queries.filters.operators import SIGNS
from server.queries.filters.span_fields import FIELDS, FieldType, KeyedField

_MILLISECONDS: Final[dict[str, float]] = {
    "ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3, "d": 86400e3,
}  # fmt: skip
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d))+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_SCOPED: Final = re.compile(r"(?P<scope>span|resource|event|link|)\.(?P<name>.+)", re.DOTALL)
_HEX_ID: Final = re.compile(r"[0-9a-fA-F]{1,32}")

# Fields that only TraceQL knows; the filter's SQL has a form for each of these prefixes.
_EVENT: Final = KeyedField("event", "An attribute, or :name, of an event of the span.", True)
_LINK: Final = KeyedField("link", "An attribute, :trace_id or :span_id of a link of the span.", True)
_TRACE: Final = KeyedField("trace", "The duration of the span's trace.", False)

_OF_ELEMENTS: Final = {
    "event:name": FieldKey(_EVENT, ":name"),
    "link:traceID": FieldKey(_LINK, ":trace_id"),
    "link:spanID": FieldKey(_LINK, ":span_id"),
}
_TRACE_DURATION: Final = FieldKey(_TRACE, "duration_ms")
_TRACE_DURATIONS: Final = frozenset({"traceDuration", "trace:duration"})
_OF_ROOT: Final = {
    "rootName": "span_name",
    "trace:rootName": "span_name",
    "rootServiceName": "service_name",
    "trace:rootService": "service_name",
}
_ROOT: Final = Leaf(FIELDS["is_root"], "eq", True)
_MORE_INTRINSICS: Final = {
    "span:parentID": "parent_span_id",
    "parentID": "parent_span_id",
    "span:statusMessage": "error_message",
}
NAMES: Final = frozenset(
    {*INTRINSICS, *_MORE_INTRINSICS, *_OF_ELEMENTS, *_OF_ROOT, *_TRACE_DURATIONS, "nestedSetParent"}
)
"""Every intrinsic that can be compared."""
EVERYTHING: Final = None
_NOTHING: Final = Not(Or((_ROOT, Not(_ROOT))))


def spanset_filter(spanset: Spanset) -> Filter | None:
    """Return the filter of a spanset; None for all spans. Raises :class:`InvalidParameter`."""
    if spanset.condition is None:
        return EVERYTHING
    return _Translation().condition(spanset.condition)


def field_name(name: str, place: int = 0) -> str:
    """Return the field that a name means. Raises :class:`InvalidParameter`."""
    if name in INTRINSICS:
        return field_of("intrinsic", name)
    if name in _MORE_INTRINSICS:
        return _MORE_INTRINSICS[name]
    scoped = _SCOPED.fullmatch(name)
    if scoped is None or scoped["scope"] in ("event", "link"):
        known = ", ".join(sorted(NAMES))
        raise fault(place, f"unknown intrinsic {name!r}; known are {known}; attributes are span.x, resource.x, event.x")
    attribute = scoped["name"]
    return field_of(scoped["scope"], unquoted(attribute) if attribute.endswith('"') else attribute)


class _Translation:
    """Translation of the conditions of one spanset."""

    def condition(self, condition: Condition) -> Filter | None:
        """Return the filter of a condition; None where every span matches."""
        match condition:
            case Constant(value):
                return EVERYTHING if value else _NOTHING
            case Inverse(part):
                inner = self.condition(part)
                return _NOTHING if inner is None else Not(inner)
            case Joined(sign, parts):
                found = [self.condition(part) for part in parts]
                filled = tuple(part for part in found if part is not None)
                if sign == "||":
                    return EVERYTHING if len(filled) < len(found) else Or(filled)
                return EVERYTHING if not filled else filled[0] if len(filled) == 1 else And(filled)
            case Comparison():
                return self._comparison(condition)

    def _comparison(self, item: Comparison) -> Filter:
        if item.name == "nestedSetParent":
            return _root_or_not(item)
        if item.name in _OF_ROOT:
            whole = Comparison({"span_name": "name", "service_name": "resource.service.name"}[_OF_ROOT[item.name]],
                               item.sign, item.value, item.place)  # fmt: skip
            return Has("trace", And((_ROOT, self._comparison(whole))))
        keyed = self._keyed(item)
        if keyed is not None:
            return keyed
        name = field_name(item.name, item.place)
        exists = _leaf(name, "exists", True, item.place)
        if item.value is None:
            return exists
        value = _value(name, item.value)
        if value is None:
            return _nil(item, exists)
        if name == "trace_id":
            value = _trace_id(value, item.value)
        found = _compared(name, item, value)
        if item.sign not in ("!=", "!~"):
            return found
        field = FIELDS.get(name)
        return found if field is not None and not field.nullable else And((exists, found))

    def _keyed(self, item: Comparison) -> Filter | None:
        """Return the filter on an event, a link or the trace; None for other names."""
        if item.name in _TRACE_DURATIONS:
            field = _TRACE_DURATION
        elif item.name in _OF_ELEMENTS:
            field = _OF_ELEMENTS[item.name]
        else:
            scoped = _SCOPED.fullmatch(item.name)
            if scoped is None or scoped["scope"] not in ("event", "link"):
                return None
            key = scoped["name"]
            field = FieldKey(
                _EVENT if scoped["scope"] == "event" else _LINK, unquoted(key) if key.endswith('"') else key
            )
        exists = Leaf(field, "exists", True)
        if item.value is None:
            return exists
        value = _value("duration_ms" if field is _TRACE_DURATION else "", item.value)
        if value is None:
            return _nil(item, exists)
        if field.key == ":trace_id":
            value = _trace_id(value, item.value)
        # The filter's own rules for values of attributes: numbers as decimals, patterns within the subset.
        attribute = _compared("attribute.x", item, value)
        return _with_field(attribute, field)


def _with_field(tree: Filter, field: FieldKey) -> Filter:
    match tree:
        case Not(part):
            # Another element may still be like that: the sign belongs to the element, not to the span.
            return Leaf(field, "not_regex", part.value) if isinstance(part, Leaf) else tree
        case Leaf(_, operator, value):
            return Leaf(field, operator, value)
        case _:
            return tree


def _compared(name: str, item: Comparison, value: Any) -> Filter:
    operator, is_negated = SIGNS[item.sign]
    field = FIELDS.get(name)
    is_pattern = operator == "regex" and (field is None or field.type is FieldType.TEXT)
    if field is not None and not is_pattern and operator not in field.operators:
        signs = ", ".join(sign for sign in (*COMPARISONS, "nil") if sign == "nil" or SIGNS[sign][0] in field.operators)
        raise fault(item.place, f"{item.name} cannot be compared by {item.sign}; it can by {signs}")
    if operator != "regex":
        return _leaf(name, operator, value, item.place)
    # TraceQL's expressions are anchored at both ends. Checked as a pattern for a column of few words: the filter's
    # document has none for attributes and messages, its SQL has.
    found = _leaf("span_name" if is_pattern else name, "regex", f"^({value})$", item.place)
    if is_pattern and isinstance(found, Leaf):
        found = Leaf(find_field(name), "regex", found.value)
    return Not(found) if is_negated else found


def _leaf(name: str, operator: str, value: Any, place: int) -> Filter:
    try:
        return parse_filter({"field": name, "operator": operator, "value": value}, pointer="")
    except ApiError as error:
        raise fault(place, error.errors[0]["detail"] if error.errors else error.detail) from error


def _nil(item: Comparison, exists: Filter) -> Filter:
    if item.sign not in ("=", "!="):
        raise fault(item.place, f"nil is compared by = or !=, not {item.sign}")
    return exists if item.sign == "!=" else Not(exists)


def _root_or_not(item: Comparison) -> Filter:
    """Return the filter of ``nestedSetParent < 0``: Tempo's way to ask for root spans."""
    text = item.value.text if item.value is not None else ""
    if (item.sign, text) in (("<", "0"), ("=", "-1"), ("<=", "-1")):
        return _ROOT
    if (item.sign, text) in ((">=", "0"), ("!=", "-1"), (">", "-1"), (">", "0")):
        return Not(_ROOT)
    raise fault(item.place, "nestedSetParent is supported as nestedSetParent < 0 (root spans) and >= 0 (the others)")


def _trace_id(value: Any, token: Token) -> str:
    text = str(value) if token.kind == "string" else token.text
    if _HEX_ID.fullmatch(text) is None:
        raise fault(token.place, f"{text[:40]!r} is not a trace id: 1 to 32 hexadecimal digits")
    return normal_trace_id(text)


def _value(name: str, token: Token) -> Any:
    if token.kind == "string":
        return unquoted(token.text)
    text = token.text
    if text == "nil":
        return None
    if name in ("trace_id", "span_id", "parent_span_id"):
        return text
    if name == "status_code":
        if text not in STATUS_WORDS:
            raise fault(token.place, f"status is one of {', '.join(STATUS_WORDS)}, not {text!r}")
        return STATUS_WORDS[text]
    if _DURATION.fullmatch(text):
        return milliseconds(text)
    if name == "duration_ms":
        raise fault(token.place, f"{text!r} is not a duration such as 100ms or 1.5s")
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    if text in ("true", "false"):
        return text == "true"
    if text.startswith(("span.", "resource.")):
        raise fault(token.place, f"{text!r}: an attribute is compared with a value, not with another attribute")
    return text


def milliseconds(text: str) -> float:
    """Return a duration such as ``1m30s`` in ms."""
    return round(sum(float(number) * _MILLISECONDS[unit] for number, unit in _DURATION_PART.findall(text)), 6)


def is_duration(text: str) -> bool:
    """Return whether ``text`` is a duration such as ``1.5s``."""
    return _DURATION.fullmatch(text) is not None
