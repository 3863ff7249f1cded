"""Questions without the marks that only a superuser can set: ``make bench-leakproof`` (ARGS="--spans 500000").

Under row-level security PostgreSQL uses an index for text search, tags and money only if the comparing functions are
marked LEAKPROOF (docs/how-to/deploy.md). On a managed service nobody can mark them. One client asks each question of
one server and one database with the marks, without, and so on in turns; the medians of all turns are beside each
other. Each request asks for another end of its range, so that no answer is remembered.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import statistics
import tempfile
import time
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Final

import asyncpg
import orjson

from server.access.access_token import issue_token
from server.access.principal import Role
from server.embedded import EmbeddedServices, EmbeddedUrls
from server.settings import Settings
from tests.bench.http_load import LoadConnection
from tests.bench.load import PROJECT, load
from tests.bench.server_process import serve_environment
from tests.process.program import Program, run

DAY_MS: Final = 86_400_000
TURNS: Final = 6


def marked_functions() -> list[str]:
    """Return the functions that migrations mark, with the types of their arguments."""
    schema = (files("server.schema") / "0002_spans.sql").read_text(encoding="utf-8")
    return re.findall(r"ALTER FUNCTION (\S+\([^)]*\)) LEAKPROOF", schema)


async def questions(base_url: str, headers: dict[str, str]) -> dict[str, str]:
    """Return the parameters of each question by its name."""
    async with LoadConnection(base_url, headers) as connection:
        _, body = await connection.get("/api/v1/facets/tags?from=now-30d&limit=1")
        tag = orjson.loads(body)["data"][0]["value"]
        _, body = await connection.get("/api/v1/traces?from=now-1d&limit=1&sort_by=cost&fields=all")
        dearest = float(orjson.loads(body)["data"][0]["total_cost_usd"])
    return {
        "list of 50, newest": "",
        "search, common word": "search=b*",
        "search, no hit": "search=nosuchword",
        "one tag": f"tags={tag}",
        "a tag that nobody has": "tags=nosuchtag",
        "cost above nearly all": f"min_cost={dearest * 0.98:.6f}",
        "cost above all": f"min_cost={dearest * 10:.6f}",
        "most expensive": "sort_by=cost",
    }


async def measure(base_url: str, urls: EmbeddedUrls, seconds: float) -> None:
    """Print the table."""
    settings = Settings(jwt_secret=urls.jwt_secret)
    headers = {"Authorization": f"Bearer {issue_token(settings, role=Role.ADMIN, projects=[PROJECT])}"}
    owner = await asyncpg.connect(urls.owner_url)
    shifts, end = itertools.count(), int(datetime.now(UTC).timestamp() * 1000)
    print("| question | with marks | without | ratio |\n|---|---|---|---|")
    for name, parameters in (await questions(base_url, headers)).items():
        times: dict[str, list[float]] = {"": [], "NOT ": []}
        for turn in range(TURNS):
            for word, taken in times.items():
                for function in marked_functions():
                    await owner.execute(f"ALTER FUNCTION {function} {word}LEAKPROOF")
                deadline = time.perf_counter() + seconds / TURNS
                async with LoadConnection(base_url, headers) as connection:
                    while time.perf_counter() < deadline:
                        to = end - next(shifts)
                        begun = time.perf_counter()
                        status, body = await connection.get(
                            f"/api/v1/traces?from={to - 30 * DAY_MS}&to={to}&{parameters}".rstrip("&")
                        )
                        if status != 200:
                            raise RuntimeError(f"the server answered {status}: {body[:300]!r}")
                        if turn:  # the first one fills caches
                            taken.append(time.perf_counter() - begun)
        marked, plain = (statistics.median(taken) * 1000 for taken in times.values())
        print(f"| {name} | {marked:.1f} ms | {plain:.1f} ms | {plain / marked:.1f} |", flush=True)
    await owner.close()


def main() -> None:
    """Fill a database, serve it and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=3, help="with marks and without, for each question")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="observatory-bench-") as name:
        Path(name).chmod(0o755)
        with EmbeddedServices(Path(name) / "data") as urls:
            environment = serve_environment(urls)
            run("migrate", settings=environment).check_returncode()
            asyncio.run(load(urls.owner_url, arguments.spans))
            with Program(Path(name), ["serve", "--workers", "1"], environment) as program:
                program.wait_for("serving on http", seconds=90)
                program.wait_until_serving()
                asyncio.run(measure(program.base_url, urls, arguments.seconds))


if __name__ == "__main__":
    main()
