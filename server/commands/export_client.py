"""An export written to a file, and continued when it breaks off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from server.commands.api_client import Params, Server, refusal, unreachable
from server.terminal.output import CommandFailed, say
from server.terminal.progress import Progress

EXPORT = "/api/v1/export/traces"
ATTEMPTS = 5
"""Most interruptions in a row without a further byte."""
PAUSE_SECONDS = 1.0
LOOK_SECONDS = 1.0
_ENDED = ("complete", "failed", "cancelled")
_NOT_FILTERS = {
    "project_id": "--project names the project",
    "format": "--format names the form of the file",
    "compression": "--compression names it",
    "after": "a broken export goes on by itself",
}
"""Query parameters that the command sets itself, and what to use instead."""


def write_export(server: Server, filters: Sequence[str], output: Path, *, kind: str, compression: str) -> None:
    """Write the spans that match ``filters`` to ``output``; the file gets that name once it is complete.

    :raises CommandFailed: the server refuses the question, or the export breaks off again and again.
    """
    params = server.params(filters)
    for name, _ in params[1:]:
        if name in _NOT_FILTERS:
            raise CommandFailed(f"{name} is no FILTER: {_NOT_FILTERS[name]}")
    if output.is_dir():
        raise CommandFailed(f"{output} is a folder: --output names a file")
    unfinished = output.with_name(f"{output.name}.unfinished")
    with server.client() as client:
        total = _estimate(client, params)  # before a file is opened
        progress = Progress("exporting", total, "rows")
        params += [("format", kind), ("compression", compression)]
        shown = 0
        after: str | None = None
        failures = 0
        with open(unfinished, "wb") as file:
            while True:
                begun_at = file.tell()
                export_id = ""
                try:
                    for known_id, rows in _download(client, params, after, file):
                        export_id = known_id
                        progress.advance(max(0, rows - shown))
                        shown = max(rows, shown)
                except httpx.TransportError:
                    pass
                except CommandFailed:
                    if file.tell() == 0:
                        unfinished.unlink()  # the server never began
                    raise
                record = _record(client, export_id, file.tell()) if export_id else {}
                if record.get("state") == "complete" and file.tell() - begun_at == record["bytes"]:
                    progress.advance(record["rows"] - shown)
                    break
                after, size = record.get("after") or after, record.get("resume_bytes")
                file.seek(begun_at + size if size is not None else begun_at)
                file.truncate()
                failures = 0 if size else failures + 1
                if failures >= ATTEMPTS:
                    raise CommandFailed(f"the export broke off {ATTEMPTS} times; its part so far is in {unfinished}")
                say(f"the export broke off ({record.get('problem') or 'connection lost'}), going on")
                time.sleep(PAUSE_SECONDS)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(output)
        progress.finish()


def _estimate(client: httpx.Client, params: Params) -> int:
    """Return the approximate number of rows, for the progress bar; 0 if that cannot be told. A credential that is not
    accepted is reported early this way; a fault of the question is the export's to explain, whose rules are others.
    """
    try:
        answer = client.get("/api/v1/traces", params=[*params, ("limit", "1"), ("total", "estimate")])
    except httpx.TransportError as error:
        raise unreachable(client, error) from error
    if answer.status_code in (401, 403):
        raise refusal(answer)
    if answer.status_code != 200:
        return 0
    total: int = answer.json()["pagination"].get("total", 0)
    return total


def _download(client: httpx.Client, params: Params, after: str | None, file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Write the answer to ``file``; yield the export's id and its rows so far."""
    asked = params if after is None else [*params, ("after", after)]
    with client.stream("GET", EXPORT, params=asked) as answer:
        if answer.status_code != 200:
            answer.read()
            if answer.status_code < 500 and answer.status_code != 429:
                raise refusal(answer)
            raise httpx.ReadError(f"the server answers {answer.status_code}")
        export_id = answer.headers["x-export-id"]
        yield export_id, 0
        looked_at = time.monotonic()
        for chunk in answer.iter_bytes():
            file.write(chunk)
            if time.monotonic() - looked_at > LOOK_SECONDS:
                looked_at = time.monotonic()
                record = client.get(f"/api/v1/exports/{export_id}")
                if record.status_code == 200:
                    yield export_id, record.json()["data"]["rows"]


def _record(client: httpx.Client, export_id: str, size: int) -> dict[str, Any]:
    """Return the server's record of the export, once the server has noted its end."""
    found: dict[str, Any] = {}
    for _ in range(10):
        try:
            answer = client.get(f"/api/v1/exports/{export_id}", params={"bytes": str(size)})
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == 200:
            found = answer.json()["data"]
            if found["state"] in _ENDED:
                break
        time.sleep(0.3)
    return found
