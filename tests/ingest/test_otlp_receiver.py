"""The OTLP/HTTP surface: what a conforming exporter gets for what it sends."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.ingest.otlp_payloads import JSON, PROTOBUF, body_of, export_request

Send = Callable[..., Any]
BOTH = pytest.mark.parametrize("content_type", [PROTOBUF, JSON])


@pytest.fixture
async def send(client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker) -> Send:
    """Posts a body to ``/v1/traces`` as a developer of project alpha."""
    await project("alpha")
    headers = bearer("developer", ["alpha"])

    async def post(body: Any, content_type: str = PROTOBUF, path: str = "/v1/traces", **more: str) -> httpx.Response:
        content = body_of(body, content_type) if isinstance(body, ExportTraceServiceRequest) else body
        given = {
            **headers,
            "content-type": content_type,
            **{key.replace("_", "-"): value for key, value in more.items()},
        }
        return await client.post(path, content=content, headers=given)

    return post


def partial_success(response: httpx.Response) -> tuple[int, str]:
    """Count and message, whatever the encoding."""
    if response.headers["content-type"] == JSON:
        partial = response.json().get("partialSuccess", {})
        return int(partial.get("rejectedSpans", 0)), partial.get("errorMessage", "")
    answer = ExportTraceServiceResponse.FromString(response.content)
    return answer.partial_success.rejected_spans, answer.partial_success.error_message


def status_message(response: httpx.Response) -> tuple[int, str]:
    """Code and message of a google.rpc.Status, whatever the encoding."""
    if response.headers["content-type"] == JSON:
        return response.json()["code"], response.json()["message"]
    status = Status.FromString(response.content)
    return status.code, status.message


@BOTH
async def test_spans_are_stored_priced_and_answered_in_the_encoding_of_the_request(
    send: Send, owner: asyncpg.Connection, content_type: str
) -> None:
    response = await send(export_request(3), content_type)
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    assert response.content == (b"" if content_type == PROTOBUF else b"{}")
    rows = await owner.fetch("SELECT project_id, model, total_tokens, total_cost_usd, cost_source FROM llm_traces")
    assert len(rows) == 3
    assert {(row["project_id"], row["model"], row["total_tokens"], row["cost_source"]) for row in rows} == {
        ("alpha", "gpt-4o", 1100, "computed")
    }


@BOTH
@pytest.mark.parametrize(
    "body", [b"", ExportTraceServiceRequest(), export_request(0)], ids=["no bytes", "no resources", "no spans"]
)
async def test_an_empty_request_is_200_without_partial_success(send: Send, content_type: str, body: Any) -> None:
    response = await send(body, content_type)
    assert response.status_code == 200
    assert partial_success(response) == (0, "")


@BOTH
@pytest.mark.parametrize("body", [b"\xff\xff\xff", b'{"resourceSpans": [', b"[]" * 3])
async def test_a_body_that_cannot_be_read_is_400_and_stores_nothing(
    send: Send, owner: asyncpg.Connection, content_type: str, body: bytes
) -> None:
    response = await send(body, content_type)
    assert response.status_code == 400
    assert response.headers["content-type"] == content_type
    assert status_message(response)[0] == 3
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 0


async def test_a_request_cut_at_any_byte_is_400_or_fewer_spans(send: Send) -> None:
    body = export_request(1).SerializeToString()
    statuses = {(await send(body[:cut])).status_code for cut in range(1, len(body), 7)}
    assert statuses <= {200, 400}


async def test_the_same_payload_in_both_encodings_is_the_same_row(send: Send, owner: asyncpg.Connection) -> None:
    one = export_request(1, attributes={"gen_ai.conversation.id": "c1", "big": 2**53 + 1})
    await send(one, PROTOBUF)
    first = dict((await owner.fetch("SELECT * FROM llm_traces"))[0])
    await owner.execute("DELETE FROM llm_traces")
    await send(one, JSON)
    second = dict((await owner.fetch("SELECT * FROM llm_traces"))[0])
    assert {**first, "ingested_at": None} == {**second, "ingested_at": None}


@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc", "application/json; charset=utf-16"])
async def test_other_content_types_are_415(send: Send, content_type: str) -> None:
    response = await send(b"{}", content_type)
    assert response.status_code == 415


async def test_an_unknown_content_encoding_is_415(send: Send) -> None:
    assert (await send(b"x", content_encoding="br")).status_code == 415


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies_are_taken(
    send: Send, owner: asyncpg.Connection, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    body = pack(export_request(20).SerializeToString())
    assert (await send(body, content_encoding=coding)).status_code == 200
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 20


async def test_a_decompression_bomb_is_413_before_it_is_decompressed(send: Send) -> None:
    bomb = gzip.compress(b"\0" * 100_000_000, 9)
    began = time.process_time()
    response = await send(bomb, content_encoding="gzip")
    refused = time.process_time() - began
    assert response.status_code == 413
    began = time.process_time()
    gzip.decompress(bomb)
    assert refused < time.process_time() - began


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"") * 400_000),
        ("gzip", b"\x1f\x8b\x08" + bytes(6) + b"\xff" + b"\x00\x00\x00\xff\xff" * 1_600_000),
        ("deflate", b"\x78\x9c" + b"\x00\x00\x00\xff\xff" * 1_600_000),
    ],
    ids=["members", "blocks", "deflate"],
)
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs", "/v1/metrics", "/v1/traces/explain"])
async def test_compression_of_nothing_is_refused_by_its_first_pieces(
    send: Send, encoding: str, body: bytes, path: str
) -> None:
    """Eight megabytes without content once took a decoder for a minute."""
    began = time.process_time()
    response = await send(body, JSON, path, content_encoding=encoding)
    assert response.status_code in (400, 413)
    assert time.process_time() - began < 2


@BOTH
async def test_a_long_attribute_is_cut_and_said_and_a_long_message_is_whole(
    send: Send, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], content_type: str
) -> None:
    long = "".join(chr(97 + place % 26) for place in range(100_000))
    request = export_request(attributes={"custom.text": long, "gen_ai.prompt": long, "custom.short": long[:16_384]})
    assert (await send(request, content_type)).status_code == 200
    sent = request.resource_spans[0].scope_spans[0].spans[0]
    path = f"/api/v1/traces/{sent.trace_id.hex()}/spans/{sent.span_id.hex()}"
    span = (await client.get(path, headers=bearer("developer", ["alpha"]))).json()["data"]
    assert span["attributes"]["custom.text"] == long[:16_384]
    assert span["dropped"]["attributes"]["original_length"]["custom.text"] == len(long)
    assert span["attributes"]["custom.short"] == long[:16_384]
    assert span["input_text"] == long


async def test_a_body_past_the_limit_is_413(send: Send) -> None:
    response = await send(b"\0" * 9_000_000)
    assert response.status_code == 413
    assert status_message(response)[0] == 3


async def test_a_chunked_body_without_end_is_413(
    app_server: AppServer, send: Send, bearer: Callable[..., dict[str, str]]
) -> None:
    async def endless() -> Any:
        for _ in range(2000):
            yield b"\0" * 65536

    async with httpx.AsyncClient(base_url=app_server.base_url) as http:
        headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
        try:
            assert (await http.post("/v1/traces", content=endless(), headers=headers)).status_code == 413
        except httpx.NetworkError:
            # The server closed the connection on a client that did not stop sending.
            assert app_server.services.bodies.held == 0


@BOTH
async def test_bad_spans_are_counted_and_the_good_ones_stored(
    send: Send, owner: asyncpg.Connection, content_type: str
) -> None:
    request = export_request(100)
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[3].trace_id = bytes(16)
    spans[4].trace_id = b"short"
    spans[5].span_id = b""
    spans[6].start_time_unix_nano = 0
    spans[7].start_time_unix_nano = 1_000_000_000
    spans[8].start_time_unix_nano = spans[8].end_time_unix_nano = time.time_ns() + 86_400_000_000_000
    spans[9].start_time_unix_nano = spans[9].end_time_unix_nano = 2**64 - 1
    response = await send(request, content_type)
    assert response.status_code == 200
    count, message = partial_success(response)
    assert count == 7
    assert "2 × invalid_trace_id" in message
    assert len(message.encode()) <= 1024
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 93


async def test_a_batch_of_bad_spans_only_is_200_with_all_of_them_rejected(send: Send) -> None:
    response = await send(export_request(5, trace_id=bytes(16)))
    assert (response.status_code, partial_success(response)[0]) == (200, 5)


async def test_nul_in_texts_never_fails_the_batch(send: Send, owner: asyncpg.Connection) -> None:
    request = export_request(2, attributes={"note": "a\0b", "gen_ai.conversation.id": "c\0d"})
    request.resource_spans[0].scope_spans[0].spans[0].name = "na\0me"
    response = await send(request)
    assert response.status_code == 200
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 2 - partial_success(response)[0]


async def test_a_repeated_request_changes_nothing(send: Send, owner: asyncpg.Connection) -> None:
    request = export_request(10)
    for _ in range(4):
        assert (await send(request)).status_code == 200
    row = await owner.fetchrow("SELECT count(*) AS spans, sum(total_cost_usd) AS cost FROM llm_traces")
    summary = await owner.fetchrow("SELECT span_count AS spans, total_cost_usd AS cost FROM trace_summaries")
    assert row is not None
    assert summary is not None
    assert tuple(row) == tuple(summary)
    assert row["spans"] == 10


async def test_without_a_credential_401_and_without_the_scope_403_as_status(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker
) -> None:
    await project("alpha")
    body = export_request(1).SerializeToString()
    nobody = await client.post("/v1/traces", content=body, headers={"content-type": PROTOBUF})
    assert (nobody.status_code, status_message(nobody)[0]) == (401, 16)
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    viewer = await client.post(
        "/v1/traces", content=body, headers={"content-type": PROTOBUF, **bearer("viewer", ["alpha"])}
    )
    assert (viewer.status_code, status_message(viewer)[0]) == (403, 7)


async def test_a_credential_of_several_projects_names_one(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    for name in ("alpha", "beta", "gamma"):
        await project(name)
    headers = {**bearer("developer", ["alpha", "beta"]), "content-type": PROTOBUF}
    body = export_request(1).SerializeToString()

    async def post(path: str = "/v1/traces", **more: str) -> int:
        return (await client.post(path, content=body, headers={**headers, **more})).status_code

    assert await post() == 400
    assert await post(**{"X-Observatory-Project": "beta"}) == 200
    assert await post("/v1/traces?project=alpha") == 200
    assert await post("/v1/traces?project=alpha", **{"X-Observatory-Project": "beta"}) == 400
    assert await post(**{"X-Observatory-Project": "gamma"}) == 403
    assert await post(**{"X-Observatory-Project": "nothing-there"}) == 403
    assert await post("/v1/traces?projct=alpha") == 400
    assert {row[0] for row in await owner.fetch("SELECT project_id FROM llm_traces")} == {"alpha", "beta"}


async def test_a_lost_database_is_503_with_retry_after(
    start_app: AppFactory, bearer: Callable[..., dict[str, str]], project: ProjectMaker, owner: asyncpg.Connection,
    database_name: str,
) -> None:  # fmt: skip
    await project("alpha")
    server = await start_app()
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    async with httpx.AsyncClient(base_url=server.base_url, timeout=20) as http:
        body = export_request(1).SerializeToString()
        assert (await http.post("/v1/traces", content=body, headers=headers)).status_code == 200
        await owner.execute(f"ALTER DATABASE {database_name} CONNECTION LIMIT 0")
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        response = await http.post("/v1/traces", content=export_request(1).SerializeToString(), headers=headers)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert status_message(response)[0] == 14
        await owner.execute(f"ALTER DATABASE {database_name} CONNECTION LIMIT -1")
        assert (await http.post("/v1/traces", content=body, headers=headers)).status_code == 200


async def test_more_bodies_than_the_buffer_holds_are_503(
    start_app: AppFactory, bearer: Callable[..., dict[str, str]], project: ProjectMaker
) -> None:
    await project("alpha")
    server = await start_app(ingest_buffer_bytes=100_000)
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    body = export_request(400).SerializeToString()  # more than the whole, so let in alone
    place = await server.services.bodies.take(60_000)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=30) as http:
        response = await http.post("/v1/traces", content=body, headers=headers)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        server.services.bodies.give_back(place)
        assert (await http.post("/v1/traces", content=body, headers=headers)).status_code == 200
    assert server.services.bodies.held == 0


async def test_a_project_past_its_rate_of_spans_is_429_with_a_true_retry_after(
    send: Send, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "UPDATE projects SET settings = $1 WHERE project_id = 'alpha'",
        json.dumps({"ingest": {"spans_per_minute": 1_200}}),  # 20 a second; room for the largest request, 10,000
    )
    assert (await send(export_request(9_000))).status_code == 200
    response = await send(export_request(4_000))
    assert response.status_code == 429
    assert status_message(response)[0] == 8
    assert 1 <= int(response.headers["retry-after"]) <= 150
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 9_000


async def test_more_spans_than_a_request_may_have_are_413(
    start_app: AppFactory, bearer: Callable[..., dict[str, str]], project: ProjectMaker
) -> None:
    await project("alpha")
    server = await start_app(ingest_max_spans=10)
    headers = {**bearer("developer", ["alpha"]), "content-type": PROTOBUF}
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        for count, status in ((10, 200), (11, 413)):
            body = export_request(count).SerializeToString()
            assert (await http.post("/v1/traces", content=body, headers=headers)).status_code == status


async def test_get_is_405_as_status(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/traces", headers={"content-type": JSON})
    assert response.status_code == 405
    assert response.headers["allow"]
    assert response.json()["code"] == 12


@BOTH
async def test_explain_shows_the_columns_and_stores_nothing(
    send: Send, owner: asyncpg.Connection, content_type: str
) -> None:
    response = await send(export_request(1), content_type, path="/v1/traces/explain")
    assert response.status_code == 200
    (span,) = response.json()["data"]["spans"]
    model = next(column for column in span["columns"] if column["column"] == "model")
    assert (model["value"], model["from"]) == ("gpt-4o", "gen_ai.response.model")
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 0


async def test_the_exporter_of_the_opentelemetry_sdk_is_served(
    app_server: AppServer, project: ProjectMaker, token: Callable[..., str], owner: asyncpg.Connection
) -> None:
    await project("alpha")
    exporter = OTLPSpanExporter(
        endpoint=f"{app_server.base_url}/v1/traces",
        headers={"authorization": f"Bearer {token('developer', ['alpha'])}"},
        compression=Compression.Gzip,
    )

    def trace() -> None:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with provider.get_tracer("tests").start_as_current_span("chat gpt-4o") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("gen_ai.request.model", "gpt-4o")
        provider.shutdown()

    await asyncio.to_thread(trace)
    assert await owner.fetchval("SELECT span_name FROM llm_traces") == "chat gpt-4o"
