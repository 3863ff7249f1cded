"""Log lines: one JSON object each (or plain text for people), to standard error.

Everything that a line holds is chosen here or at the call; bodies, tokens and statement arguments never are.
The loggers of libraries that would print them at DEBUG speak from WARNING on.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import fields
from datetime import UTC, datetime
from functools import singledispatch
from typing import Any

from server.observations import (
    AuthenticationRefused,
    BackgroundWorkFailed,
    Observation,
    PartitionsDropped,
    RedisBack,
    RedisLost,
    RequestFinished,
)

logger = logging.getLogger("observatory")

# At DEBUG these print SQL arguments, that is prompts and key hashes, or request headers; at INFO a line a pool.
LIBRARIES = ("databases", "asyncio", "httpx", "httpcore", "asyncpg", "sanic.root", "urllib3")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_ENCODE = json.JSONEncoder(default=str).encode
_REPEAT_SECONDS = 60.0
_MOST_KINDS = 1000


class JsonLines(logging.Formatter):
    """One JSON object a line; control characters are escaped, so that no input can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _ENCODE(line)


def configure(level: str, form: str) -> None:
    """Send all loggers to standard error at ``level``, as ``json`` or ``text``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonLines() if form == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    # A pipe that nobody reads must not stop the server.
    logging.raiseExceptions = False
    # No line shows these, and finding them out is a part of what a line costs.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _members(observation: Observation) -> dict[str, Any]:
    return {field.name: getattr(observation, field.name) for field in fields(observation)}


@singledispatch
def log(observation: Observation) -> None:
    """Print ``observation`` if it is worth a line."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(type(observation).__name__, extra=_members(observation))


@log.register
def _(observation: RequestFinished) -> None:
    level = logging.WARNING if observation.status >= 500 else logging.INFO
    if logger.isEnabledFor(level):
        # One a request: made without a look at the stack for the line of code that it comes from.
        members = _members(observation)
        logger.handle(logger.makeRecord(logger.name, level, __file__, 0, "request", (), None, extra=members))


class Debounce:
    """Lets one line a minute through for each kind of trouble, and says how many were held back."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def admit(self, kind: str) -> int | None:
        """How many were held back since the last line of ``kind``; None when this one is held back too."""
        now = time.monotonic()
        if len(self._last) > _MOST_KINDS:  # bounded, whoever invents kinds (client addresses are one)
            self._last.clear()
            self._held.clear()
        if now - self._last.get(kind, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            self._held[kind] = self._held.get(kind, 0) + 1
            return None
        self._last[kind] = now
        return self._held.pop(kind, 0)


_debounce = Debounce()


def _trouble(message: str, kind: str, observation: Observation) -> None:
    held = _debounce.admit(kind)
    if held is not None:
        logger.warning(message, extra={**_members(observation), "suppressed": held})


@log.register
def _(observation: AuthenticationRefused) -> None:
    _trouble("credential refused", f"auth {observation.reason} {observation.client_address}", observation)


@log.register
def _(observation: RedisLost) -> None:
    _trouble("Redis lost, going on without it", "redis", observation)


@log.register
def _(observation: RedisBack) -> None:
    logger.info("Redis is back")


@log.register
def _(observation: PartitionsDropped) -> None:
    logger.info("partitions dropped", extra=_members(observation))


@log.register
def _(observation: BackgroundWorkFailed) -> None:
    _trouble("background work failed, will try again", f"background {observation.task}", observation)
