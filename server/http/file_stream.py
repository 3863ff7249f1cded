"""Sends a file of unknown length as an answer: in pieces, at the client's pace, and never cut without a sign.

An error in a Sanic handler that streams ends the body properly (Sanic 25.12: status 200, last chunk), so a file
that broke off would look whole. Here the connection is cut instead, which every HTTP client reports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final

from sanic import Request

SLICE_BYTES: Final = 64 * 1024
"""Bytes handed to the connection at once, so also the most that a slow client makes the server hold."""
STALL_SECONDS: Final = 45.0
"""Seconds after which a client that takes nothing counts as gone, whatever TCP reports."""
CHECK_SECONDS: Final = 2.0
"""Seconds between two checks of the client's right to the file."""

# Proxies must not collect the file on their disk: nginx would, and would report bytes as delivered that no client
# received.
STREAM_HEADERS: Final = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}


class FileStream:
    """The answer to one request. :meth:`begin` comes first; the handler returns None in the end."""

    def __init__(self, request: Request, *, check: Callable[[], Awaitable[None]] | None = None) -> None:
        """``check`` raises once the caller may not have the file any more."""
        self._request = request
        self._check = check
        self._checked_at = monotonic()
        self._response: Any = None

    async def begin(self, content_type: str, headers: Mapping[str, str]) -> None:
        """Answer 200 with ``headers``. From here on only :meth:`abort` can report an error."""
        self._response = await self._request.respond(content_type=content_type, headers={**STREAM_HEADERS, **headers})

    async def send(self, data: bytes) -> None:
        """Send ``data``, waiting for the client to take it.

        :raises TimeoutError: the client took nothing for :data:`STALL_SECONDS`.
        :raises asyncio.CancelledError: the client is gone.

        Raises what the check raises.
        """
        for start in range(0, len(data), SLICE_BYTES):
            if self._check is not None and monotonic() - self._checked_at >= CHECK_SECONDS:
                await self._check()
                self._checked_at = monotonic()
            async with asyncio.timeout(STALL_SECONDS):
                await self._response.send(data[start : start + SLICE_BYTES])

    def abort(self) -> None:
        """Cut the connection, so that the client cannot mistake a part for the whole."""
        transport: Any = self._request.transport
        if transport is not None:
            transport.abort()
