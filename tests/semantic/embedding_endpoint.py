"""An embedder for tests: a real HTTP endpoint in the form of OpenAI's, with vectors that mean something.

A word stands for a concept, whatever the language; a text's vector is the sum of its concepts' directions, which are
fixed. So texts that share concepts are near, and every run has the same vectors.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 64
CONCEPTS = {
    "money": ("money", "geld", "argent", "dinero", "refund", "rückerstattung", "remboursement", "refunded"),
    "angry": ("angry", "wütend", "fâché", "furious", "upset"),
    "weather": ("weather", "wetter", "météo", "rain", "regen", "sunny"),
    "password": ("password", "passwort", "login", "kennwort"),
    "recipe": ("recipe", "rezept", "recette", "soup", "suppe"),
}
_CONCEPT_OF = {word: concept for concept, words in CONCEPTS.items() for word in words}


def direction(name: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)


def vector_of(text: str, model: str) -> NDArray[np.float32]:
    """Return the vector of ``text``, in which a concept weighs five times as much as another word."""
    total = direction(model) * np.float32(0.01)
    for word in re.findall(r"\w+", text.lower()):
        concept = _CONCEPT_OF.get(word)
        total += direction(f"{model} {concept}") * 5 if concept else direction(f"{model} {word}")
    return total


@dataclass
class EmbeddingEndpoint:
    """The running endpoint, what it was asked, and how it shall behave."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    failures: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    """Answers that come first: status, headers, body."""
    refused: str = ""
    """A text that holds this is answered with 400."""
    known_models: set[str] | None = None
    as_lists: bool = False
    longest: int = DIMENSIONS
    """Elements of vectors, at most."""
    hold: threading.Event = field(default_factory=threading.Event)
    """While it is set, requests wait."""

    def answer(self, body: dict[str, Any], key: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(body)
        self.keys.append(key)
        if self.failures:
            return self.failures.pop(0)
        if self.known_models is not None and body["model"] not in self.known_models:
            return 404, {}, b'{"error":{"message":"no such model"}}'
        if self.refused and any(self.refused in text for text in body["input"]):
            return 400, {}, b'{"error":{"message":"too long"}}'
        data = []
        for place, text in enumerate(body["input"]):
            vector = vector_of(text, body["model"])[: body.get("dimensions", self.longest)]
            shown = [float(x) for x in vector] if self.as_lists else base64.b64encode(vector.tobytes()).decode()
            data.append({"object": "embedding", "index": place, "embedding": shown})
        data.reverse()  # an endpoint may answer in any order
        tokens = sum(len(text.split()) for text in body["input"])
        document = {"data": data, "model": body["model"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        return 200, {}, json.dumps(document).encode()

    @property
    def texts(self) -> list[str]:
        return [text for request in self.requests for text in request["input"]]


@contextmanager
def running_endpoint() -> Iterator[EmbeddingEndpoint]:
    endpoint = EmbeddingEndpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/embeddings"
            while endpoint.hold.is_set():
                time.sleep(0.01)
            status, headers, content = endpoint.answer(body, self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # who waited in vain is gone
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
