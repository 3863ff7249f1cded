"""The waves, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tests.hostile import bodies, questions, stores, streams
from tests.hostile.hostile import Hostile

WAVES: Final[dict[str, Callable[[Hostile], Awaitable[None]]]] = {
    "promql": questions.promql,
    "traceql": questions.traceql,
    "filters": questions.filters,
    "agents": questions.agents,
    "exports": questions.exports,
    "aborts": questions.aborts,
    "spans": bodies.spans,
    "explanations": bodies.explanations,
    "logs": bodies.logs,
    "metrics": bodies.metrics,
    "protocols": bodies.protocols,
    "storm": streams.storm,
    "never-read": streams.never_read,
    "frames": streams.frames,
    **{f"redis-{name}": wave for name, wave in stores.REDIS_WAVES.items()},
}
