"""Attributes without a column, made storable as jsonb: bounded in number and size, without NUL."""

from __future__ import annotations

from math import isfinite
from typing import Any

import orjson

from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import MappingLimits
from server.ingest.messages.coercion import cut_text, storable, storable_json
from server.ingest.otlp.payload import Attributes

_SCALAR_BYTES = 24


def store_attributes(
    attributes: Attributes, fields: SpanFields, column: str, room: int, count: int, limits: MappingLimits
) -> tuple[dict[str, Any], int]:
    """Return the first ``count`` attributes that fit into ``room`` bytes, and about how many bytes they take.

    A value longer than ``limits.attribute`` is cut: text stays text, a list or object becomes the beginning of its JSON
    text. Everything left out or cut is noted under ``column``.
    """
    stored: dict[str, Any] = {}
    size = left_out = 0
    cut: dict[str, int] = {}
    per_value = limits.attribute
    # A text of so many characters fits whatever they are.
    shortest_key, shortest_value = limits.attribute_key // 4, per_value // 4
    are_many = len(attributes) > count
    for key, value in attributes.items():
        if size >= room or (are_many and len(stored) >= count):
            left_out += 1
            continue
        length = len(key)
        if length > shortest_key or "\0" in key:
            key = _short_key(key, fields, cut, limits.attribute_key)
            length = len(key)
        if isinstance(value, str):
            if len(value) > shortest_value or "\0" in value:
                value, original = _short_text(value, fields, min(per_value, room))
                if original is not None:
                    cut[key] = original
            size += len(value)
        elif isinstance(value, list | dict):
            value, text = _storable(value, fields)
            short, original = cut_text(text, per_value)
            if original is not None:
                value, cut[key] = short, original
            size += len(short)
        elif isinstance(value, float):
            if not isfinite(value):
                value = storable(value)[0]
                size += len(value)
        else:
            size += _SCALAR_BYTES
        size += length + 6
        stored[key] = value
    if left_out or cut:
        note = fields.dropped.setdefault(column, {})
        if left_out:
            note["dropped"] = note.get("dropped", 0) + left_out
        if cut:
            note.setdefault("original_length", {}).update(cut)
    return stored, size


def _storable(value: list[Any] | dict[str, Any], fields: SpanFields) -> tuple[Any, str]:
    """Return a list or an object that jsonb accepts, and its JSON."""
    data = storable_json(value)
    if data is None:
        value, replaced = storable(value)
        fields.replaced += replaced
        data = orjson.dumps(value)
    return value, data.decode("utf-8")


def _short_key(key: str, fields: SpanFields, cut: dict[str, int], limit: int) -> str:
    fields.replaced += key.count("\0")
    short, original = cut_text(storable(key)[0], limit)
    if original is not None:
        cut[short] = original
    return short


def _short_text(value: str, fields: SpanFields, limit: int) -> tuple[str, int | None]:
    clean, replaced = storable(value)
    fields.replaced += replaced
    return cut_text(clean, limit)
