"""Which processes run beside the servers, and what they share with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from server.process.companion import Companion
from server.settings import Settings

EMBEDDING = "server.process.embedding_process"


@contextmanager
def companions_of(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[list[Companion], dict[str, str]]]:
    """Provide the companions that ``settings`` ask for, and the environment of theirs and of the servers."""
    if settings.semantic == "off":
        yield [], dict(environ)
        return
    with TemporaryDirectory(prefix="llm-observatory-embedder-") as folder:
        place = settings.embedder_socket or str(Path(folder) / "socket")
        yield [Companion(EMBEDDING)], {**environ, "OBSERVATORY_EMBEDDER_SOCKET": place}
