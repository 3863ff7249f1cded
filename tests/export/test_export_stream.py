"""GET /api/v1/export/traces: the rows of the list, whole or visibly cut, in every format."""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import io
import json
import socket
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from server.errors import DatabaseUnavailable
from server.export import pages
from server.export.csv_format import guarded
from server.export.ndjson_format import TRAILER_KEY
from server.http import file_stream
from server.queries.lists import list_reader
from server.rest import export_routes
from tests.conftest import AppServer
from tests.export.conftest import COUNT, ODD_USERS, spans
from tests.span_factory import make_span, store

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

EXPORT = "/api/v1/export/traces"
DECOMPRESSORS: dict[str, Any] = {"none": bytes, "gzip": gzip.decompress, "zstd": zstd.decompress}


def ndjson(body: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows and the trailer of a file."""
    *rows, trailer = [json.loads(line, parse_float=Decimal) for line in body.splitlines()]
    return rows, trailer[TRAILER_KEY]


async def whole_list(api: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await api.get("/api/v1/traces", params={"limit": 1000, **params})
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content, parse_float=Decimal)["data"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("compression", DECOMPRESSORS)
async def test_an_export_has_the_rows_of_the_list_in_its_order(api: httpx.AsyncClient, compression: str) -> None:
    answer = await api.get(EXPORT, params={"compression": compression, "fields": "all"})
    assert answer.status_code == 200
    body = DECOMPRESSORS[compression](answer.content)
    rows, trailer = ndjson(body)
    assert rows == await whole_list(api, fields="all")
    assert len(rows) == COUNT == trailer["rows"]
    lines = body[: body.rindex(b"\n", 0, -1) + 1]
    assert trailer["sha256"] == hashlib.sha256(lines).hexdigest()
    manifest = (await api.get(f"/api/v1/exports/{answer.headers['x-export-id']}")).json()["data"]
    assert (manifest["state"], manifest["rows"], manifest["bytes"]) == ("complete", COUNT, len(answer.content))
    assert manifest["sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["x-accel-buffering"] == "no"


async def test_filters_views_and_the_direction_are_those_of_lists(api: httpx.AsyncClient) -> None:
    params = {"user_id": "000123", "sort_order": "asc", "fields": "core,cost"}
    rows, _ = ndjson((await api.get(EXPORT, params=params)).content)
    assert rows == await whole_list(api, **params)
    assert rows
    summaries, _ = ndjson((await api.get(EXPORT, params={"view": "traces"})).content)
    assert summaries == await whole_list(api, view="traces")


@pytest.mark.parametrize("name", ["cursor", "limit", "include", "total", "explain", "nonsense"])
async def test_what_an_export_does_not_have_is_refused(api: httpx.AsyncClient, name: str) -> None:
    answer = await api.get(EXPORT, params={name: "1"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == name


@pytest.mark.parametrize(
    "params", [{"sort_by": "total_cost_usd"}, {"format": "xml"}, {"compression": "br"}, {"after": "x"}]
)
async def test_what_cannot_be_exported_is_an_error_and_no_file(api: httpx.AsyncClient, params: dict[str, str]) -> None:
    answer = await api.get(EXPORT, params=params)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


async def test_content_and_other_projects_stay_closed(
    api: httpx.AsyncClient, app_server: AppServer, bearer: Any
) -> None:
    no_content = bearer("developer", ["alpha"], scopes=["exports:create", "traces:read"])
    rows, _ = ndjson((await api.get(EXPORT, params={"fields": "all"}, headers=no_content)).content)
    assert {row["input_text"] for row in rows} == {None}
    assert (await api.get(EXPORT, params={"project_id": "beta"})).status_code == 403
    assert b"of-beta" not in (await api.get(EXPORT)).content
    reader = bearer("developer", ["alpha"], scopes=["traces:read"])
    assert (await api.get(EXPORT, headers=reader)).status_code == 403
    writer = bearer("developer", ["alpha"], scopes=["exports:create"])
    assert (await api.get(EXPORT, headers=writer)).status_code == 403
    mine = (await api.get(EXPORT)).headers["x-export-id"]
    other = {"Authorization": bearer("developer", ["alpha"], subject="somebody-else")["Authorization"]}
    assert (await api.get(f"/api/v1/exports/{mine}", headers=other)).status_code == 404


async def test_csv_keeps_digits_and_defuses_what_spreadsheets_compute(api: httpx.AsyncClient) -> None:
    params = {"format": "csv", "fields": "core,cost,identity,io"}
    rows = list(csv.DictReader(io.StringIO((await api.get(EXPORT, params=params)).content.decode())))
    listed = await whole_list(api, fields="core,cost,identity,io")
    assert [row["span_id"].removeprefix("'") for row in rows] == [row["span_id"] for row in listed]
    assert sum(Decimal(row["total_cost_usd"]) for row in rows) == sum(row["total_cost_usd"] for row in listed)
    assert not any("E" in row["prompt_cost_usd"] for row in rows)
    users = {row["user_id"] for row in rows}
    assert {"'000123", "'12345e67", "'=1+1", "'@SUM(1,2)", "'+44 1", "'-5", "NULL", "a,b", 'quo"te', "ü€😀"} <= users
    assert {json.loads(row["input_messages"])[0]["role"] for row in rows} == {"user"}
    plain = await api.get(EXPORT, params={**params, "guard": "false"})
    assert {row["user_id"] for row in csv.DictReader(io.StringIO(plain.content.decode()))} == set(ODD_USERS)


@pytest.mark.parametrize(
    "text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "007", "1e5", "1,5", "12345e67", " =1", '"=1', "＝1", "＠x"]
)
def test_texts_that_spreadsheets_change_are_guarded(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "1a", "abc123", "2026-11-28", "e5", "'007", '"quoted"', " x"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert guarded(text) == text


async def test_parquet_is_read_with_the_right_types_by_the_libraries_people_use(
    api: httpx.AsyncClient, tmp_path: Path
) -> None:
    import duckdb
    import pandas
    import polars
    import pyarrow.parquet as pq

    answer = await api.get(EXPORT, params={"format": "parquet", "fields": "all"})
    path = tmp_path / "traces.parquet"
    path.write_bytes(answer.content)
    expected = sum((span.total_cost_usd for span in spans()), Decimal())
    query = "SELECT count(*), sum(total_cost_usd), min(typeof(ts)), count(DISTINCT user_id) FROM read_parquet(?)"
    found = duckdb.execute(query, [str(path)]).fetchone()
    assert found == (COUNT, expected, "TIMESTAMP WITH TIME ZONE", len(ODD_USERS))
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert columns["ts"].statistics.has_min_max
    assert columns["input_text"].statistics is None, "a writer keeps them to the end of the file"
    frame = polars.read_parquet(path)
    assert frame["total_cost_usd"].sum() == expected
    assert frame.schema["ts"] == polars.Datetime("us", "UTC")
    assert frame.schema["tags"] == polars.List(polars.String)
    assert set(frame["user_id"]) == set(ODD_USERS)
    table = pandas.read_parquet(path, dtype_backend="pyarrow")
    assert sum(table["total_cost_usd"]) == expected
    assert json.loads(table["attributes"].iloc[0])["deep"] == {"x": [1, None]}


async def test_the_costs_of_an_export_add_up_to_the_answer_of_the_metric_engine(api: httpx.AsyncClient) -> None:
    params = {"from": "now-1h", "to": "now"}
    rows, _ = ndjson((await api.get(EXPORT, params=params)).content)
    answer = await api.get("/api/v1/metrics", params={**params, "metric": "cost"})
    points = json.loads(answer.content, parse_float=Decimal)["data"]
    assert sum(row["total_cost_usd"] for row in rows) == sum(point["value"] or 0 for point in points)


async def test_spans_that_come_while_an_export_runs_are_not_in_it(
    api: httpx.AsyncClient, app_server: AppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_ROWS", 50)
    calls = 0
    read = list_reader._Reading.fetch

    async def fetch(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await store(app_server.services, "alpha", make_span(user_id="late", ts=spans()[-1].ts))
        return await read(self, *args)

    monkeypatch.setattr(list_reader._Reading, "fetch", fetch)
    rows, trailer = ndjson((await api.get(EXPORT)).content)
    assert calls > 3
    assert trailer["rows"] == COUNT
    assert "late" not in {row["user_id"] for row in rows}
    assert len({(row["trace_id"], row["span_id"]) for row in rows}) == COUNT


async def test_a_database_that_is_away_for_a_moment_costs_no_row(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "RETRY_SECONDS", (0.0, 0.0))
    failures = iter([False, True, False, True, True, False])
    listed = list_reader.list_spans

    async def sometimes(*args: Any) -> Any:
        if next(failures, False):
            raise DatabaseUnavailable()
        return await listed(*args)

    monkeypatch.setattr(pages, "list_spans", sometimes)
    _, trailer = ndjson((await api.get(EXPORT)).content)
    assert trailer["rows"] == COUNT


async def cut_off(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, **params: str) -> tuple[bytes, str]:
    """Return the part of an export that a client receives if the third page cannot be read, and its id."""
    monkeypatch.setattr(pages, "RETRY_SECONDS", ())
    monkeypatch.setattr(pages, "MOST_ROWS", 50)
    calls = 0
    listed = list_reader.list_spans

    async def failing(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise DatabaseUnavailable()
        return await listed(*args)

    got = b""
    with monkeypatch.context() as broken:
        broken.setattr(pages, "list_spans", failing)
        async with api.stream("GET", EXPORT, params=params) as answer:
            received = answer.aiter_raw()
            while True:
                try:
                    got += await anext(received)
                except httpx.RemoteProtocolError:
                    break
    return got, answer.headers["x-export-id"]


async def manifest_of(api: httpx.AsyncClient, export_id: str, **params: int) -> dict[str, Any]:
    for _ in range(600):
        found: dict[str, Any] = (await api.get(f"/api/v1/exports/{export_id}", params=params)).json()["data"]
        if found["state"] != "running":
            break
        await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("params", [{"format": "ndjson", "trailer": "false"}, {"format": "csv"}], ids=str)
async def test_a_cut_export_looks_cut_and_goes_on_to_the_same_file(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, params: dict[str, str]
) -> None:
    window = {"from": "now-1d", "to": "now"}
    whole = (await api.get(EXPORT, params={**params, "from": "now-1d"})).content
    got, export_id = await cut_off(api, monkeypatch, **params, **window)
    # A connection that is reset may take with it what the client has not read yet.
    manifest = await manifest_of(api, export_id, bytes=len(got))
    assert (manifest["state"], manifest["problem"]) == ("failed", "database_unavailable")
    assert 0 < manifest["resume_bytes"] <= len(got)
    rest = await api.get(EXPORT, params={**params, **window, "after": manifest["after"]})
    assert rest.status_code == 200
    assert got[: manifest["resume_bytes"]] + rest.content == whole
    earlier = await manifest_of(api, export_id, bytes=manifest["resume_bytes"] - 1)
    assert earlier["resume_bytes"] < manifest["resume_bytes"]
    other = await api.get(EXPORT, params={**params, **window, "after": manifest["after"], "user_id": "a"})
    assert other.json()["code"] == "invalid_cursor"


async def test_a_client_that_leaves_frees_its_place_and_leaves_a_record(
    api: httpx.AsyncClient, app_server: AppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_ROWS", 20)
    listed = list_reader.list_spans

    async def slow(*args: Any) -> Any:
        await asyncio.sleep(0.05)
        return await listed(*args)

    monkeypatch.setattr(pages, "list_spans", slow)
    async with api.stream("GET", EXPORT) as answer:
        export_id = answer.headers["x-export-id"]
    manifest = await manifest_of(api, export_id)
    assert (manifest["state"], manifest["problem"]) == ("failed", "client_gone")
    assert not app_server.services.exports.streams._at_work


async def test_a_client_that_takes_long_for_a_page_is_not_taken_for_lost(
    api: httpx.AsyncClient, app_server: AppServer, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upkeep runs in the middle of a page: the stream has shown a sign of life since it was made to look old."""
    monkeypatch.setattr(export_routes, "HEARTBEAT_EVERY", 0.02)
    monkeypatch.setattr(pages, "MOST_ROWS", 50)
    send = file_stream.FileStream.send
    sent = 0

    async def slow(self: Any, data: bytes) -> None:
        nonlocal sent
        sent += 1
        if sent == 2:
            await owner.execute("UPDATE exports SET heartbeat_at = now() - interval '2 minutes'")
            await asyncio.sleep(0.5)
            await app_server.services.exports.store.fail_lost_streams()
        await send(self, data)

    monkeypatch.setattr(file_stream.FileStream, "send", slow)
    _, trailer = ndjson((await api.get(EXPORT)).content)
    assert trailer["rows"] == COUNT
    assert sent > 2


async def test_one_caller_has_few_streams_at_once(start_app: Any, api: httpx.AsyncClient) -> None:
    server = await start_app(export_streams=1)
    server.services.exports.streams._at_work.update({"somebody": 1})
    async with httpx.AsyncClient(base_url=server.base_url, headers=api.headers) as http:
        assert (await http.get(EXPORT)).status_code == 200
        taken = server.services.exports.streams.take

        def full(principal: Any) -> Any:
            taken(principal)
            return taken(principal)

        server.services.exports.streams.take = full
        assert (await http.get(EXPORT)).json()["code"] == "too_many_concurrent"


async def test_head_tells_the_type_and_reads_nothing_more(api: httpx.AsyncClient) -> None:
    answer = await api.head(EXPORT, params={"format": "csv"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.content == b""


async def test_a_slow_client_holds_no_connection_of_the_pool(
    api: httpx.AsyncClient, app_server: AppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that takes nothing: what waits for it is a slice of the file, not the database."""
    big = [make_span(input_text="x" * 200_000) for _ in range(60)]
    await store(app_server.services, "alpha", big)
    address = urlsplit(app_server.base_url)
    raw = socket.create_connection((address.hostname, address.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = f"GET {EXPORT}?fields=all HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['authorization']}\r\n\r\n"
    try:
        await asyncio.to_thread(raw.sendall, head.encode())
        pool = app_server.services.reads.raw_pool
        assert pool is not None
        idle_looks = 0
        async with asyncio.timeout(60):
            while idle_looks < 20:  # for a second; the first pages are read before that
                await asyncio.sleep(0.05)
                is_sending = bool(app_server.services.exports.streams._at_work)
                idle_looks = idle_looks + 1 if is_sending and pool.get_size() == pool.get_idle_size() else 0
    finally:
        raw.close()


@pytest.mark.parametrize("way", ["revoked", "deleted"])
async def test_a_right_that_is_taken_away_ends_an_export(
    app_server: AppServer, api: httpx.AsyncClient, bearer: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Of a slow client: what it has not had yet it does not get, and its file looks cut."""
    monkeypatch.setattr(file_stream, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(file_stream, "SLICE_BYTES", 1024)
    await app_server.services.exports.jobs.task.stop()  # it removes the record with the project
    made = (await api.post("/api/v1/keys", json={"label": "k", "kind": "service"})).json()["data"]
    send, sent = file_stream.FileStream.send, 0

    async def slow(self: Any, data: bytes) -> None:
        nonlocal sent
        sent += 1
        if sent == 2:
            path = f"/api/v1/keys/{made['key_id']}" if way == "revoked" else "/api/v1/projects/alpha"
            admin = bearer("admin", ["*"])
            async with httpx.AsyncClient(base_url=app_server.base_url, headers=admin, timeout=30) as http:
                assert (await http.delete(path)).status_code == 200
        await send(self, data)

    monkeypatch.setattr(file_stream.FileStream, "send", slow)
    with pytest.raises(httpx.RemoteProtocolError):
        await api.get(EXPORT, headers={"Authorization": f"Bearer {made['key']}"})
    expected = {"revoked": "invalid_token", "deleted": "project_forbidden"}[way]
    async with app_server.services.writes.plain() as connection, asyncio.timeout(30):
        while (problem := await connection.fetchval("SELECT problem FROM exports")) is None:
            await asyncio.sleep(0.01)
    assert problem == expected
