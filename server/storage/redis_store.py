"""Redis or Valkey as an accelerator: fast when present, harmless when absent.

Every use goes through :meth:`RedisStore.ask`, which gives up after a short time-out. It then makes no attempt for 0.3 s
after one failure and for two seconds after three in a row; then it lets one trial through. So a request that uses Redis
several times waits for a frozen one only once. redis-py's own retries are off: with them a refused port costs 4.5 s per
command and a script may run four times.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from hiredis import ReplyError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.storage.redis_address import redis_address
from server.storage.redis_line import Command, RedisLine, packed
from server.telemetry.observations import RedisBack, RedisLost, observe

FAILURES_TO_OPEN = 3
OPEN_SECONDS = 2.0
# After a single failure: long enough that one request does not wait for Redis twice.
PAUSE_SECONDS = 0.3


class RedisUnavailable(Exception):
    """Redis did not answer, or the breaker is open."""


class RedisStore:
    """A connection pool behind a circuit breaker. ``url`` empty: every use raises RedisUnavailable."""

    def __init__(self, url: str, *, timeout: float, pool_size: int = 32) -> None:
        """``timeout`` in seconds holds for connecting, and for each command."""
        self._failures = 0
        self._retry_at = 0.0
        self._trial_running = False
        self.redis: Redis | None = None
        self._key_tag = ""
        if url:
            self._address = redis_address(url, timeout=timeout, pool_size=pool_size)
            self._key_tag = self._address.key_tag
            self.redis = self._address.client()
            self._line = RedisLine(self._address, timeout=timeout)

    async def ask(self, *commands: Command) -> list[Any]:
        """Return the replies to ``commands``, sent together with those of other callers at this moment.

        See :mod:`server.storage.redis_line`.

        An error that Redis reports is returned as a ``hiredis.ReplyError`` in place of the reply. Raises
        RedisUnavailable.
        """
        if self.redis is None or not self._may_try():
            raise RedisUnavailable
        try:
            replies = await self._line.calls(*map(self._tagged, commands))
        except (RedisError, OSError, TimeoutError) as error:
            raise self.failed(error) from error
        finally:
            self._trial_running = False
        self._succeeded()
        return replies

    async def values(self, names: Sequence[str]) -> list[bytes | None]:
        """Return the values of the keys ``names``, None for one that is missing. Raises RedisUnavailable."""
        if not names:
            return []
        (reply,) = await self.ask(["MGET", *names])
        return self.values_in(reply, len(names))

    def values_in(self, reply: Any, count: int) -> list[bytes | None]:
        """Return ``reply`` if it is the reply to MGET of ``count`` keys. Raises RedisUnavailable."""
        if isinstance(reply, ReplyError):
            raise RedisUnavailable(str(reply))
        is_whole = isinstance(reply, list) and len(reply) == count
        if not is_whole or not all(value is None or isinstance(value, bytes) for value in reply):
            raise self.distrust("a reply other than a list of values")
        return list(reply)

    @property
    def server_id(self) -> bytes:
        """A name of the server behind the connection that its next start, and another server, does not have."""
        return self._line.server_id if self.redis is not None else b""

    def post(self, *commands: Command) -> None:
        """Send ``commands`` without waiting: Redis executes them before whatever :meth:`ask` sends later, or never."""
        if self.redis is not None:
            self._line.post(*map(self._tagged, commands))

    def tagged(self, keys: Sequence[str]) -> Sequence[str]:
        """Return the full names of ``keys`` in the store."""
        return [self._key_tag + key for key in keys] if self._key_tag else keys

    def _tagged(self, command: Command) -> Command:
        if not self._key_tag or isinstance(command, bytes):
            return command
        keys = command[_KEYS_OF.get(str(command[0]), slice(0))]
        first = 1 + len(keys)
        return [command[0], *(f"{self._key_tag}{key!s}" for key in keys), *command[first:]]

    def distrust(self, what: str) -> RedisUnavailable:
        """Give up the connection, whose replies do not belong to their questions, and return the exception to raise."""
        if self.redis is not None:
            self._line.drop(what)
        return self.failed(RedisError(what))

    def failed(self, error: Exception) -> RedisUnavailable:
        """Count a failure and return the exception to raise."""
        self._failures += 1
        self._retry_at = time.monotonic() + (OPEN_SECONDS if self._failures >= FAILURES_TO_OPEN else PAUSE_SECONDS)
        if self._failures == FAILURES_TO_OPEN:
            observe(RedisLost(type(error).__name__))
        return RedisUnavailable(str(error))

    def _succeeded(self) -> None:
        if self._failures >= FAILURES_TO_OPEN:
            observe(RedisBack())
        self._failures = 0

    def _may_try(self) -> bool:
        if self._failures == 0:
            return True
        if time.monotonic() < self._retry_at or self._trial_running:
            return False
        self._trial_running = True
        return True

    def script(self, package: str, file_name: str) -> Script:
        """Return the Lua script that ships as ``file_name`` in ``package``."""
        return Script(self, files(package).joinpath(file_name).read_text(encoding="utf-8"))

    async def close(self) -> None:
        """Close all connections."""
        if self.redis is not None:
            await self._line.close()
            await self.redis.aclose()
            await self.redis.connection_pool.disconnect()
            await self._address.close()


_KEYS_OF: Final = {"SET": slice(1, 2), "DEL": slice(1, None), "MGET": slice(1, None)}
"""Positions of the keys in commands. Other commands that are sent have none."""

_NO_NUMBER: Final = b"00000000"
"""Placeholder in a prepared call for the number of the question."""


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A script with its keys and arguments, in the form in which it is sent."""

    packed: bytes
    rest: tuple[Any, ...]


class Script:
    """A Lua script. Calls of the same moment share one write (:mod:`server.storage.redis_line`).

    The last argument of each call is a number, which the script puts first in its reply. So a reply that took the place
    of another one within the same write is noticed, too.
    """

    def __init__(self, store: RedisStore, text: str) -> None:
        self._store = store
        self._text = text
        self._numbers = itertools.count(secrets.randbits(32))
        # Redis identifies scripts by their SHA-1; nothing relies on it for protection.
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def prepared(self, keys: Sequence[str], arguments: Sequence[Any]) -> ScriptCall:
        """Return a call with ``keys`` and ``arguments`` (texts, bytes, numbers), for callers that repeat it."""
        rest = (len(keys), *self._store.tagged(keys), *arguments, _NO_NUMBER)
        return ScriptCall(packed(("EVALSHA", self._digest, *rest)), rest)

    async def run(self, call: ScriptCall) -> list[Any]:
        """Return the reply to ``call``; send the script's text if Redis does not know it. Raises RedisUnavailable."""
        number = b"%08x" % (next(self._numbers) & 0xFFFFFFFF)
        (reply,) = await self._store.ask(call.packed[: -len(_NO_NUMBER) - 2] + number + b"\r\n")
        if isinstance(reply, ReplyError):
            if str(reply).startswith("NOSCRIPT"):
                (reply,) = await self._store.ask(("EVAL", self._text, *call.rest[:-1], number))
            if isinstance(reply, ReplyError):
                raise self._store.failed(reply) from reply
        if not isinstance(reply, list) or not reply or reply[0] != number:
            raise self._store.distrust("a reply to another question")
        return reply[1:]
