"""``llm-observatory tail`` and ``export`` against a running server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from server import cli
from server.commands import live_client
from server.http import file_stream
from tests.conftest import AppServer
from tests.live.conftest import store_live
from tests.span_factory import make_span


@pytest.fixture
async def arguments(app_server: AppServer, project: Any, token: Any, tmp_path: Path) -> list[str]:
    """Where the server is, and with which token."""
    await project("alpha")
    (tmp_path / "token").write_text(token("developer", ["alpha"]) + "\n")
    return ["--project", "alpha", "--url", app_server.base_url, "--token-file", str(tmp_path / "token")]


async def run(*words: str) -> int:
    """Run a command beside the server; return its exit code."""
    return await asyncio.to_thread(cli.main, words)


async def test_tail_prints_what_is_stored_and_goes_on_after_a_lost_connection(
    app_server: AppServer, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_client, "RECONNECT_SECONDS", 0.1)
    command = asyncio.create_task(run("tail", *arguments, "model=gpt-4o", "--json", "--count", "3"))
    spans = [make_span() for _ in range(3)]
    live = app_server.services.live

    async def watched() -> None:
        async with asyncio.timeout(10):
            while not any(stream.last_id for stream in live.streams):
                await asyncio.sleep(0.02)

    async with asyncio.timeout(10):
        while not live.streams:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    await store_live(app_server.services, "alpha", spans[0], make_span(model="o3"))
    await watched()
    for stream in live.streams:
        stream._abort()  # the connection breaks
    await store_live(app_server.services, "alpha", *spans[1:])
    assert await asyncio.wait_for(command, 20) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["span_id"] for line in printed.out.splitlines()] == [span.span_id for span in spans]
    assert "connection lost" in printed.err


def test_a_line_shows_the_figures_and_nothing_that_a_terminal_would_obey() -> None:
    row = {
        "ts": "2026-11-28T10:11:12.131415Z",
        "model": "gpt-4o",
        "duration_ms": 1234.5,
        "total_tokens": 99,
        "total_cost_usd": 0.5,
        "span_name": "\x1b[2Jchat\n",
        "status_code": "ERROR",
        "trace_id": "a" * 32,
    }
    line = live_client.line_of(row, "update", coloured=False)
    assert line.startswith("10:11:12.131~ ERROR gpt-4o")
    assert "1,234 ms" in line
    assert "$0.500000" in line
    assert "?[2Jchat?" in line
    coloured = live_client.line_of(row, "span", coloured=True)
    assert coloured.count("\x1b[") == 4


async def test_export_writes_a_whole_file_also_when_the_stream_breaks_off(
    app_server: AppServer,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans = [make_span() for _ in range(200)]
    await store_live(app_server.services, "alpha", *spans)
    send, sent = file_stream.FileStream.send, 0

    async def breaks_off(self: file_stream.FileStream, data: bytes) -> None:
        nonlocal sent
        sent += 1
        if sent == 2:
            await send(self, data[:100])
            raise TimeoutError
        await send(self, data)

    monkeypatch.setattr(file_stream.FileStream, "send", breaks_off)
    output = tmp_path / "spans.csv"
    assert await run("export", *arguments, "--output", str(output), "--format", "csv", "fields=core") == 0
    lines = output.read_text().splitlines()
    assert len(lines) == 201
    assert len({line.split(",")[2] for line in lines}) == 201
    assert "going on" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.unfinished"))


async def test_what_the_server_refuses_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert await run("tail", *arguments, "limit=1") == 1
    assert await run("tail", *arguments, "limit") == 1
    said = capsys.readouterr().err
    assert "limit" in said
    assert "is not NAME=VALUE" in said


@pytest.mark.parametrize("command", [["export", "--output", "out"], ["tail"]])
def test_a_server_that_does_not_answer_is_named(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("x" * 40)
    address = ["--project", "alpha", "--url", "http://127.0.0.1:9", "--token-file", str(tmp_path / "token")]
    assert cli.main([*command, *address]) == 1
    assert "no answer from http://127.0.0.1:9 (" in capsys.readouterr().err


# Words after "export", and what is said of them.
REFUSED_EXPORTS = (
    ("limit=5", "limit: an export has every row"),
    ("total=exact", "total: an export has every row"),
    ("cursor=abc", "cursor: an export has every row"),
    ("format=csv", "format is no FILTER: --format names"),
    ("project_id=beta", "project_id is no FILTER: --project names"),
    ("after=abc", "after is no FILTER: "),
    ("nonsense=5", "nonsense: unknown"),
    ("--format=xml", "format: expected one of ndjson"),
    ("--output=.", ". is a folder: --output names a file"),
    ("--output=nowhere/x", "nowhere/x.unfinished: No such file or directory"),
    ("--url=localhost:8080", "--url begins with http:// or https://, unlike 'localhost:8080'"),
    ("--token-file=none", "none: No such file or directory"),
    ("--token-file=empty", "empty is not a file with one access token or API key"),
    ("--token-file=lines", "lines is not a file with one access token or API key"),
)


@pytest.mark.parametrize(("word", "said"), REFUSED_EXPORTS)
async def test_a_wrong_export_is_explained_and_leaves_no_file(
    word: str, said: str, arguments: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("a\nb\n")
    before = sorted(tmp_path.iterdir())
    assert await run("export", *arguments, "--output", "spans.ndjson", word) == 1
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_tail_has_no_negative_count(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["tail", "--project", "alpha", "--count", "-1"])
    assert "'-1' is not a whole number" in capsys.readouterr().err
