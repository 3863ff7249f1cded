"""Tags of a Jaeger search as filters of spans: every tag that a span shows also finds it.

Jaeger sends values as text. A tag may be one of our fields, an attribute that was stored unchanged, or an attribute of
the resource, which Jaeger shows with the process. A search covers everything that the name can mean.
"""

from __future__ import annotations

import json
from typing import Any, Final

from datasource.traces.attribute_names import JAEGER_TAGS, RESOURCE_ATTRIBUTES, SPAN_ATTRIBUTES
from datasource.traces.span_attributes import RESOURCE_COLUMNS, SPAN_COLUMNS
from server.errors import InvalidParameter
from server.queries.filters.span_fields import FieldType, field_named

_NUMBERS: Final = frozenset({FieldType.INTEGER, FieldType.NUMBER, FieldType.MONEY})
# Names under which a field is shown: a stored attribute with one of these names is not shown with it.
_SHOWN: Final = frozenset(name for _, name in (*SPAN_COLUMNS, *RESOURCE_COLUMNS)) | JAEGER_TAGS.keys()


def tag_filter(name: str, value: str) -> dict[str, Any]:
    """Return the filter tree of one tag. Raises InvalidParameter for a text if the tag is a number."""
    if name == "error":
        return {"field": "has_error", "operator": "eq", "value": value.lower() == "true"}
    choices: list[dict[str, Any]] = []
    known = JAEGER_TAGS.get(name) or SPAN_ATTRIBUTES.get(name) or RESOURCE_ATTRIBUTES.get(name)
    if known is None:
        own = field_named(name)
        known = own.name if own is not None and own.filterable else None
    if known is not None:
        choices.append(_of_field(known, value))
    if known is None or name not in _SHOWN:
        texts = dict.fromkeys((value, _as_stored(value)))
        choices += [
            {"field": f"{scope}.{name}", "operator": "eq", "value": text}
            for scope in ("attribute", "resource")
            for text in texts
        ]
    return choices[0] if len(choices) == 1 else {"or": choices}


def _of_field(name: str, value: str) -> dict[str, Any]:
    field = field_named(name)
    if field is None:
        raise KeyError(name)
    if field.type is FieldType.TAGS:
        return {"and": [{"field": name, "operator": "eq", "value": tag} for tag in _listed(value)]}
    if field.type is FieldType.TEXT:
        return {"field": name, "operator": "contains", "value": value}
    if field.type not in _NUMBERS:
        return {"field": name, "operator": "eq", "value": value}
    try:
        number = int(value) if field.type is FieldType.INTEGER else float(value)
    except ValueError as error:
        raise InvalidParameter.named("tags", f"{name} is a number, not {value!r}") from error
    return {"field": name, "operator": "eq", "value": number}


def _listed(value: str) -> list[str]:
    """Return the tags in ``value``: the items of a list as Jaeger shows it, or one typed tag."""
    try:
        found = json.loads(value)
    except ValueError:
        return [value]
    return [str(tag) for tag in found] if isinstance(found, list) and found else [value]


def _as_stored(value: str) -> str:
    """Return a list or an object as PostgreSQL writes it; any other text unchanged."""
    if not value.startswith(("[", "{")):
        return value
    try:
        return json.dumps(_ordered(json.loads(value)), ensure_ascii=False, separators=(", ", ": "))
    except (ValueError, RecursionError):
        return value


def _ordered(value: Any) -> Any:
    """Return ``value`` with the keys of objects in PostgreSQL's order: shorter ones first, then by bytes."""
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
    return {key: _ordered(value[key]) for key in keys}
