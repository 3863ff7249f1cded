"""A client of an endpoint that turns texts into vectors, in the form of OpenAI's ``/v1/embeddings``.

The offline model is such an endpoint too, on a Unix socket (:mod:`server.embedding.offline_server`), so there is one
client whatever the model.
"""

from __future__ import annotations

import asyncio
import base64
import json
from asyncio import sleep
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np

from server.embedding.vectors import Vector, unit
from server.embedding_settings import DIMENSIONS_SIGN, EmbeddingSettings

LARGEST_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of an answer that are read."""
MOST_DIMENSIONS: Final = 4096
_RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts, whatever the endpoint asks for."""


class EmbedderFailed(Exception):
    """No vectors came. The message says why, and has nothing of the texts in it."""


class TextRefused(EmbedderFailed):
    """The endpoint does not take one of the texts; asking again would not help."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of texts, a row each, and the tokens that the endpoint counted (0: it does not say)."""

    vectors: Vector
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Address of the endpoint, and its key. ``socket``: path of a Unix socket instead of the address's host."""

    url: str
    key: str = ""
    socket: str = ""

    @property
    def shown(self) -> str:
        """The endpoint as a message names it."""
        return "the offline model" if self.socket else httpx.URL(self.url).host


class Embedder:
    """Asks one endpoint; used by one event loop."""

    def __init__(self, endpoint: Endpoint, *, timeout: float) -> None:
        """``timeout``: seconds for one request."""
        self.endpoint = endpoint
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None

    async def embed(self, texts: Sequence[str], model: str, *, attempts: int = 1) -> Embedded:
        """Return the vectors of ``texts`` by ``model``; ``NAME#256`` asks ``NAME`` for vectors of that length.

        A request that fails for a reason that may pass is repeated, up to ``attempts`` in all, after the pause that the
        endpoint asks for, or a growing one.

        :raises TextRefused: the endpoint does not take the texts.
        :raises EmbedderFailed: no vectors, or unusable ones.
        """
        pause = 0.5
        for attempt in range(1, attempts + 1):
            try:
                return await self._once(texts, model)
            except _TransientFailure as failure:
                if attempt == attempts:
                    raise EmbedderFailed(str(failure)) from failure
                await sleep(min(failure.pause or pause, LONGEST_PAUSE))
                pause *= 2
        raise AssertionError("attempts is at least 1")

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _once(self, texts: Sequence[str], model: str) -> Embedded:
        name, _, dimensions = model.partition(DIMENSIONS_SIGN)
        body: dict[str, Any] = {"model": name, "input": list(texts), "encoding_format": "base64"}
        if dimensions:
            body["dimensions"] = int(dimensions)
        try:
            async with asyncio.timeout(self._timeout):
                status, headers, content = await self._post(body)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            kind = "does not answer in time" if isinstance(error, httpx.TimeoutException | TimeoutError) else "is lost"
            raise _TransientFailure(f"{self.endpoint.shown} {kind}") from error
        if status != 200:
            text = f"{self.endpoint.shown} answers with {status}"
            if status in _RETRIED:
                raise _TransientFailure(text, pause=_seconds(headers.get("retry-after")))
            if status in {400, 413, 422}:
                raise TextRefused(text)
            raise EmbedderFailed(text)
        try:
            return _read(content, len(texts))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise EmbedderFailed(f"{self.endpoint.shown} answers with something other than vectors") from error

    async def _post(self, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        """Return status, headers and content; a larger answer than :data:`LARGEST_ANSWER` is cut, and so
        cannot be parsed."""
        request = self._opened().build_request("POST", f"{self.endpoint.url.rstrip('/')}/embeddings", json=body)
        answer = await self._opened().send(request, stream=True)
        try:
            content = bytearray()
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > LARGEST_ANSWER:
                    break
            return answer.status_code, answer.headers, bytes(content)
        finally:
            await answer.aclose()

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            transport = httpx.AsyncHTTPTransport(uds=self.endpoint.socket) if self.endpoint.socket else None
            headers = {"Authorization": f"Bearer {self.endpoint.key}"} if self.endpoint.key else {}
            self._client = httpx.AsyncClient(
                transport=transport, headers=headers, timeout=self._timeout, follow_redirects=False
            )
        return self._client


def open_embedder(settings: EmbeddingSettings, *, patience: float = 1.0) -> Embedder | None:
    """Return the embedder that ``settings`` name, if any. ``patience``: factor for the configured time-out."""
    if settings.semantic == "off" or (settings.semantic == "endpoint" and not settings.embeddings_url):
        return None
    if settings.semantic == "offline":
        endpoint = Endpoint(url="http://offline", socket=settings.embedder_socket or "/nonexistent")
    else:
        endpoint = Endpoint(url=settings.embeddings_url, key=settings.embeddings_key)
    return Embedder(endpoint, timeout=settings.embeddings_timeout * patience)


class _TransientFailure(Exception):
    """A failure that may have passed at the next attempt. ``pause``: seconds that the endpoint asks for; 0: none."""

    def __init__(self, text: str, *, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0


def _read(content: bytes, count: int) -> Embedded:
    """Return the vectors of an answer. Raises ValueError, TypeError or KeyError if it is not one with vectors."""
    document = json.loads(content)
    found: dict[int, Vector] = {}
    for place, item in enumerate(document["data"]):
        found[int(item.get("index", place))] = _vector(item["embedding"])
    rows = [found[place] for place in range(count)]
    if len(found) != count or len({len(row) for row in rows}) != 1 or not 2 <= len(rows[0]) <= MOST_DIMENSIONS:
        raise ValueError("not one vector for each text, all of one length")
    usage = document.get("usage") or {}
    tokens = usage.get("total_tokens", usage.get("prompt_tokens", 0))
    return Embedded(unit(np.stack(rows)), tokens if isinstance(tokens, int) and tokens >= 0 else 0)


def _vector(value: Any) -> Vector:
    """Return one vector, from base64 of little-endian floats or from a list of numbers."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
    if not isinstance(value, list) or not all(isinstance(item, int | float) for item in value):
        raise TypeError("not a vector")
    return np.asarray(value, dtype=np.float32)
