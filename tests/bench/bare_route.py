"""A Sanic application that answers every request with the bytes of a file: the ceiling for a cached answer.

python -m tests.bench.bare_route FILE PORT
"""

from __future__ import annotations

import sys
from pathlib import Path

from sanic import HTTPResponse, Request, Sanic


def main() -> None:
    """Serve until told to stop."""
    body = Path(sys.argv[1]).read_bytes()
    app = Sanic("bare_route", configure_logging=False)
    app.config.update(MOTD=False, ACCESS_LOG=False)

    @app.get("/<path:path>")
    async def answer(_: Request, path: str) -> HTTPResponse:
        return HTTPResponse(body, content_type="application/json")

    app.run("127.0.0.1", int(sys.argv[2]), single_process=True)


if __name__ == "__main__":
    main()
