"""Whether mapping a request in one go would keep the event loop for too long."""

from __future__ import annotations

from typing import Final

from server.ingest.otlp.payload import Attributes, DecodedSpan, DecodedTraces

_LIGHT_SPAN: Final = 32 * 1024
"""A span of at most this weight (:func:`weight`) is mapped on the event loop: 10 ms at most."""
_SMALL_BYTES: Final = 8 * 1024
"""No span of a request of this size is heavy."""
_MANY_SPANS: Final = 2000
"""Spans of one request for which the work on all of them together takes 10 ms."""
_NAME_WEIGHT: Final = 64


def is_heavy(decoded: DecodedTraces) -> bool:
    """Return whether one span alone, or their number, would keep the event loop for too long."""
    if decoded.span_count > _MANY_SPANS:
        return True
    return decoded.size > _SMALL_BYTES and any(
        weight(group.resource.attributes) > _LIGHT_SPAN or any(map(_is_heavy_span, group.spans))
        for group in decoded.groups
    )


def _is_heavy_span(span: DecodedSpan) -> bool:
    total = weight(span.attributes)
    if span.events or span.links:
        total += sum(_NAME_WEIGHT + weight(event.attributes) for event in span.events)
        total += sum(_NAME_WEIGHT + weight(link.attributes) for link in span.links)
    return total > _LIGHT_SPAN


def weight(attributes: Attributes) -> int:
    """Return about how many bytes of work ``attributes`` are: each name counts, and all text."""
    total = _NAME_WEIGHT * len(attributes)
    for value in attributes.values():
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, list | dict):
            total += _NAME_WEIGHT * len(value)
    return total
