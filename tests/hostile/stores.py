"""A Redis whose answers are doubled, cut, swapped, late, or of another type than was stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import httpx
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.hostile.hostile import Hostile
from tests.storage.faulty_path import FAULTS


def _goes_on() -> bool:
    """Return whether this task has not been told to end: redis-py may take a cancellation for a time-out of its own."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


_CORRUPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "list": ("LPUSH", "x"),
    "hash": ("HSET", "x", "y"),
    "text": ("SET", "\x00{]" * 50),
    "number": ("SET", "-1e400"),
    "gone": ("DEL",),
}


async def _ask_around(hostile: Hostile) -> None:
    """Ask what is remembered, limited and shared through Redis."""

    async def act(client: httpx.AsyncClient) -> None:
        for path in ("traces?from=now-1d", "metrics?metric=cost&from=now-1d", "facets/model?from=now-1d",
                     f"traces?from=now-1d&limit={hostile.dice.randrange(1, 50)}"):  # fmt: skip
            await hostile.ask(client, "GET", f"/api/v1/{path}")

    await hostile.again_and_again(act, parallel=4)


async def _faulty(fault: str, hostile: Hostile) -> None:
    """Ask while the path to Redis does this to its answers."""
    hostile.path.fault = FAULTS[fault]
    try:
        await _ask_around(hostile)
    finally:
        hostile.path.fault = None


async def _other_types(hostile: Hostile) -> None:
    """Ask while each key that the server stored becomes one of another type, or text of another form."""

    async def corrupt() -> None:
        redis: Any = Redis.from_url(hostile.redis_url)
        try:
            while _goes_on():
                async for key in redis.scan_iter(count=500):
                    kind = hostile.dice.choice(list(_CORRUPTIONS))
                    command = _CORRUPTIONS[kind]
                    await redis.delete(key)
                    with suppress(ResponseError):  # the server was quicker
                        await redis.execute_command(command[0], key, *command[1:])
                await asyncio.sleep(0.02)
        finally:
            await redis.aclose()

    async with asyncio.TaskGroup() as group:
        group.create_task(corrupt())
        group.create_task(_ask_around(hostile))


async def _slow(hostile: Hostile) -> None:
    """Ask while Redis is paused for a part of each second."""

    async def pause() -> None:
        redis: Any = Redis.from_url(hostile.redis_url)
        try:
            while _goes_on():
                await redis.execute_command("CLIENT", "PAUSE", 400, "ALL")
                await asyncio.sleep(1)
        finally:
            await redis.aclose()

    async with asyncio.TaskGroup() as group:
        group.create_task(pause())
        group.create_task(_ask_around(hostile))


REDIS_WAVES: Final[dict[str, Callable[[Hostile], Awaitable[None]]]] = {
    **{fault: partial(_faulty, fault) for fault in FAULTS},
    "types": _other_types,
    "slow": _slow,
}
