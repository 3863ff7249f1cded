"""One connection to Redis that carries the commands of all requests together.

A pool needs a connection, a write, a wake-up and a time-out for each command, which costs several times as much as the
command. Here the commands of one turn of the event loop leave in one write, replies come back in the order of the
commands (RESP pipelining), and one timer watches the oldest command for all of them.

RESP has no numbers: after one reply too many or too few, each later question would get the reply to another one. So
each write ends with an ECHO of a number of its own, and its replies are handed out only once that number comes back in
its place. Whatever else comes ends the connection.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError

from server.storage.redis_address import RedisAddress

# A loop that was busy for longer than the time-out may run its timers before it looks at the socket.
_GRACE_SECONDS: Final = 0.005


_MOVED: Final = ("READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "LOADING")
"""Beginnings of errors that say that this is not, or no longer, the server of our keys; it is then looked for again."""

_RUN_ID: Final = re.compile(rb"^run_id:([0-9a-f]{8,64})", re.MULTILINE)

Command = Sequence[bytes | str | float] | bytes
"""The parts of a command, or the whole as :func:`packed` made it."""


def packed(command: Command) -> bytes:
    """Return ``command`` in the form in which it is sent."""
    if isinstance(command, bytes):
        return command
    return hiredis.pack_command(tuple(command))  # type: ignore[arg-type, no-any-return]  # its stub knows one argument


class RedisLine:
    """Commands over one connection, opened on first use and again after a loss."""

    def __init__(self, address: RedisAddress, *, timeout: float) -> None:
        """``timeout`` is in seconds and holds for each command, and for connecting."""
        self._address = address
        self._timeout = timeout
        self._exchange: _Exchange | None = None
        self._connecting = asyncio.Lock()
        self.server_id = b""
        """Identity of the server that was connected to last: another one after a restart or a failover; empty if it
        reports none.
        """

    async def calls(self, *commands: Command) -> list[Any]:
        """Send ``commands`` together and return their replies; an error that Redis reports is returned as the reply.

        Raises OSError, TimeoutError or RedisError if no reply came. A command is sent once; after a loss nobody knows
        whether it was executed.
        """
        exchange = self._exchange
        if exchange is None or exchange.is_lost:
            exchange = await self._connected()
        replies = [exchange.ask(packed(command)) for command in commands]
        answers = [await reply for reply in replies]
        if any(isinstance(answer, hiredis.ReplyError) and str(answer).startswith(_MOVED) for answer in answers):
            exchange.lose(RedisConnectionError("another server has our keys now"))
        return answers

    def post(self, *commands: Command) -> None:
        """Send ``commands`` without waiting for replies. Redis executes them before any later command.

        Nothing is sent while there is no connection.
        """
        exchange = self._exchange
        if exchange is not None and not exchange.is_lost:
            for command in commands:
                exchange.ask(packed(command))

    def drop(self, reason: str) -> None:
        """Give up the connection; the next command opens another."""
        if self._exchange is not None:
            self._exchange.lose(RedisConnectionError(reason))

    async def close(self) -> None:
        """Close the connection; pending commands fail."""
        self.drop("closed")

    async def _connected(self) -> _Exchange:
        async with asyncio.timeout(self._timeout), self._connecting:
            if self._exchange is None or self._exchange.is_lost:
                # redis-py connects, authenticates and selects the database; then this class takes over its streams.
                exchange = _Exchange(await self._address.connection(), self._timeout)
                try:
                    self.server_id = _server_id(await exchange.ask(packed(("INFO", "server"))))
                except BaseException:
                    exchange.lose(RedisConnectionError("no reply to the first command"))
                    raise
                self._exchange = exchange
            return self._exchange


def _server_id(info: Any) -> bytes:
    found = _RUN_ID.search(info) if isinstance(info, bytes) else None
    return found[1] if found is not None else b""


class _Write(NamedTuple):
    """The commands of one write, in their order."""

    futures: list[asyncio.Future[Any]]
    replies: list[Any]
    number: bytes
    deadline: float


class _Exchange(asyncio.Protocol):
    """Pending commands and replies of one connection."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._transport = cast(asyncio.Transport, connection._writer.transport)
        self._transport.set_protocol(self)
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader()
        self._numbers = itertools.count(secrets.randbits(64))
        self._unsent: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._waiting: deque[_Write] = deque()
        self._is_watched = False
        self.is_lost = False

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Send one packed command and return the future of its reply."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append((packed, reply))
        return reply

    def data_received(self, data: bytes) -> None:
        """Hand replies to the waiting callers, oldest first."""
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not False:
                if isinstance(reply, hiredis.PushNotification):
                    continue  # no command here subscribes to anything
                if not self._waiting:
                    self.lose(RedisConnectionError("a reply that nobody asked for"))
                    return
                write = self._waiting[0]
                if len(write.replies) < len(write.futures):
                    write.replies.append(reply)
                elif reply == write.number:
                    self._hand_out(self._waiting.popleft())
                else:
                    self.lose(RedisConnectionError("replies that do not belong to their questions"))
                    return
        except (hiredis.ProtocolError, TypeError, ValueError) as error:  # bytes that are not RESP
            self.lose(RedisConnectionError(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all pending commands: the other side is gone."""
        self.lose(exc if isinstance(exc, OSError) else RedisConnectionError("connection lost"))

    def lose(self, error: Exception) -> None:
        """Give up this connection: its replies can no longer be matched to commands."""
        self.is_lost = True
        self._transport.abort()
        self._connection._close()
        unsent, self._unsent = self._unsent, []
        futures = [future for write in self._waiting for future in write.futures] + [future for _, future in unsent]
        self._waiting.clear()
        for future in futures:
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody awaits posted commands

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.is_lost or not unsent:
            return
        number = b"%x" % next(self._numbers)
        self._waiting.append(_Write([future for _, future in unsent], [], number, time.monotonic() + self._timeout))
        self._transport.write(
            b"".join([packed for packed, _ in unsent]) + b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(number), number)
        )
        if not self._is_watched:
            self._is_watched = True
            self._loop.call_later(self._timeout, self._watch)

    def _hand_out(self, write: _Write) -> None:
        for future, reply in zip(write.futures, write.replies, strict=True):
            if not future.done():
                future.set_result(reply)

    def _watch(self, is_second_look: bool = False) -> None:
        if not self._waiting or self.is_lost:
            self._is_watched = False
            return
        left = self._waiting[0].deadline - time.monotonic()
        if left > 0:
            self._loop.call_later(left, self._watch)
        elif not is_second_look:
            self._loop.call_later(_GRACE_SECONDS, self._watch, True)
        else:
            self._is_watched = False
            self.lose(TimeoutError("no reply from Redis"))
