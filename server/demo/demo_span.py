"""Spans as the scenarios write them, and the clock that times them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

NANOSECONDS_A_MILLISECOND = 1_000_000


@dataclass
class DemoSpan:
    """One span; times are nanoseconds since the epoch."""

    name: str
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    start_ns: int
    end_ns: int = 0
    is_client: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    events: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)


@dataclass
class DemoTrace:
    """The spans of one trace, all of one service."""

    resource: dict[str, str]
    scope: str
    spans: list[DemoSpan]
    scores: list[dict[str, Any]] = field(default_factory=list)
    """Judgements of the trace, as bodies of POST /api/v1/scores."""

    @property
    def trace_id(self) -> str:
        return self.spans[0].trace_id.hex()


class TraceWriter:
    """Writes a trace step by step: time passes with :meth:`wait`, spans nest with :meth:`span`."""

    def __init__(self, rng: Random, start: datetime, resource: Mapping[str, str], scope: str) -> None:
        self.rng = rng
        self._now_ns = int(start.timestamp() * 1000) * NANOSECONDS_A_MILLISECOND + rng.randrange(1_000_000)
        self._trace_id = rng.randbytes(16)
        self._open: list[DemoSpan] = []
        self.trace = DemoTrace(dict(resource), scope, [])

    def wait(self, milliseconds: float) -> None:
        """Let time pass."""
        self._now_ns += max(1, int(milliseconds * NANOSECONDS_A_MILLISECOND))

    def score(self, name: str, value: float | bool | str, source: str) -> None:
        """Add a score to the trace; the same score of the same trace has the same id."""
        self.trace.scores.append(
            {
                "score_id": f"{self._trace_id.hex()}-{name}",
                "trace_id": self._trace_id.hex(),
                "name": name,
                "value": value,
                "source": source,
                "timestamp": datetime.fromtimestamp(self._now_ns / 1e9, UTC).isoformat(),
            }
        )

    @contextmanager
    def span(self, name: str, *, is_client: bool = False, **attributes: Any) -> Iterator[DemoSpan]:
        """Open a span inside the current one; attribute names have ``__`` in place of dots."""
        span = DemoSpan(
            name=name,
            trace_id=self._trace_id,
            span_id=self.rng.randbytes(8),
            parent_span_id=self._open[-1].span_id if self._open else b"",
            start_ns=self._now_ns,
            is_client=is_client,
            attributes={key.replace("__", "."): value for key, value in attributes.items() if value is not None},
        )
        self.trace.spans.append(span)
        self._open.append(span)
        yield span
        self._open.pop()
        span.end_ns = max(self._now_ns, span.start_ns + 1000)
