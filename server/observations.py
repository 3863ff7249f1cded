"""What the program notices about itself, as typed events.

Code that notices something calls :func:`observe` with one of these values and knows no more. What is counted
is decided in :mod:`server.metrics`, what is logged in :mod:`server.logs`. No observation carries
content (prompts, answers, error texts) or secrets, and none that becomes a metric label names a tenant.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that happened in this process."""


@dataclass(frozen=True, slots=True)
class RequestFinished(Observation):
    """A request was answered. ``route`` is the template, never the path that was asked for."""

    method: str
    route: str
    status: int
    seconds: float
    request_id: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class RequestsFinished(Observation):
    """All requests that were answered in one turn of the event loop; see :func:`observe_request`."""

    requests: tuple[RequestFinished, ...]


@dataclass(frozen=True, slots=True)
class SpansStored(Observation):
    """A transaction committed spans. ``stored`` counts new and newer versions, ``unchanged`` replays."""

    requests: int
    stored: int
    unchanged: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SpansRejected(Observation):
    """Spans of an accepted batch were refused, for a reason out of a fixed set."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class ModelUnpriced(Observation):
    """Spans of a model without a known price were stored."""

    provider: str
    model: str
    count: int


@dataclass(frozen=True, slots=True)
class CacheAsked(Observation):
    """The result cache was asked: hit, miss, or unavailable."""

    cache: str
    outcome: str


@dataclass(frozen=True, slots=True)
class RateLimitHit(Observation):
    """A request was refused by a rate limit."""

    policy: str


@dataclass(frozen=True, slots=True)
class AuthenticationRefused(Observation):
    """A credential was refused, for a reason out of a fixed set."""

    reason: str
    client_address: str


@dataclass(frozen=True, slots=True)
class RedisLost(Observation):
    """Redis failed often enough not to be asked for a while."""

    cause: str


@dataclass(frozen=True, slots=True)
class RedisBack(Observation):
    """Redis answers again."""


@dataclass(frozen=True, slots=True)
class RollupsFolded(Observation):
    """Pending rollup deltas were folded into their grains."""

    deltas: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PartitionsDropped(Observation):
    """Retention dropped partitions of raw spans."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BackgroundWorkFailed(Observation):
    """A background task failed and will try again."""

    task: str
    cause: str


Sink = Callable[[Any], None]
_sinks: list[Sink] = []
_told: dict[type[Observation], tuple[Sink, ...]] = {}
"""What is done with each kind, looked up once: most sinks are ``functools.singledispatch`` functions."""


def subscribe(sink: Sink) -> None:
    """Let ``sink`` see every later observation. A sink must not fail and must not wait."""
    if sink not in _sinks:
        _sinks.append(sink)
        _told.clear()


def observe(observation: Observation) -> None:
    """Tell all sinks."""
    kind = type(observation)
    told = _told.get(kind)
    if told is None:
        told = _told[kind] = tuple(_sink_of(sink, kind) for sink in _sinks)
    for tell in told:
        tell(observation)


def _sink_of(sink: Sink, kind: type[Observation]) -> Sink:
    dispatch = getattr(sink, "dispatch", None)
    return sink if dispatch is None else dispatch(kind)


class _FinishedRequests:
    """Requests that the sinks are told of at the end of this turn of the event loop."""

    def __init__(self) -> None:
        self._requests: list[RequestFinished] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, request: RequestFinished) -> None:
        self._requests.append(request)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # there is none that would do it later
            self.tell()
            return
        if loop is not self._loop:
            self._loop = loop
            loop.call_soon(self.tell)

    def tell(self) -> None:
        requests, self._requests, self._loop = tuple(self._requests), [], None
        if requests:
            observe(RequestsFinished(requests))


_finished = _FinishedRequests()
atexit.register(_finished.tell)


def observe_request(request: RequestFinished) -> None:
    """Tell all sinks of ``request``, together with the others of this turn of the event loop: what happens a thousand
    times a second is cheaper to count and to write down in heaps. A process that is killed loses one turn's."""
    _finished.add(request)
