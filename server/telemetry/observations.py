"""The program's observations about itself, as typed events.

Code that notices something calls :func:`observe` with one of these values and knows no more.
:mod:`server.telemetry.prometheus` decides what is counted, :mod:`server.telemetry.logs` what is logged. No observation
carries content (prompts, answers, error texts) or secrets, and none that becomes a metric label names a tenant.
"""

from __future__ import annotations

import asyncio
import atexit
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that happened in this process."""


@dataclass(slots=True)  # not frozen: that would double the cost of making one
class RequestFinished:
    """A request was answered. ``route`` is the template, never the path of the request."""

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
    """Spans of an accepted batch were refused, for a reason from a fixed set."""

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
    """The result cache was queried: hit, miss, or unavailable."""

    cache: str
    outcome: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class RateLimitHit(Observation):
    """A request was refused by a rate limit."""

    policy: str


@dataclass(frozen=True, slots=True)
class AuthenticationRefused(Observation):
    """A credential was refused, for a reason from a fixed set."""

    reason: str
    client_address: str


@dataclass(frozen=True, slots=True)
class WrongProtocolSpoken(Observation):
    """A client, probably one of gRPC, spoke HTTP/2 on the HTTP port."""

    client_address: str


@dataclass(frozen=True, slots=True)
class RedisLost(Observation):
    """Redis failed often enough to be left alone for a while."""

    cause: str


@dataclass(frozen=True, slots=True)
class RedisBack(Observation):
    """Redis answers again."""


@dataclass(frozen=True, slots=True)
class ReadOpened(Observation):
    """A read was opened on the primary or on a replica; only where replicas are configured."""

    source: str


@dataclass(frozen=True, slots=True)
class ReplicaLost(Observation):
    """A read replica is left out: it does not answer, does not receive the log, or belongs to another primary."""

    number: int


@dataclass(frozen=True, slots=True)
class ReplicaBack(Observation):
    """A read replica is in use, for the first time or again."""

    number: int


@dataclass(frozen=True, slots=True)
class ExportFinished(Observation):
    """An export ended: complete, failed or cancelled. ``size``: bytes handed to the connection or the storage."""

    export_id: str
    kind: str
    format: str
    state: str
    rows: int
    size: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LiveStreamsOpen(Observation):
    """Live streams were opened (1) or ended (-1)."""

    change: int


@dataclass(frozen=True, slots=True)
class LiveStreamEnded(Observation):
    """A live stream ended, for a reason from a fixed set. ``lost``: events for which its client was too slow."""

    reason: str
    sent: int
    lost: int


@dataclass(frozen=True, slots=True)
class RollupsFolded(Observation):
    """Pending rollup deltas were folded into their grains."""

    deltas: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TextsEmbedded(Observation):
    """Vectors of stored spans were made. ``texts`` were sent to the embedder, which counted ``tokens``; spans whose
    text was known, or that have none, cost nothing.
    """

    texts: int
    spans: int
    tokens: int
    cost_usd: float
    seconds: float


@dataclass(frozen=True, slots=True)
class EmbeddingBacklog(Observation):
    """Number of spans that wait for their vectors. ``is_walking``: the walk through all stored spans is not over,
    so that more may be found."""

    waiting: int
    is_walking: bool


@dataclass(frozen=True, slots=True)
class EmbedderLost(Observation):
    """The embedder makes no vectors; the background work tries again. ``reason`` holds no content."""

    reason: str


@dataclass(frozen=True, slots=True)
class PartitionsDropped(Observation):
    """Retention dropped partitions of raw spans."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BackgroundWorkFailed(Observation):
    """A background task failed and will try again."""

    task: str
    cause: str


@dataclass(frozen=True, slots=True)
class LogLinesLost(Observation):
    """Log lines were dropped because nobody reads them."""

    count: int


Sink = Callable[[Any], None]
_sinks: list[Sink] = []
_receivers: dict[type[Observation], tuple[Sink, ...]] = {}
"""The function of each sink for each kind of observation, looked up once: most sinks are functions of
``functools.singledispatch``."""


def subscribe(sink: Sink) -> None:
    """Let ``sink`` see every later observation. A sink must not fail and must not wait."""
    if sink not in _sinks:
        _sinks.append(sink)
        _receivers.clear()


def observe(observation: Observation) -> None:
    """Send ``observation`` to all sinks."""
    kind = type(observation)
    receivers = _receivers.get(kind)
    if receivers is None:
        receivers = _receivers[kind] = tuple(_sink_of(sink, kind) for sink in _sinks)
    for receive in receivers:
        receive(observation)


def _sink_of(sink: Sink, kind: type[Observation]) -> Sink:
    dispatch = getattr(sink, "dispatch", None)
    return sink if dispatch is None else dispatch(kind)


class _ThisTurn:
    """Observations that the sinks receive at the end of this turn of the event loop."""

    def __init__(self) -> None:
        self._requests: list[RequestFinished] = []
        self._hits: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add_request(self, request: RequestFinished) -> None:
        self._requests.append(request)
        if self._loop is None or not self._loop.is_running():
            self._tell_later()

    def add_hit(self, cache: str) -> None:
        self._hits[cache] += 1
        if self._loop is None or not self._loop.is_running():
            self._tell_later()

    def _tell_later(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # without a running loop nothing could send them later
            self.tell()
        else:
            self._loop.call_soon(self.tell)

    def tell(self) -> None:
        requests, self._requests, hits, self._hits, self._loop = self._requests, [], self._hits, Counter(), None
        for cache, count in hits.items():
            observe(CacheAsked(cache, "hit", count))
        if requests:
            observe(RequestsFinished(tuple(requests)))


_this_turn = _ThisTurn()
atexit.register(_this_turn.tell)

observe_hit = _this_turn.add_hit
"""Count an answer from the named cache, batched as by :func:`observe_request`."""


def observe_request(request: RequestFinished) -> None:
    """Send ``request`` to all sinks, together with the others of this turn of the event loop.

    Batching per event-loop turn is cheaper for an event that happens a thousand times a second. A killed process loses
    at most one turn.
    """
    _this_turn.add_request(request)
