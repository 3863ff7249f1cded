"""The settings of docs/how-to/agents.md are read as each agent reads them, and open the server's tools."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable

import httpx
import pytest

from server.mcp.tools import TOOLS
from tests.conftest import AppServer, ProjectMaker
from tests.docs.markdown import ROOT, Page
from tests.mcp.test_mcp import agent

PAGE = Page(ROOT / "docs" / "how-to" / "agents.md")
ADDRESS = "https://llm.example.org"
Connection = tuple[str, dict[str, str]]
"""Address of the server, and headers with names of variables in them."""


def claude_code() -> Connection:
    """Read the command that adds a server."""
    words = shlex.split(PAGE.examples("sh")[1].replace("\\\n", ""))
    assert words[:5] == ["claude", "mcp", "add", "--transport", "http"]
    _, address, option, header = words[5:]
    assert option == "--header"
    name, _, value = header.partition(": ")
    return address, {name: value.replace("$LLM_OBSERVATORY_KEY", "KEY")}


def codex() -> Connection:
    """Read the table of a server; Codex sends the variable as a bearer token."""
    (server,) = tomllib.loads(PAGE.examples("toml")[0])["mcp_servers"].values()
    assert server["bearer_token_env_var"] == "LLM_OBSERVATORY_KEY"
    return server["url"], {"Authorization": "Bearer KEY"}


def cursor() -> Connection:
    """Read the servers of Cursor, which replaces variables of the environment."""
    (server,) = json.loads(PAGE.examples("json")[0])["mcpServers"].values()
    return server["url"], {
        name: value.replace("${env:LLM_OBSERVATORY_KEY}", "KEY") for name, value in server["headers"].items()
    }


def vs_code() -> Connection:
    """Read the servers of VS Code, which replaces answers to its questions."""
    document = json.loads(PAGE.examples("json")[1])
    (server,) = document["servers"].values()
    (question,) = document["inputs"]
    assert (server["type"], question["password"]) == ("http", True)
    wanted = f"${{input:{question['id']}}}"
    return server["url"], {name: value.replace(wanted, "KEY") for name, value in server["headers"].items()}


@pytest.mark.parametrize("read", [claude_code, codex, cursor, vs_code])
async def test_each_agent_finds_the_tools(
    read: Callable[[], Connection], app_server: AppServer, client: httpx.AsyncClient, project: ProjectMaker,
    bearer: Callable[..., dict[str, str]],
) -> None:  # fmt: skip
    await project("shop")
    (kind,) = re.findall(r"key create --kind (\w+) --project shop", PAGE.examples("sh")[0])
    wanted = {"label": "agent", "kind": kind, "projects": ["shop"]}
    made = await client.post("/api/v1/keys", json=wanted, headers=bearer("admin", ["*"]))
    assert made.status_code == 201, made.text
    address, headers = read()
    assert address == f"{ADDRESS}/mcp"
    key = made.json()["data"]["key"]
    async with agent(app_server, {name: value.replace("KEY", key) for name, value in headers.items()}) as session:
        found = await session.list_tools()
        assert {tool.name for tool in found.tools} == set(TOOLS)
        answer = await session.call_tool("query_metrics", {"metric": "calls"})
        assert not answer.is_error, answer
