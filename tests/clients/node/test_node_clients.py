"""The TypeScript client, the Postman collection and the API description under the tools of their users.

Needs Node and ``make test-clients``, which installs them; skipped without.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.rest.openapi.examples import PROJECT, SPAN_ID, TRACE_ID
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.docs.markdown import Page
from tests.docs.test_examples import ADDRESS
from tests.span_factory import make_span, store

HERE = Path(__file__).parent
TOOLS = HERE / "node_modules" / ".bin"
CLIENTS = HERE.parents[2] / "docs" / "clients"
pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="needs Node: make test-clients installs the tools")


async def run(*command: str | Path, folder: Path) -> str:
    """Return the output of a tool that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")[-6000:]
    return output.decode(errors="replace")


@pytest.fixture
async def server(start_app: AppFactory, project: ProjectMaker, tmp_path: Path) -> AppServer:
    """A server with the things that the examples name."""
    await project(PROJECT)
    server = await start_app(export_url=(tmp_path / "exports").as_uri())
    now = datetime.now(UTC)
    spans = [
        make_span(
            ts=now - timedelta(days=n),
            trace_id=TRACE_ID if n == 0 else f"{n:032x}",
            span_id=SPAN_ID,
            session_id="conversation-1",
            user_id="user-1",
            model=f"m{n % 2}",
            total_cost_usd=1,
            cost_source="computed",
        )
        for n in range(10)
    ]
    spans.append(make_span(ts=now, trace_id="e" * 32, user_id="user-2"))
    recent = [make_span(ts=now - timedelta(minutes=n), span_id=f"{n + 1:016x}", model="m1") for n in range(4)]
    await store(server.services, PROJECT, spans + recent)
    return server


@pytest.fixture
async def description(server: AppServer, tmp_path: Path) -> Path:
    """The API description as a file."""
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        (tmp_path / "openapi.json").write_bytes((await http.get("/openapi.json")).content)
    return tmp_path / "openapi.json"


async def test_the_description_is_without_warning(description: Path) -> None:
    shutil.copy(HERE / ".redocly.lint-ignore.yaml", description.parent)
    output = await run(TOOLS / "redocly", "lint", "--max-problems=20", description.name, folder=description.parent)
    assert "warning" not in output.lower().replace("deprecation warning", ""), output


async def test_the_typescript_client_type_checks_and_works_as_both_kinds_of_module(
    server: AppServer, description: Path, tmp_path: Path, token: Callable[..., str]
) -> None:
    package = tmp_path / "package"
    shutil.copytree(CLIENTS / "typescript", package, ignore=shutil.ignore_patterns("node_modules", "schema.*"))
    await run(TOOLS / "openapi-typescript", description, "-o", package / "src" / "schema.ts", folder=package)
    await run(TOOLS / "tsc", "-p", "tsconfig.json", folder=package)
    await run(TOOLS / "tsc", "-p", "tsconfig.cjs.json", folder=package)
    (package / "dist" / "cjs" / "package.json").write_text('{"type": "commonjs"}')
    credential = token("developer", [PROJECT])
    output = await run("node", HERE / "use.mjs", package / "dist", server.base_url, credential, folder=package)
    seen: dict[str, Any] = json.loads(output.splitlines()[-1])
    for kind in ("esm", "cjs"):
        assert len(seen[kind]["ids"]) == 6
        assert seen[kind] | {"ids": []} == {
            "ids": [], "searched": 5, "asked": ["meaning_unavailable", "trace_not_found"],
            "code": "trace_not_found", "calls": 6, "first": "heartbeat",
        }  # fmt: skip
    assert (seen["attempts"], seen["sent"]) == (3, 1)


async def test_the_page_of_the_typescript_client_does_what_it_says(
    server: AppServer, tmp_path: Path, token: Callable[..., str]
) -> None:
    page = Page(CLIENTS / "typescript.md")
    package = tmp_path / "docs" / "clients" / "typescript"
    shutil.copytree(CLIENTS / "typescript", package, ignore=shutil.ignore_patterns("node_modules", "schema.*"))
    (commands,), (program,) = page.examples("sh"), page.examples("ts")
    await run("sh", "-euc", commands.replace(ADDRESS, server.base_url), folder=tmp_path)
    # As a program beside it: the package finds itself by its name. @types/node would declare process.
    declared = "declare const process: { env: Record<string, string | undefined> };\n"
    (package / "page.mts").write_text(declared + program.replace(ADDRESS, server.base_url))
    compile_page = ("--module", "nodenext", "--target", "es2022", "--strict", "--lib", "es2022,dom,dom.asynciterable")
    await run(package / "node_modules" / ".bin" / "tsc", *compile_page, "page.mts", folder=package)
    credential = token("developer", [PROJECT])
    printed = await run("env", f"TOKEN={credential}", "node", "page.mjs", folder=package)
    assert "name: 'cost'" in printed or "metric: 'cost'" in printed, printed


async def test_newman_runs_the_whole_postman_collection(
    server: AppServer, tmp_path: Path, token: Callable[..., str]
) -> None:
    postman = CLIENTS / "postman"
    report = tmp_path / "report.json"
    await run(
        TOOLS / "newman", "run", postman / "collection.json", "-e", postman / "environment.json",
        "--env-var", f"base_url={server.base_url}", "--env-var", f"token={token('admin', ['*'])}",
        "--reporters", "json", "--reporter-json-export", report, "--timeout-request", "60000",
        folder=tmp_path,
    )  # fmt: skip
    stats = json.loads(report.read_text())["run"]["stats"]
    assert stats["assertions"]["failed"] == 0
    assert stats["requests"]["total"] >= sum(
        len(folder["item"]) for folder in json.loads((postman / "collection.json").read_text())["item"]
    )
