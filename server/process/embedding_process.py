"""The process that makes vectors: ``python -m server.process.embedding_process LIFELINE``.

It runs the background work of search by meaning and, with ``OBSERVATORY_SEMANTIC=offline``, the model, below the
priority of the servers. The supervisor starts it; the end of the lifeline means that the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from datetime import UTC, datetime
from typing import Any, Final

import uvloop

from server.embedding.embedder import Embedder, open_embedder
from server.embedding.offline_model import OfflineModel, OfflineModelMissing
from server.embedding.offline_server import listen, offline_app
from server.ingest.pricing.price_catalog import price_catalog
from server.process.stop_signal import stop_event
from server.semantic.token_budget import TokenBudget
from server.semantic.vector_indexer import VectorIndexer
from server.settings import Settings, SettingsError, load_settings
from server.storage.database import Database
from server.telemetry import logs, observations, prometheus
from server.terminal.output import say

NICENESS: Final = 15
PATIENCE: Final = 6.0
"""A batch of stored texts may take so many times as long as a question."""


async def serve(settings: Settings, lifeline: socket.socket) -> None:
    """Work until told to stop."""
    stop = stop_event(lifeline)
    server = await _serve_model(settings) if settings.semantic == "offline" else None
    embedder = open_embedder(settings, patience=PATIENCE)
    if embedder is None:
        raise SettingsError("OBSERVATORY_SEMANTIC is endpoint, and EMBEDDINGS_URL is not set")
    pools = [
        _pool(settings, settings.database_url, "observatory_api"),
        _pool(settings, settings.database_url, "observatory_api"),
        _pool(settings, settings.worker_url, "observatory_worker"),
    ]
    for pool in pools:
        await pool.open()
    reads, writes, worker = pools
    indexer = make_indexer(settings, reads, writes, worker, embedder)
    indexer.task.start()
    await stop.wait()
    await indexer.task.stop()
    await embedder.close()
    for pool in pools:
        await pool.close()
    if server is not None:
        await server.close()


def make_indexer(
    settings: Settings, reads: Database, writes: Database, worker: Database, embedder: Embedder
) -> VectorIndexer:
    """Return the background work with what ``settings`` say."""
    return VectorIndexer(
        reads,
        writes,
        worker,
        embedder,
        model=settings.embedding_model,
        batch=settings.embeddings_batch,
        budget=TokenBudget(0 if settings.semantic == "offline" else settings.embeddings_tokens_per_minute),
        price=price_per_million(settings),
    )


def price_per_million(settings: Settings) -> float:
    """Return the US dollars that a million tokens cost: as set, or by the catalogue; 0 for nothing or unknown."""
    if settings.semantic == "offline":
        return 0.0
    if settings.embeddings_price:
        return settings.embeddings_price
    card = price_catalog().card(None, settings.embeddings_model, datetime.now(UTC))
    return 0.0 if card is None else float(card.band(1).prompt * 1_000_000)


def _pool(settings: Settings, url: str, role: str) -> Database:
    return Database(
        url,
        role=role,
        size=2,
        acquire_timeout=10.0,
        statement_timeout=60.0,
        application_name="llm-observatory embedding",
        distribution=settings.database_distribution,
    )


async def _serve_model(settings: Settings) -> Any:
    app = offline_app(await asyncio.to_thread(OfflineModel))
    server: Any = await app.create_server(sock=listen(settings.embedder_socket), return_asyncio_server=True)
    await server.startup()
    await server.start_serving()
    return server


def main(arguments: list[str]) -> None:
    """Run the entry point."""
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    observations.subscribe(prometheus.record)
    observations.subscribe(logs.log)
    os.nice(NICENESS)
    lifeline = socket.socket(fileno=int(arguments[0]))
    lifeline.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(settings, lifeline))
        except (SettingsError, OfflineModelMissing) as unusable:
            say(f"no search by meaning: {unusable}")
            sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main(sys.argv[1:])
