"""The examples of how-to pages, run as they are against a running server, or against real databases."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import httpx
import pytest

from server.embedded.binaries import POSTGRES, find_program
from server.schema.migrate import migrate
from tests.conftest import JWT_SECRET, AppServer, Cluster, ProjectMaker
from tests.docs.markdown import ROOT, Page
from tests.docs.test_examples import ADDRESS, STRICT
from tests.span_factory import make_span, store

HOW_TO = ROOT / "docs" / "how-to"
CLIENT = ROOT / "docs" / "clients" / "python"
# Erasure comes last, as it takes away what others ask for.
PAGES = (
    "how-to/budgets", "how-to/own-panel", "how-to/move-from-another-tool", "how-to/notebook", "clients/python",
    "reference/metrics", "reference/exports", "how-to/retention-and-erasure",
)  # fmt: skip


@dataclass(frozen=True)
class Shell:
    """A shell as the reader of a page has it."""

    folder: Path
    environment: dict[str, str]

    async def run(self, *command: str) -> str:
        """Run a command that must succeed; return its output."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, f"{command}\n{output}"
        return output


async def test_examples_of_how_to_pages_do_what_the_pages_say(
    app_server: AppServer, project: ProjectMaker, token: Callable[..., str], tmp_path: Path
) -> None:
    await project("demo")
    await project("demo-copy")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    priced = {"total_cost_usd": Decimal("0.375"), "cost_source": "computed", "model": "gpt-4.1"}
    spans = [make_span(trace_id=trace_id, **priced), *(make_span(user_id="user-1", **priced) for _ in range(3))]
    await store(app_server.services, "demo", spans)
    shell = Shell(
        tmp_path,
        {
            "TOKEN": token("developer", ["demo"]),
            "ADMIN": token("admin", ["demo"]),
            "PYTHONPATH": str(CLIENT),
            # As the server has them, for the commands that make a token themselves.
            "JWT_SECRET": JWT_SECRET,
            "OBSERVATORY_PORT": app_server.base_url.rpartition(":")[2],
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    outputs = {name: await _run_page(Page(ROOT / "docs" / f"{name}.md"), shell, app_server.base_url) for name in PAGES}
    assert outputs["how-to/own-panel"].count("1.5") >= 3, "the panel, PromQL and REST have the same sum"
    assert '"status_level":0' in outputs["how-to/budgets"]
    assert re.search(r'"deleted_traces":3,.*"is_complete":true', outputs["how-to/retention-and-erasure"])
    if find_spec("polars") and find_spec("pyarrow"):
        assert outputs["how-to/notebook"].count("gpt-4.1") >= 3
        assert outputs["clients/python"].count("gpt-4.1") >= 2
    assert '"duration_p95"' in outputs["reference/metrics"]
    assert outputs["reference/exports"].rstrip().endswith("}")
    assert '"state":"complete"' in outputs["reference/exports"]


# Page, the route that takes the first document in it, and its method.
DOCUMENTS = (
    ("reference/metrics.md", "POST", "/api/v1/metrics/query"),
    ("reference/trace-query.md", "POST", "/api/v1/traces/search"),
    ("reference/analytics.md", "PUT", "/api/v1/budgets/demo/of-the-page"),
)


@pytest.mark.parametrize(("page", "method", "path"), DOCUMENTS)
async def test_documents_of_pages_are_taken_as_they_are(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker,
    page: str, method: str, path: str,
) -> None:  # fmt: skip
    await project("demo")
    document = Page(ROOT / "docs" / page).examples("json")[0]
    answer = await client.request(method, path, json=json.loads(document), headers=bearer("admin", ["demo"]))
    assert answer.is_success, answer.text


async def _run_page(page: Page, shell: Shell, address: str) -> str:
    """Run the shell and Python examples of ``page`` in their order; return all that they print."""
    printed = []
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", page.text, re.MULTILINE | re.DOTALL):
        text = body.replace(ADDRESS, address)
        if language == "sh":
            printed.append(await shell.run("sh", "-c", STRICT + text))
        elif language == "python" and all(find_spec(name) for name in _imports(text)):
            file = shell.folder / "example.py"
            file.write_text(text)
            printed.append(await shell.run(sys.executable, str(file)))
    return "\n".join(printed)


def _imports(program: str) -> set[str]:
    """Return the packages that ``program`` needs, beyond the client itself."""
    named = set(re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE)) - {"llm_observatory_client"}
    return named | {name for name in ("pandas", "polars") if f"to_{name}" in program}


async def test_a_backup_restored_by_the_page_is_the_same_database(
    cluster: Cluster, database_name: str, owner_url: str, owner: asyncpg.Connection, app_server: AppServer,
    project: ProjectMaker, tmp_path: Path,
) -> None:  # fmt: skip
    await project("demo")
    now = datetime.now(UTC)
    await store(app_server.services, "demo", [make_span(ts=now, user_id="ada") for _ in range(20)])
    target = f"{database_name}_restored"
    await owner.execute(f"CREATE DATABASE {target}")
    target_url = cluster.url(target, "owner_url")
    shell = Shell(tmp_path, {"SOURCE": owner_url, "TARGET": target_url})
    examples = Page(HOW_TO / "backup-and-restore.md").examples("sh")
    programs = f"{find_program(POSTGRES).parent}:{Path(sys.executable).parent}"
    try:
        for example in examples:
            if "--no-acl" not in example and "createdb" not in example:
                await shell.run("sh", "-euc", f"export PATH={programs}:$PATH\n{example}")
        assert await migrate(target_url) == []
        restored = await asyncpg.connect(target_url)
        try:
            for table in ("llm_traces", "trace_summaries", "user_summaries", "schema_safeguards"):
                question = f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} AS t"
                assert await restored.fetchval(question) == await owner.fetchval(question), table
            # The wall holds: without a project the role of requests sees nothing.
            async with restored.transaction():
                await restored.execute("SET LOCAL ROLE observatory_api")
                assert await restored.fetchval("SELECT count(*) FROM llm_traces") == 0
        finally:
            await restored.close()
    finally:
        await owner.execute(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)")


def test_commands_of_how_to_pages_exist() -> None:
    from server.cli import make_parser

    for page in sorted(HOW_TO.rglob("*.md")):
        for block in Page(page).examples("console"):
            for words in re.findall(r"llm-observatory ((?:[a-z][a-z-]* ?)+)", block):
                first = words.split()[0]
                assert any(first in (action.choices or ()) for action in make_parser()._actions), (page, words)


pytestmark = pytest.mark.timeout(120)
