"""Upload of OTLP files to a server: the work of ``llm-observatory ingest FILE…``.

Requests that a busy server refuses are sent again. A file may be sent twice: its spans are stored once.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from server.commands.otlp_files import JSON, FileIngestError, FileRequest, read_requests

TRIES: Final = 8
_RETRIED: Final = (429, 502, 503, 504)


@dataclass(slots=True)
class FileProgress:
    """Progress of one file. ``rejected`` items were refused by the server; ``reasons`` has the server's reasons and the
    items that were skipped.
    """

    file: Path
    done_bytes: int
    total_bytes: int
    requests: int = 0
    items: int = 0
    rejected: int = 0
    reasons: tuple[str, ...] = ()

    def say(self, reason: str) -> None:
        """Note ``reason``, once."""
        if reason not in self.reasons:
            self.reasons += (reason,)


async def ingest_files(
    files: Sequence[Path],
    *,
    base_url: str,
    token: str,
    project: str | None = None,
    on_progress: Callable[[FileProgress], None] | None = None,
) -> list[FileProgress]:
    """Send ``files`` in order to the server at ``base_url``; return the totals of each file.

    ``project`` may be None if the token is for one project. Raises :class:`FileIngestError` for a file that cannot be
    read and for an error that a retry would not mend.
    """
    headers = {"Authorization": f"Bearer {token}"} | ({"X-Observatory-Project": project} if project else {})
    totals = []
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client:
        for file in files:
            progress = FileProgress(file, 0, file.stat().st_size)
            async for request in _requests(progress):
                await send(client, request, progress)
                if on_progress is not None:
                    on_progress(progress)
            progress.done_bytes = progress.total_bytes
            if on_progress is not None:
                on_progress(progress)
            totals.append(progress)
    return totals


async def send(client: httpx.AsyncClient, request: FileRequest, progress: FileProgress) -> None:
    """Send ``request`` and add the result to ``progress``. Raises :class:`FileIngestError`."""
    body = await asyncio.to_thread(gzip.compress, request.body, 1)
    headers = {"Content-Type": request.content_type, "Content-Encoding": "gzip"}
    response = await answered(
        str(progress.file), lambda: client.post(request.signal.path, content=body, headers=headers)
    )
    _count(progress, request, response)


async def answered(name: str, ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Return the successful answer to ``ask``, which is repeated while the server is busy or unreachable.

    Raises :class:`FileIngestError`, about ``name``, for an error that a retry would not mend, and after :data:`TRIES`
    tries.
    """
    for attempt in range(TRIES):
        try:
            response = await ask()
        except httpx.TransportError as error:
            address = error.request.url.copy_with(raw_path=b"/")
            reason, wait = f"no answer from {address} ({type(error).__name__})", 0.5 * 2**attempt
        else:
            if response.is_success:
                return response
            reason = f"the server answered {response.status_code}: {response.text[:200]}"
            if response.status_code not in _RETRIED:
                raise FileIngestError(f"{name}: {reason}")
            wait = float(response.headers.get("retry-after", 0.5 * 2**attempt))
        await asyncio.sleep(min(wait, 60))
    raise FileIngestError(f"{name}: {reason}, after {TRIES} tries")


def _count(progress: FileProgress, request: FileRequest, response: httpx.Response) -> None:
    in_json, in_protobuf = request.signal.rejected
    if request.content_type == JSON:
        partial: dict[str, Any] = response.json().get("partialSuccess", {})
        rejected, reason = int(partial.get(in_json, 0)), str(partial.get("errorMessage", ""))
    else:
        answer = request.signal.answer.FromString(response.content).partial_success
        rejected, reason = getattr(answer, in_protobuf), answer.error_message
    progress.requests += 1
    progress.items += request.items
    progress.rejected += rejected
    if reason:
        progress.say(reason)
    progress.done_bytes = max(progress.done_bytes, request.read_bytes)


async def _requests(progress: FileProgress) -> AsyncIterator[FileRequest]:
    """Yield the requests of a file. Reading and cutting runs in a thread, so that a progress display stays alive."""
    iterator = read_requests(progress.file, progress.say)
    while (request := await asyncio.to_thread(next, iterator, None)) is not None:
        yield request
