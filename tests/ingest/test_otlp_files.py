"""``llm-observatory ingest``: files of every form end as the same rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from server.commands.file_ingest import FileProgress, ingest_files
from server.commands.otlp_files import FileIngestError, read_requests
from tests.conftest import AppServer, ProjectMaker
from tests.ingest.otlp_payloads import as_json, export_request

Writer = Callable[[Path], Any]


def one_document(path: Path) -> None:
    path.write_text(json.dumps(json.loads(as_json(export_request(30))), indent=2))


def lines(path: Path) -> None:
    path.write_bytes(b"\n".join(as_json(export_request(10)) for _ in range(3)) + b"\n")


def zipped_lines(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\n".join(as_json(export_request(10)) for _ in range(3))))


def one_message(path: Path) -> None:
    path.write_bytes(export_request(30).SerializeToString())


def prefixed_messages(path: Path) -> None:
    bodies = [export_request(10).SerializeToString() for _ in range(3)]
    path.write_bytes(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))


@pytest.mark.parametrize("write", [one_document, lines, zipped_lines, one_message, prefixed_messages])
async def test_every_form_of_file_is_sent_once_however_often(
    app_server: AppServer, token: Callable[..., str], project: ProjectMaker, owner: asyncpg.Connection,
    tmp_path: Path, write: Writer,
) -> None:  # fmt: skip
    await project("alpha")
    file = tmp_path / "traces"
    write(file)
    seen: list[int] = []

    def watch(progress: FileProgress) -> None:
        seen.append(progress.done_bytes)

    for _ in range(2):
        (total,) = await ingest_files(
            [file],
            base_url=app_server.base_url,
            token=token("developer", ["alpha"]),
            project="alpha",
            on_progress=watch,
        )
        assert (total.items, total.rejected, total.done_bytes) == (30, 0, file.stat().st_size)
    assert seen[-1] == file.stat().st_size
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 30


def test_short_lines_share_a_request_and_other_signals_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "file"
    lines(file)
    assert [request.items for request in read_requests(file, print)] == [30]
    file.write_bytes(b'{"resourceMetrics": []}\n{"resourceProfiles": []}\n{"resourceMetrics": []}\n')
    told: list[str] = []
    assert list(read_requests(file, told.append)) == []
    assert told == ["metrics are not supported", "profiles are not supported", "metrics are not supported"]
    file.write_bytes(b"")
    assert list(read_requests(file, told.append)) == []


async def test_what_stands_before_a_broken_line_is_sent(
    app_server: AppServer, token: Callable[..., str], project: ProjectMaker, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await project("alpha")
    file = tmp_path / "traces.jsonl"
    file.write_bytes(as_json(export_request(10)) + b'\n{"resourceSpans": [{"scopeSp')
    with pytest.raises(FileIngestError, match="line 2: not valid JSON"):
        await ingest_files([file], base_url=app_server.base_url, token=token("developer", ["alpha"]))
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 10


async def test_a_large_document_is_cut_into_requests(
    app_server: AppServer, token: Callable[..., str], project: ProjectMaker, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await project("alpha")
    file = tmp_path / "traces.json"
    file.write_bytes(as_json(export_request(1200)))
    (total,) = await ingest_files([file], base_url=app_server.base_url, token=token("developer", ["alpha"]))
    assert (total.requests, total.items) == (3, 1200)
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 1200


async def test_rejected_spans_are_counted_with_their_reason(
    app_server: AppServer, token: Callable[..., str], project: ProjectMaker, tmp_path: Path
) -> None:
    await project("alpha")
    file = tmp_path / "traces.json"
    file.write_bytes(as_json(export_request(4, trace_id=bytes(16))))
    (total,) = await ingest_files([file], base_url=app_server.base_url, token=token("developer", ["alpha"]))
    assert (total.items, total.rejected) == (4, 4)
    assert "invalid_trace_id" in total.reasons[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"resourceSpans": [', "not valid JSON"),
        (b'{"spans": []}', "neither resourceSpans"),
        (b'{"resourceSpans": [1]}', "is not valid OTLP"),
        (b'{"resourceSpans": {"scopeSpans": []}}', "is not valid OTLP"),
        (b'{"resourceSpans":' + b"[" * 100_000, "not valid JSON"),
        (b"\x0a\xff\xff\xff\xff\xff", "not OTLP protobuf"),
        (b"\x00\x00\x10\x00abc", "ends in the middle"),
        (gzip.compress(b'{"resourceSpans": []}', mtime=0)[:-4], "cannot be read"),
        (b"\x28\xb5\x2f\xfd\xff\xff", "cannot be read"),
        (b"\x00\x00\x00\x06\x28\xb5\x2f\xfd\xff\xff", "cannot be read"),
    ],
)
async def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    app_server: AppServer, token: Callable[..., str], project: ProjectMaker, tmp_path: Path, content: bytes, words: str
) -> None:
    await project("alpha")
    file = tmp_path / "broken"
    file.write_bytes(content)
    with pytest.raises(FileIngestError, match=words):
        await ingest_files([file], base_url=app_server.base_url, token=token("developer", ["alpha"]))


async def test_a_refused_credential_is_said_once_and_not_tried_again(app_server: AppServer, tmp_path: Path) -> None:
    file = tmp_path / "traces.json"
    file.write_bytes(as_json(export_request(1)))
    with pytest.raises(FileIngestError, match="answered 401"):
        await ingest_files([file], base_url=app_server.base_url, token="nobody")
