"""Messages between server processes that something was stored, over Redis.

A message carries no data and may be lost: who listens looks at the database, and looks every few moments anyhow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.storage.redis_address import redis_address
from server.storage.redis_store import RedisStore

logger = logging.getLogger("observatory.live")

CHANNEL: Final = "obs:stored"
RETRY_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 5.0
"""After so much silence the connection is asked whether it is there."""


class WakeUps:
    """Sends messages about commits of this process, and receives those of others while there is a use for them."""

    def __init__(self, url: str, store: RedisStore, *, timeout: float, heard: Callable[[Iterable[str]], None]) -> None:
        """``heard`` is told the projects of each message. ``timeout``: seconds to connect."""
        self._url = url
        self._store = store
        self._timeout = timeout
        self._heard = heard
        self._task: asyncio.Task[None] | None = None
        self.is_listening = False

    def tell(self, projects: Iterable[str]) -> None:
        """Tell the other processes that spans of ``projects`` were stored. Never waits and never fails."""
        self._store.post(("PUBLISH", CHANNEL, " ".join(projects)))

    def start(self) -> None:
        """Listen from now on."""
        if self._task is None and self._url:
            self._task = asyncio.create_task(self._listen(), name="live tail wake-ups")

    async def stop(self) -> None:
        """Listen no longer."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        address = redis_address(self._url, timeout=self._timeout)
        while True:
            redis = address.client()
            try:
                await self._receive(redis)
            except Exception as error:  # noqa: BLE001  # a faulty path may bring anything; the feed is looked at anyhow
                if self.is_listening:
                    logger.warning("wake-ups of the live tail are lost", extra={"cause": type(error).__name__})
            finally:
                self.is_listening = False
                with suppress(RedisError, OSError, TimeoutError):
                    await redis.aclose()
                    await redis.connection_pool.disconnect()
                    await address.close()
            await asyncio.sleep(RETRY_SECONDS)

    async def _receive(self, redis: Redis) -> None:
        async with redis.pubsub() as messages:
            await messages.subscribe(CHANNEL)
            while True:
                message = await messages.get_message(timeout=_QUIET_SECONDS)
                if message is None:
                    await messages.ping()  # its answer is a message, too: without one the next read times out
                    message = await messages.get_message(timeout=self._timeout)
                    if message is None:
                        raise TimeoutError
                if message["type"] == "subscribe":
                    self.is_listening = True
                elif message["type"] == "message":
                    self._heard(message["data"].decode().split())
