"""The client for programs with asyncio; its methods are those of :class:`llm_observatory_client.Client`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from llm_observatory_client.errors import TransportFailed
from llm_observatory_client.live import LiveEvent, LiveReader
from llm_observatory_client.requests import (
    RETRIED,
    Page,
    Retries,
    Row,
    Value,
    api_error,
    document_of,
    headers_of,
    may_repeat,
    page_of,
    parameters,
    segment,
)


class AsyncClient:
    """A connection to one server with one credential, for one event loop."""

    def __init__(
        self, base_url: str, token: str, *, timeout: float = 30.0, retries: Retries | None = None, **options: Any
    ) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers_of(token), timeout=timeout, **options)
        self._retries = retries or Retries()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def request(
        self, method: str, path: str, *, params: Mapping[str, Value] | None = None, json: Any = None
    ) -> dict[str, Any]:
        """Send any request of the API and return its JSON."""
        attempt = 0
        while True:
            attempt += 1
            headers: Mapping[str, str] = {}
            try:
                response = await self._http.request(method, path, params=parameters(params or {}), json=json)
                headers = response.headers
                if response.status_code not in RETRIED:
                    answer: dict[str, Any] = document_of(response)
                    return answer
                failure: Exception = api_error(response.status_code, response.content, headers)
            except httpx.TransportError as error:
                failure = TransportFailed(str(error) or type(error).__name__)
                failure.__cause__ = error
            is_refused = getattr(failure, "status", None) == 429
            wait = self._retries.wait(attempt, headers) if is_refused or may_repeat(method, path) else None
            if wait is None:
                raise failure
            await asyncio.sleep(wait)

    async def page(self, path: str, params: Mapping[str, Value]) -> Page:
        """Return one page of a list."""
        return page_of(await self.request("GET", path, params=params))

    async def rows(self, path: str, params: Mapping[str, Value]) -> AsyncIterator[Row]:
        """Yield all rows of a list, page by page."""
        asked = dict(params)
        while True:
            page = await self.page(path, asked)
            for row in page.rows:
                yield row
            if page.cursor is None:
                return
            asked["cursor"] = page.cursor

    def traces(self, **params: Value) -> AsyncIterator[Row]:
        """Yield the spans (``view="traces"``: the traces) that match, newest first."""
        return self.rows("/api/v1/traces", params)

    async def search(self, document: Mapping[str, Any]) -> AsyncIterator[Row]:
        """Yield the rows that match a search document."""
        asked = dict(document)
        while True:
            page = page_of(await self.request("POST", "/api/v1/traces/search", json=asked))
            for row in page.rows:
                yield row
            if page.cursor is None:
                return
            asked["cursor"] = page.cursor

    def sessions(self, **params: Value) -> AsyncIterator[Row]:
        """Yield sessions."""
        return self.rows("/api/v1/sessions", params)

    def users(self, **params: Value) -> AsyncIterator[Row]:
        """Yield users."""
        return self.rows("/api/v1/users", params)

    async def trace(self, trace_id: str, **params: Value) -> Row:
        """Return one trace with its spans."""
        return dict((await self.request("GET", f"/api/v1/traces/{segment(trace_id)}", params=params))["data"])

    async def metrics(self, *names: str, **params: Value) -> list[Row]:
        """Return aggregates as rows."""
        return list((await self.request("GET", "/api/v1/metrics", params={"metric": names, **params}))["data"])

    async def costs(self, **params: Value) -> Row:
        """Return totals of money with their changes, splits and trends."""
        return dict((await self.request("GET", "/api/v1/costs/summary", params=params))["data"])

    async def score(self, trace_id: str, name: str, value: float | str | bool, **members: Any) -> Row:
        """Add a score; ``score_id`` among ``members`` makes it safe to send again."""
        body = {"trace_id": trace_id, "name": name, "value": value, **members}
        project = {"project_id": body.pop("project_id", None)}
        return dict((await self.request("POST", "/api/v1/scores", params=project, json=body))["data"])

    async def live(self, **params: Value) -> AsyncIterator[LiveEvent]:
        """Yield events of the live tail without end. A connection that breaks is opened again where it was.

        Heartbeats are among the events. Raises StreamEnded when the server ends the stream for good.
        """
        reader = LiveReader()
        timeout = httpx.Timeout(self._http.timeout.connect, read=60.0)
        while True:
            try:
                async with self._http.stream(
                    "GET",
                    "/api/v1/traces/live",
                    params=parameters(params),
                    headers=reader.headers(),
                    timeout=timeout,
                ) as response:
                    if response.status_code in RETRIED:
                        reader.wait = self._retries.wait(1, response.headers) or self._retries.longest_wait
                    elif response.status_code >= 400:
                        raise api_error(response.status_code, await response.aread(), response.headers)
                    else:
                        async for chunk in response.aiter_bytes():
                            for event in reader.feed(chunk):
                                yield event
            except httpx.TransportError:
                pass
            reader.broken()
            await asyncio.sleep(reader.wait)
