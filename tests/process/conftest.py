"""Settings for the program as a process, on the services of this test run."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.settings import Settings
from tests.process.program import Program


@pytest.fixture
def serve_settings(settings: Settings) -> dict[str, str]:
    """The environment of a server on this test's database, on a free port."""
    return {
        "DATABASE_URL": settings.database_url,
        "DATABASE_OWNER_URL": settings.database_owner_url,
        "DATABASE_WORKER_URL": settings.database_worker_url,
        "REDIS_URL": settings.redis_url,
        "JWT_SECRET": settings.jwt_secret,
        "OBSERVATORY_PORT": "0",
        "LOG_FORMAT": "text",
    }


Starter = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path, serve_settings: dict[str, str]) -> Iterator[Starter]:
    """Starts ``serve`` with arguments and settings of a test and waits until it serves.

    It runs in a directory with a package of somebody else that has the name of ours.
    """
    elsewhere = tmp_path / "elsewhere" / "server"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text('raise SystemExit("a server of somebody else")')
    running: list[Program] = []

    def make(*arguments: str, **changes: str) -> Program:
        program = Program(tmp_path, ["serve", *arguments], {**serve_settings, **changes}, cwd=elsewhere.parent)
        running.append(program)
        program.wait_until_serving()
        return program

    yield make
    for program in running:
        program.__exit__(None, None, None)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
