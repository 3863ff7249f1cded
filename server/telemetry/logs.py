"""Log lines: one JSON object each (or plain text for people), to standard error.

The fields of a line are chosen here or at the call; bodies, tokens and statement arguments are never among them.
Libraries that would print them at DEBUG are set to WARNING.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import lru_cache, singledispatch
from typing import Any, TextIO

import orjson

from server.telemetry.observations import (
    AuthenticationRefused,
    BackgroundWorkFailed,
    LogLinesLost,
    Observation,
    PartitionsDropped,
    RedisBack,
    RedisLost,
    ReplicaBack,
    ReplicaLost,
    RequestFinished,
    RequestsFinished,
    WrongProtocolSpoken,
)
from server.telemetry.patient_stream import PatientStream

logger = logging.getLogger("observatory")

# At DEBUG these print SQL arguments (prompts and key hashes) or request headers; at INFO some print a line per pool.
LIBRARIES = ("databases", "asyncio", "httpx", "httpcore", "asyncpg", "sanic.root", "urllib3")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = re.compile(r"[\w.:/@+-]+", re.ASCII)
_REPEAT_SECONDS = 60.0
_MOST_LINES = 100
_AT_WILL = (429, 499)
"""Statuses that even a known caller can cause without limit: too many requests, and a caller that hung up."""
_MOST_KINDS = 1000


class JsonLines(logging.Formatter):
    """One JSON object per line; control characters are escaped, so that no input can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = _head(record.created, record.levelname, record.name, record.getMessage())
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encoded(line)


class TextLines(logging.Formatter):
    """A line for people: the message, then the fields as ``name=value``; no field can break the line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        fields = [f" {key}={_word(value)}" for key, value in vars(record).items() if key not in _STANDARD]
        return super().formatMessage(record) + "".join(fields)


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else _encoded(value)


def _head(created: float, level: str, name: str, message: str) -> dict[str, Any]:
    return {"ts": _moment(created), "level": level, "logger": name, "message": message}


def _moment(created: float) -> str:
    seconds = int(created)
    return f"{_second(seconds)}.{int((created - seconds) * 1000):03}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _request_members(request: RequestFinished) -> str:
    try:
        quick = orjson.dumps(request)
    except TypeError:
        return _encoded(_members(request))
    return quick.decode() if quick.isascii() else _encoded(_members(request))


def _encoded(line: Any) -> str:
    try:
        quick = orjson.dumps(line, default=str)
    except TypeError:  # lone surrogates, large numbers
        return json.dumps(line, default=str)
    # JSON allows line breaks beyond ASCII (U+2028) inside strings; json.dumps escapes them, orjson does not.
    return quick.decode() if quick.isascii() else json.dumps(line, default=str)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes log records, and request lines directly (one per request) without building a LogRecord."""

    def write_requests(self, level: int, requests: Iterable[RequestFinished]) -> None:
        """Write the lines of ``requests`` as JSON."""
        head = _encoded(_head(time.time(), logging.getLevelName(level), logger.name, "request"))[:-1]
        lines = "".join([f"{head},{_request_members(request)[1:]}{self.terminator}" for request in requests])
        try:
            with self.lock or nullcontext():
                self.stream.write(lines)
                self.flush()
        except (OSError, ValueError):
            return  # as for other lines: a pipe that nobody reads must not stop the server


def configure(level: str, form: str) -> None:
    """Send all loggers to standard error at ``level``, as ``json`` or ``text``."""
    stream: Any = sys.stderr
    with suppress(OSError, ValueError, AttributeError):  # not a file, as in a test
        stream = PatientStream(sys.stderr.fileno())
    handler = LineHandler(stream) if form == "json" else logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    # A pipe that nobody reads must not stop the server.
    logging.raiseExceptions = False
    # No line shows these, and looking them up is a noticeable part of a line's cost.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _members(observation: Observation | RequestFinished) -> dict[str, Any]:
    names: tuple[str, ...] = observation.__match_args__  # the fields of a dataclass, in order
    return {name: getattr(observation, name) for name in names}


@singledispatch
def log(observation: Observation) -> None:
    """Print ``observation`` if it is worth a line."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(type(observation).__name__, extra=_members(observation))


@log.register
def _(observation: RequestsFinished) -> None:
    failed = [request for request in observation.requests if request.status >= 500]
    fine = [request for request in observation.requests if request.status < 500 and _refused.has_line(request)]
    for status, count in _refused.left_out():
        logger.info("requests without a line", extra={"status": status, "count": count})
    for level, requests in ((logging.WARNING, failed), (logging.INFO, fine)):
        if not requests or not logger.isEnabledFor(level):
            continue
        handlers = logging.root.handlers
        if len(handlers) == 1 and isinstance(handlers[0], LineHandler):
            handlers[0].write_requests(level, requests)
            continue
        for request in requests:
            logger.log(level, "request", extra=_members(request))


class RefusedLines:
    """Limits the lines of refused requests to :data:`_MOST_LINES` a minute for each status, because callers can cause
    any number of them.
    """

    def __init__(self) -> None:
        self._ends = 0.0
        self._counts: Counter[int] = Counter()
        self._unreported: list[tuple[int, int]] = []

    def has_line(self, request: RequestFinished) -> bool:
        """Return whether ``request`` gets a line. Refused requests are counted, whether they get one or not."""
        if request.status < 400 or (request.subject and request.status not in _AT_WILL):
            return True
        self._begin_minute()
        self._counts[request.status] += 1
        return self._counts[request.status] <= _MOST_LINES

    def left_out(self) -> list[tuple[int, int]]:
        """Return statuses, each with how many of its requests got no line in a minute that is over; each count once."""
        if not self._counts and not self._unreported:
            return []
        self._begin_minute()
        unreported, self._unreported = self._unreported, []
        return unreported

    def _begin_minute(self) -> None:
        now = time.monotonic()
        if now > self._ends:
            self._ends = now + _REPEAT_SECONDS
            self._unreported += [
                (status, count - _MOST_LINES) for status, count in self._counts.items() if count > _MOST_LINES
            ]
            self._counts.clear()


_refused = RefusedLines()


@log.register
def _(observation: LogLinesLost) -> None:
    """Do nothing: a line about it would be the next to be lost."""


class Debounce:
    """Lets one line per minute through for each kind of trouble, and counts those held back."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def admit(self, kind: str) -> int | None:
        """Return how many lines were held back since the last of ``kind``; None if this one is held back too."""
        now = time.monotonic()
        if len(self._last) > _MOST_KINDS:  # bounded, because kinds may come from outside (client addresses are one)
            self._last.clear()
            self._held.clear()
        if now - self._last.get(kind, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            self._held[kind] = self._held.get(kind, 0) + 1
            return None
        self._last[kind] = now
        return self._held.pop(kind, 0)


_debounce = Debounce()


def _trouble(message: str, kind: str, observation: Observation) -> None:
    """Log a warning, unless one of the same ``kind`` was logged less than a minute ago."""
    held = _debounce.admit(kind)
    if held is not None:
        logger.warning(message, extra={**_members(observation), "suppressed": held})


@log.register
def _(observation: AuthenticationRefused) -> None:
    _trouble("credential refused", f"auth {observation.reason} {observation.client_address}", observation)


@log.register
def _(observation: WrongProtocolSpoken) -> None:
    message = "a client spoke HTTP/2, as gRPC does: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf at the sender"
    _trouble(message, f"http2 {observation.client_address}", observation)


@log.register
def _(observation: RedisLost) -> None:
    _trouble("Redis lost, going on without it", "redis", observation)


@log.register
def _(observation: RedisBack) -> None:
    logger.info("Redis is back")


@log.register
def _(observation: ReplicaLost) -> None:
    _trouble("a read replica is left out", str(observation.number), observation)


@log.register
def _(observation: ReplicaBack) -> None:
    logger.info("a read replica is in use", extra=_members(observation))


@log.register
def _(observation: PartitionsDropped) -> None:
    logger.info("partitions dropped", extra=_members(observation))


@log.register
def _(observation: BackgroundWorkFailed) -> None:
    _trouble("background work failed, will try again", f"background {observation.task}", observation)
