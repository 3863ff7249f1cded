"""The examples of README and quickstart do what the pages say, against a running server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from server.demo.otlp_export import encode
from server.demo.schedule import Schedule
from tests.conftest import AppServer, ProjectMaker
from tests.docs.markdown import ROOT, Page

ADDRESS = "http://127.0.0.1:8080"
README, QUICKSTART = Page(ROOT / "README.md"), Page(ROOT / "docs" / "quickstart.md")
KEYS = Page(ROOT / "docs" / "how-to" / "rotate-keys.md")
# Every curl of a page must succeed, without the page having to say so.
STRICT = 'set -eu\ncurl() { command curl --silent --show-error --fail-with-body "$@"; echo; }\n'


@dataclass(frozen=True)
class DemoServer:
    """A server with a day of the demo's traces, and tokens for it: a developer's and an admin's."""

    base_url: str
    token: str
    admin: str


@pytest.fixture
async def demo_server(app_server: AppServer, project: ProjectMaker, token: Callable[..., str]) -> DemoServer:
    """A server of the test's own."""
    await project("demo")
    credential = token("developer", ["demo"])
    schedule = Schedule(datetime.now(UTC), days=1, traces=40, seed=7)
    body = encode(trace for day in schedule.dates() for trace in schedule.day_traces(day))
    async with httpx.AsyncClient(base_url=app_server.base_url, timeout=30) as http:
        headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/x-protobuf"}
        assert (await http.post("/v1/traces", content=body, headers=headers)).status_code == 200
    return DemoServer(app_server.base_url, credential, token("admin", ["demo"]))


async def run(server: DemoServer, *command: str) -> str:
    """Run a command that must succeed, with the tokens in its environment; return its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": os.environ["PATH"], "TOKEN": server.token, "ADMIN": server.admin},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("page", [README, QUICKSTART, KEYS], ids=str)
async def test_shell_examples_get_an_answer(demo_server: DemoServer, page: Page) -> None:
    examples = page.examples("sh")
    assert examples
    for example in examples:
        output = await run(demo_server, "sh", "-c", STRICT + example.replace(ADDRESS, demo_server.base_url))
        assert output.count('"status":"success"') == example.count("/api/v1/")


async def test_the_first_span_of_the_readme_is_stored_and_priced(demo_server: DemoServer) -> None:
    example = next(text for text in README.examples("sh") if "/v1/traces -H" in text)
    assert "\n".join(example.splitlines()[1:-1]).count("\n") < 5, "a first span in five lines"
    await run(demo_server, "sh", "-c", STRICT + example.replace(ADDRESS, demo_server.base_url))
    async with httpx.AsyncClient(base_url=demo_server.base_url) as http:
        answer = await http.get(
            "/api/v1/traces",
            params={"span_name": "my first span"},
            headers={"Authorization": f"Bearer {demo_server.token}"},
        )
    (row,) = answer.json()["data"]
    assert (row["model"], row["prompt_tokens"]) == ("gpt-4.1-mini", 1200)
    assert row["total_cost_usd"] > 0


async def test_the_span_of_the_quickstart_is_in_the_next_answer(demo_server: DemoServer, tmp_path: Path) -> None:
    (example,) = QUICKSTART.examples("python")
    script = tmp_path / "send.py"
    script.write_text(example.replace(ADDRESS, demo_server.base_url))
    await run(demo_server, sys.executable, str(script))
    async with httpx.AsyncClient(base_url=demo_server.base_url) as http:
        answer = await http.get(
            "/api/v1/traces",
            params={"service": "my-first-service"},
            headers={"Authorization": f"Bearer {demo_server.token}"},
        )
    (row,) = answer.json()["data"]
    assert (row["model"], row["total_tokens"]) == ("gpt-4.1-mini", 1500)
    assert row["total_cost_usd"] > 0
