"""The settings of search by meaning: a part of the table of :mod:`server.settings`, which has them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from server.text.setting_values import address, between, one_of, setting, whole

OFFLINE_MODEL: Final = "offline/use-multilingual-3"
DIMENSIONS_SIGN: Final = "#"
"""Between a model and the length of its vectors, in the name under which vectors are kept."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """Which vectors are made, by whom, and for how much; see docs/reference/semantic-search.md."""

    semantic: str = setting(
        "OBSERVATORY_SEMANTIC",
        "off",
        "Who makes vectors for search by meaning: `off`, `offline` (the model of the extra `semantic`; nothing leaves "
        "the machine) or `endpoint` (texts are sent to `EMBEDDINGS_URL`).",
        parse=one_of("off", "offline", "endpoint"),
    )
    embeddings_url: str = setting(
        "EMBEDDINGS_URL",
        "",
        "Base of an API with OpenAI's `/embeddings`, as `https://api.openai.com/v1`.",
        parse=address("https", "http"),
    )
    embeddings_key: str = setting("EMBEDDINGS_API_KEY", "", "Its API key, sent as a bearer token.", secret=True)
    embeddings_model: str = setting(
        "EMBEDDINGS_MODEL",
        "text-embedding-3-small",
        "The model to ask it for. Another one: stored vectors are made again in the background.",
    )
    embeddings_dimensions: int = setting(
        "EMBEDDINGS_DIMENSIONS",
        0,
        "Length of the vectors to ask it for, where the model offers several. 0: the model's own.",
        parse=whole(0, 4096),
    )
    embeddings_timeout: float = setting(
        "EMBEDDINGS_TIMEOUT",
        5.0,
        "Longest wait for the vector of a question; stored texts get six times as long.",
        parse=between(0.1, 300),
    )
    embeddings_batch: int = setting(
        "EMBEDDINGS_BATCH", 64, "Texts in one request to the embedder.", parse=whole(1, 2048)
    )
    embeddings_tokens_per_minute: int = setting(
        "EMBEDDINGS_TOKENS_PER_MINUTE",
        1_000_000,
        "Budget for stored texts: once it is used up, the background work waits for the next minute. 0: none.",
        parse=whole(0, 10_000_000_000),
    )
    embeddings_price: float = setting(
        "EMBEDDINGS_USD_PER_MTOK",
        0.0,
        "What a million tokens cost, for `observatory_embedding_cost_usd_total` of /metrics. 0: the catalogue's price.",
        parse=between(0, 1000),
    )
    embedder_socket: str = setting(
        "OBSERVATORY_EMBEDDER_SOCKET",
        "",
        "Unix socket of the offline model. Empty: `serve` makes one.",
    )
    semantic_most_rows: int = setting(
        "OBSERVATORY_SEMANTIC_MOST_ROWS",
        500_000,
        "Vectors of a project that one question looks at, the newest of its range.",
        parse=whole(1000, 100_000_000),
    )
    semantic_memory: int = setting(
        "OBSERVATORY_SEMANTIC_MEMORY",
        64 * 1024 * 1024,
        "Bytes per process in which it keeps what a search by meaning compares first, about 170 a vector: what is kept "
        "needs not be read again. 0: nothing is kept.",
        parse=whole(0, 64 * 1024**3),
    )

    @property
    def embedding_model(self) -> str:
        """Name of the model that vectors are made with now."""
        if self.semantic != "endpoint":
            return OFFLINE_MODEL
        return self.embeddings_model + (
            f"{DIMENSIONS_SIGN}{self.embeddings_dimensions}" if self.embeddings_dimensions else ""
        )
