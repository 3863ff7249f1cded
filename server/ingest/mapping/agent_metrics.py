"""Counters of coding agents as parts of daily figures (table: ``dialects/agent_metrics.json``)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Protocol

from server.ingest.dialects.attribute_table import read_table
from server.ingest.mapping.mapping_result import IngestWindow
from server.ingest.mapping.span_times import to_datetime, to_ns
from server.ingest.messages.coercion import cut_text, to_text
from server.ingest.otlp.metrics_format import CounterPoint

_TABLE: Final[dict[str, Any]] = read_table("agent_metrics.json")
FIGURES: Final = tuple(dict.fromkeys(rule["figure"] for rule in _TABLE["metrics"].values()))
DIMENSIONS: Final = ("figure", "kind", "agent", "person", "repository", "model", "tool")
_FREE_TEXTS: Final = ("kind", "person", "repository", "tool")
_IDENTITIES: Final = ("person",)
_LONGEST: Final = 190
"""Bytes of one value: seven and the project make one btree key."""
_LARGEST: Final = 1e15


class Redaction(Protocol):
    """The rules of a project that texts pass before they are stored."""

    def redact_keys(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return ``attributes`` after the rules on their keys."""

    def redact_text(self, text: str, *, is_identity: bool = False) -> str:
        """Return a free text, or the name of a person, after the rules on texts."""


@dataclass(frozen=True, slots=True)
class AgentCount:
    """One point of a counter and the figure that it feeds."""

    counter_id: str
    """The same for all points of one counter of one process."""
    start_ns: int
    last_ns: int
    value: float
    is_delta: bool
    day: date
    """In UTC."""
    dimensions: tuple[str, ...]
    """Values of :data:`DIMENSIONS`; empty text where the point says nothing."""


def read_counter(
    point: CounterPoint, now: datetime, window: IngestWindow, redaction: Redaction | None = None
) -> AgentCount | None:
    """Return what ``point`` counts; None for a metric that the table does not have or an impossible time or value.

    ``redaction``: what the project never wants stored.
    """
    rule = _TABLE["metrics"].get(point.name)
    if rule is None or not 0 <= point.value < _LARGEST:
        return None
    if not to_ns(now - window.max_age) <= point.time_ns <= to_ns(now + window.max_future):
        return None
    attributes = point.attributes if redaction is None else redaction.redact_keys(point.attributes)
    kind = to_text(attributes.get(rule.get("kind", ""))).lower()
    named = {name: _first(attributes, keys) for name, keys in _TABLE["dimensions"].items()}
    values = {
        "figure": rule["figure"],
        "kind": _TABLE["kinds"].get(kind, kind),
        "agent": rule["agent"],
        "tool": to_text(attributes.get(rule.get("tool", ""))),
        **named,
    }
    if redaction is not None:
        for name in _FREE_TEXTS:
            values[name] = redaction.redact_text(values[name], is_identity=name in _IDENTITIES)
    identity = sorted(f"{key}={to_text(value)}" for key, value in point.attributes.items())
    return AgentCount(
        counter_id=hashlib.sha256("\0".join([point.name, *identity]).encode()).hexdigest()[:32],
        start_ns=min(point.start_ns, point.time_ns),
        last_ns=point.time_ns,
        value=point.value,
        is_delta=point.is_delta,
        day=to_datetime(point.time_ns).date(),
        dimensions=tuple(cut_text(values[name].replace("\0", ""), _LONGEST)[0] for name in DIMENSIONS),
    )


def _first(attributes: dict[str, Any], keys: list[str]) -> str:
    return next((to_text(attributes[key]) for key in keys if attributes.get(key)), "")
