"""Vectors of questions, asked of the embedder once and kept for a while.

Each tenant has its own: how fast an answer comes must not tell what others have asked, and nobody's questions push out
those of others. The embedder takes a few questions at a time, and tenants take turns.
"""

from __future__ import annotations

from typing import Final

from cachetools import LRUCache, TTLCache

from server.embedding.embedder import Embedder, EmbedderFailed
from server.embedding.vectors import Vector
from server.errors import MeaningUnavailable
from server.fairness.fair_queue import FairQueue
from server.fairness.party import current_party

MOST_TENANTS: Final = 200
MOST_KEPT: Final = 200
"""Vectors of one tenant."""
AT_ONCE: Final = 4
"""Number of questions of a process that the embedder works on at once."""
PATIENCE_SECONDS: Final = 5.0
KEPT_SECONDS: Final = 24 * 3600.0
"""Seconds that a cursor is valid: an endpoint's vectors differ a little from call to call, and pages must agree."""


class QuestionVectors:
    """The vectors of one process."""

    def __init__(self, embedder: Embedder | None, model: str) -> None:
        """Without an ``embedder`` every question is refused."""
        self._embedder = embedder
        self.model = model
        self._kept: LRUCache[str, TTLCache[tuple[str, str], Vector]] = LRUCache(MOST_TENANTS)
        self._places = FairQueue(
            "questions to the embedder",
            AT_ONCE,
            patience=PATIENCE_SECONDS,
            exhausted=lambda: MeaningUnavailable("the embedder has too many questions"),
        )

    async def vector(self, text: str, model: str) -> Vector:
        """Return the vector of ``text`` by ``model``.

        :raises MeaningUnavailable: with the reason.
        :raises ShareExhausted: the tenant's other questions are at the embedder.
        """
        if self._embedder is None:
            raise MeaningUnavailable("no embedder is configured (OBSERVATORY_SEMANTIC)")
        tenant = current_party.get().tenant
        kept = self._kept.get(tenant)
        if kept is None:
            kept = self._kept[tenant] = TTLCache(MOST_KEPT, KEPT_SECONDS)
        known: Vector | None = kept.get((text, model))
        if known is not None:
            return known
        try:
            async with self._places.hold():
                answer = await self._embedder.embed([text], model)
        except EmbedderFailed as failure:
            raise MeaningUnavailable(str(failure)) from failure
        vector: Vector = answer.vectors[0]
        kept[text, model] = vector
        return vector

    async def close(self) -> None:
        """Close the connections to the embedder."""
        if self._embedder is not None:
            await self._embedder.close()
