"""Whether a database address leads to sessions, which the server needs, or to a pooler that lends them by transaction.

Ingest keeps TEMP tables and prepared statements in its connections, and takes a role and time-outs when it connects. A
pooler in transaction mode (PgBouncer's ``pool_mode = transaction``) would run the next transaction somewhere else,
where none of that exists, perhaps with another role's rights. That is found out before the server starts.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from server.storage.statements import statement

PATIENCE_SECONDS: Final = 5.0
_SETTINGS: Final = {"statement_timeout": "5000"}


class NoSessions(Exception):
    """The address cannot be used; the message says why and what to do."""


async def check_sessions(url: str, role: str, *, variable: str) -> None:
    """Raise :class:`NoSessions` if ``url``, the value of ``variable``, leads to a pooler that cannot be used.

    A database that does not answer is no reason: the server starts without it, and waits.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _check(url, role, variable)
    except asyncpg.ProtocolViolationError as error:
        raise NoSessions(
            f"{variable}: a pooler in front of PostgreSQL refuses what the server sets when it connects ({error}): "
            "let the server connect to PostgreSQL directly; it has pools of its own"
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return


async def _check(url: str, role: str, variable: str) -> None:
    opened: list[asyncpg.Connection] = []
    try:
        places = []
        for _ in range(2):
            opened.append(
                await asyncpg.connect(url, server_settings={"role": role, **_SETTINGS}, statement_cache_size=0)
            )
            ((backend, current, timeout),) = await opened[-1].fetch(statement("session_state"))
            places.append(backend)
            if current != role or timeout == "0":
                raise NoSessions(
                    f"{variable}: a pooler in front of PostgreSQL drops what the server sets when it connects (role is "
                    f"{current}, statement_timeout is {timeout}): let the server connect to PostgreSQL directly; it "
                    "has pools of its own"
                )
        if len(set(places)) < len(places):
            raise NoSessions(
                f"{variable}: a pooler in front of PostgreSQL lends connections by transaction: use its session mode, "
                "or let the server connect to PostgreSQL directly; it has pools of its own"
            )
    finally:
        for connection in opened:
            connection.terminate()
