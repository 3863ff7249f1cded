"""Facts from the body of an answer about a model call whose span lacks them (table: ``dialects/response_bodies.json``).

Frameworks that trace their own functions record what went in and what came out, and leave model and usage
inside it. The body is opened only for a model call without usage, or without a model.
"""

from __future__ import annotations

from typing import Any

from server.ingest.dialects.attribute_table import read_table
from server.ingest.mapping.attribute_choice import BODY_RANK, IndexedGroup, SpanFields
from server.ingest.messages.coercion import decode_json

_TABLE: dict[str, Any] = read_table("response_bodies.json")


def _paths(names: list[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(name.split(".")) for name in names)


_USAGE_OBJECTS = _paths(_TABLE["usage_objects"])
_USAGE = tuple((slot, _paths(names)) for slot, names in _TABLE["usage"].items())
_MEMBERS = tuple((slot, _paths(names)) for slot, names in _TABLE["members"].items())
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_MODELS = ("model", "response_model", "request_model")


def read_body(fields: SpanFields) -> None:
    """Add what the recorded answer says to ``fields``: usage where there is none, model, finish reason."""
    found = fields.found
    slots = found.keys()
    has_usage = not slots.isdisjoint(_COUNTS)
    if "output" not in found or (has_usage and not slots.isdisjoint(_MODELS)):
        return
    for position, (rank, key, value) in enumerate(found["output"]):
        body = decode_json(value) if isinstance(value, str) else value
        if isinstance(body, IndexedGroup) or not isinstance(body, dict | list):
            continue
        if body is not value:
            found["output"][position] = (rank, key, body)
        if isinstance(body, list):
            body = body[0] if body and isinstance(body[0], dict) else {}
        _add_first(fields, key, body, _MEMBERS)
        if not has_usage:
            for path in _USAGE_OBJECTS:
                usage = _member(body, path)
                if isinstance(usage, dict):
                    _add_first(fields, f"{key} {'.'.join(path)}", usage, _USAGE)


def _add_first(
    fields: SpanFields, key: str, value: Any, slots: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
) -> None:
    for slot, paths in slots:
        for path in paths:
            member = _member(value, path)
            if isinstance(member, str | int | float) and not isinstance(member, bool) and member != "":
                fields.add(slot, BODY_RANK, f"{key} {'.'.join(path)}", member)
                break


def _member(value: Any, path: tuple[str, ...]) -> Any:
    """Return the value at ``path``, None if it leads nowhere."""
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
