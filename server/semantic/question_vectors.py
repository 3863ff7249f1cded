"""Vectors of questions, asked of the embedder once and kept for a while."""

from __future__ import annotations

from typing import Final

from cachetools import TTLCache

from server.embedding.embedder import Embedder, EmbedderFailed
from server.embedding.vectors import Vector
from server.errors import MeaningUnavailable

MOST_KEPT: Final = 2000
KEPT_SECONDS: Final = 24 * 3600.0
"""As long as a cursor is good for: an endpoint's vectors differ a little from call to call, and pages must agree."""


class QuestionVectors:
    """The vectors of one process."""

    def __init__(self, embedder: Embedder | None, model: str) -> None:
        """Without an ``embedder`` every question is refused."""
        self._embedder = embedder
        self.model = model
        self._kept: TTLCache[tuple[str, str], Vector] = TTLCache(MOST_KEPT, KEPT_SECONDS)

    async def vector(self, text: str, model: str) -> Vector:
        """Return the vector of ``text`` by ``model``.

        :raises MeaningUnavailable: with the reason.
        """
        if self._embedder is None:
            raise MeaningUnavailable("no embedder is configured (OBSERVATORY_SEMANTIC)")
        kept = self._kept.get((text, model))
        if kept is not None:
            return kept
        try:
            answer = await self._embedder.embed([text], model)
        except EmbedderFailed as failure:
            raise MeaningUnavailable(str(failure)) from failure
        vector: Vector = answer.vectors[0]
        self._kept[text, model] = vector
        return vector

    async def close(self) -> None:
        """Close the connections to the embedder."""
        if self._embedder is not None:
            await self._embedder.close()
