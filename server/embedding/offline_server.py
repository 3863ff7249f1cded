"""The offline model behind OpenAI's ``/embeddings``, on a Unix socket of this machine.

Texts are done in pieces of a few, and requests take turns between pieces: the text of a question does not wait for a
batch of stored ones.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from pathlib import Path
from typing import Any, Final

import orjson
from sanic import Request, Sanic
from sanic.config import Config
from sanic.response import HTTPResponse, raw

from server.embedding.offline_model import OfflineModel
from server.embedding_settings import OFFLINE_MODEL

PIECE: Final = 2
"""Texts of one turn: about 20 ms of long ones."""
MOST_TEXTS: Final = 4096


def offline_app(model: OfflineModel) -> Sanic[Any, Any]:
    """Return the application that serves ``model``."""
    app: Sanic[Any, Any] = Sanic(
        "llm_observatory_embedder", config=Config(env_prefix=""), configure_logging=False, strict_slashes=True
    )
    # Without what sanic-ext adds to every application that does not say so.
    app.config.update(AUTO_EXTEND=False, MOTD=False, ACCESS_LOG=False, OAS=False, FALLBACK_ERROR_FORMAT="json")
    turn = asyncio.Lock()

    @app.post("/embeddings")
    async def embeddings(request: Request) -> HTTPResponse:
        texts = _texts(request.body)
        if texts is None:
            return _refusal(400, "expected a model and a list of texts")
        if orjson.loads(request.body).get("model") != OFFLINE_MODEL:
            return _refusal(404, "another model")
        data = []
        for start in range(0, len(texts), PIECE):
            async with turn:
                vectors = await asyncio.to_thread(model.vectors, texts[start : start + PIECE])
            data += [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        found = [{"object": "embedding", "index": place, "embedding": text} for place, text in enumerate(data)]
        # Nothing is billed, so there are no tokens to count.
        document = {"object": "list", "model": OFFLINE_MODEL, "data": found, "usage": {"total_tokens": 0}}
        return raw(orjson.dumps(document), content_type="application/json")

    return app


def listen(path: str) -> socket.socket:
    """Return a socket that listens at ``path``, which only this account can open. One that was left there goes."""
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    Path(path).chmod(0o600)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _texts(body: bytes) -> list[str] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    texts = document.get("input") if isinstance(document, dict) else None
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not 1 <= len(texts) <= MOST_TEXTS:
        return None
    return texts if all(isinstance(text, str) for text in texts) else None


def _refusal(status: int, text: str) -> HTTPResponse:
    return raw(orjson.dumps({"error": {"message": text}}), status=status, content_type="application/json")
