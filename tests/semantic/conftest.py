"""A server with an embedder, and the background work run by hand, to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from server.embedding.embedder import open_embedder
from server.http.services import Services
from server.semantic.token_budget import TokenBudget
from server.semantic.vector_indexer import VectorIndexer
from server.settings import Settings
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.semantic.conversations import NOW, EmbedAll, spoken
from tests.semantic.embedding_endpoint import EmbeddingEndpoint, running_endpoint
from tests.span_factory import make_span, store

IndexerMaker = Callable[..., VectorIndexer]


@pytest.fixture
def endpoint() -> Iterator[EmbeddingEndpoint]:
    with running_endpoint() as running:
        yield running


@pytest.fixture
def settings(settings: Settings, endpoint: EmbeddingEndpoint) -> Settings:
    return replace(
        settings,
        semantic="endpoint",
        embeddings_url=endpoint.url,
        embeddings_key="sk-test",
        embeddings_model="words-1",
        embeddings_timeout=30.0,
    )


@pytest.fixture
async def server(start_app: AppFactory) -> AppServer:
    return await start_app()


@pytest.fixture
def make_indexer(settings: Settings) -> IndexerMaker:
    """The background work over the pools of a server."""

    def make(services: Services, **changes: Any) -> VectorIndexer:
        changed = replace(settings, **{name: changes.pop(name) for name in list(changes) if name in vars(settings)})
        embedder = open_embedder(changed)
        assert embedder is not None
        return VectorIndexer(
            services.reads,
            services.writes,
            services.worker,
            embedder,
            **{"model": changed.embedding_model, "batch": 8, "budget": TokenBudget(0), **changes},
        )

    return make


@pytest.fixture
async def embed_all(server: AppServer, make_indexer: IndexerMaker) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Does all work that there is."""
    indexer = make_indexer(server.services)

    async def run() -> None:
        while await indexer.step():
            pass

    yield run
    await indexer._embedder.close()


@pytest.fixture
async def http(server: AppServer, bearer: Callable[..., dict[str, str]]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.base_url, timeout=30, headers=bearer()) as client:
        yield client


@pytest.fixture
async def corpus(server: AppServer, project: ProjectMaker, embed_all: EmbedAll) -> dict[str, Any]:
    await project("alpha")
    await project("beta")
    spans = {
        "angry": spoken("Ich bin wütend und will mein Geld", "Es tut uns leid", model="gpt-4o", user_id="u1"),
        "polite": spoken("A refund please", "Certainly", model="o1", ts=NOW + timedelta(seconds=1)),
        "rain": spoken("Wird es Regen geben?", "Das Wetter bleibt schön", ts=NOW + timedelta(seconds=2)),
        "soup": spoken("une recette", "Voici une soup", ts=NOW + timedelta(seconds=3)),
        "login": spoken("my password is gone", "use the login page", ts=NOW + timedelta(seconds=4)),
        "tool": make_span(ts=NOW, operation_type="tool", input_text="money refund angry", output_text="money"),
        "silent": make_span(ts=NOW),
    }
    await store(server.services, "alpha", list(spans.values()))
    await store(server.services, "beta", [spoken("angry money of a neighbour", ts=NOW)])
    await embed_all()
    return spans
