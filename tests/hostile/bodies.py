"""Bodies that are deep, broad, compressed many times over, or of another protocol."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import struct
import zlib
from typing import Final

import httpx

from tests.hostile.hostile import Hostile

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_COST: Final = (
    b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"claude_code.cost.usage","sum":{"dataPoints":['
)


def field(number: int, content: bytes) -> bytes:
    """Return a field of protobuf with bytes in it."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def nested_value(depth: int) -> bytes:
    """Return an AnyValue of lists in lists."""
    value = field(1, b"x")
    for _ in range(depth):
        value = field(5, field(1, value))
    return value


def grouped(item: bytes, *, times: int = 1) -> bytes:
    """Return items of one scope of one resource, as spans, log records and metrics are."""
    return field(1, field(2, field(2, item) * times))


def span_bodies() -> list[tuple[str, bytes]]:
    """Return bodies for ``/v1/traces``: each small, or cheap to make."""
    identity = field(1, b"\x01" * 16) + field(2, b"\x02" * 8) + field(5, b"x")
    many = b"".join(field(9, field(1, b"k%d" % n) + field(2, field(1, b"v"))) for n in range(20_000))
    return [
        (PROTOBUF, grouped(identity + field(9, field(1, b"k") + field(2, nested_value(3_000))))),
        (PROTOBUF, grouped(identity + many)),
        (PROTOBUF, grouped(identity + field(11, b"") * 200_000)),
        (PROTOBUF, grouped(identity + field(13, b"") * 200_000)),
        (PROTOBUF, grouped(b"", times=400_000)),
        (PROTOBUF, field(1, b"") * 400_000),
        (PROTOBUF, field(1, field(2, b"") * 400_000)),
        (PROTOBUF, b"\xff" * 100_000),
        (PROTOBUF, b"\x0a\xff\xff\xff\xff\x0f" * 1_000),
        (PROTOBUF, b"\x0b" * 100_000),
        (JSON, b"[" * 200_000),
        (JSON, b'{"resourceSpans":' * 50_000),
        (JSON, b'{"resourceSpans":[' + b"{}," * 600_000 + b"{}]}"),
        (JSON, b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 300_000 + b"{}]}]}]}"),
        (JSON, b'{"a":' + b"9" * 1_000_000 + b"}"),
        (JSON, b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"' + b"\\u0000" * 100_000 + b'"}]}]}]}'),
        (JSON, b'{"' + b'a":1,"' * 500_000 + b'b":1}'),
        (JSON, b"\xef\xbb\xbf{}"),
    ]  # fmt: skip


def log_bodies() -> list[tuple[str, bytes]]:
    """Return bodies for ``/v1/logs``."""
    event = field(12, b"gen_ai.client.inference.operation.details") + field(9, b"\x01" * 16) + field(10, b"\x02" * 8)
    return [
        (PROTOBUF, grouped(field(5, nested_value(3_000)))),
        (PROTOBUF, grouped(b"", times=400_000)),
        (PROTOBUF, grouped(event, times=20_000)),
        (PROTOBUF, grouped(event + field(5, field(6, field(1, field(1, b"k") + field(2, field(1, b"v"))) * 50_000)))),
        (PROTOBUF, field(1, field(2, b"") * 400_000)),
        (PROTOBUF, field(1, b"") * 600_000),
        (JSON, b'{"resourceLogs":[' + b"{}," * 600_000 + b"{}]}"),
        (JSON, b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + b'{"body":{}},' * 200_000 + b"{}]}]}]}"),
        (
            JSON,
            b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":' + b'{"kvlistValue":{"values":[{"value":' * 900,
        ),
    ]


def metric_bodies() -> list[tuple[str, bytes]]:
    """Return bodies for ``/v1/metrics``."""
    buckets = field(6, b"\x00" * 8 * 100_000) + field(7, b"\x00" * 8 * 100_000)
    number = struct.pack("<d", float("nan"))
    point = b"\x19" + b"\x00" * 8 + b"\x21" + number
    counter = field(1, b"claude_code.token.usage")
    return [
        (PROTOBUF, grouped(counter + field(9, field(1, buckets)))),
        (PROTOBUF, grouped(counter + field(10, field(1, b"\x30\x7f" + field(8, field(2, b"\x01" * 500_000)))))),
        (PROTOBUF, grouped(counter + field(7, field(1, point) * 100_000))),
        (PROTOBUF, grouped(counter + field(7, field(1, b"") * 600_000))),
        (PROTOBUF, grouped(counter + field(11, field(1, field(6, b"") * 400_000)))),
        (PROTOBUF, grouped(counter + field(7, field(1, field(7, field(1, b"k") + field(2, nested_value(2_000))))))),
        (PROTOBUF, grouped(counter, times=200_000)),
        (PROTOBUF, field(1, b"") * 600_000),
        (JSON, b'{"resourceMetrics":[' + b"{}," * 600_000 + b"{}]}"),
        (JSON, _COST + b'{"asDouble":1e999},' * 100_000 + b"{}]}}]}]}]}"),
        (JSON, _COST + b'{"asInt":"' + b"9" * 100_000 + b'"}]}}]}]}]}'),
    ]  # fmt: skip


def coded(body: bytes) -> list[tuple[str, bytes]]:
    """Return ``body`` in every encoding, and in some that are broken."""
    once = gzip.compress(body, 6)
    return [
        ("identity", body),
        ("gzip", once),
        ("gzip", gzip.compress(once)),
        ("gzip", once[: len(once) // 2]),
        ("gzip", once + once[:100]),
        ("gzip", gzip.compress(b"") * 20_000 + once),
        ("deflate", zlib.compress(body)),
        ("gzip, gzip", once),
        ("br", once),
        ("zstd", body[:100_000]),
    ]


async def _send(hostile: Hostile, path: str, bodies: list[tuple[str, bytes]]) -> None:
    prepared = [(kind, coding, content) for kind, body in bodies for coding, content in coded(body)]
    hostile.dice.shuffle(prepared)
    rounds = itertools.cycle(prepared)

    async def act(client: httpx.AsyncClient) -> None:
        kind, coding, content = next(rounds)
        headers = {"Content-Type": kind}
        if coding != "identity":
            headers["Content-Encoding"] = coding
        await hostile.ask(client, "POST", path, content=content, headers=headers)

    await hostile.again_and_again(act, parallel=6)


async def spans(hostile: Hostile) -> None:
    """Send spans with too many parts, too deep ones, or none."""
    await _send(hostile, "/v1/traces", span_bodies())


async def explanations(hostile: Hostile) -> None:
    """Send the same to the route that explains mappings."""
    await _send(hostile, "/v1/traces/explain", span_bodies())


async def logs(hostile: Hostile) -> None:
    """Send log records likewise."""
    await _send(hostile, "/v1/logs", log_bodies())


async def metrics(hostile: Hostile) -> None:
    """Send metrics likewise: histograms of a hundred thousand buckets, points without end."""
    await _send(hostile, "/v1/metrics", metric_bodies())


async def protocols(hostile: Hostile) -> None:
    """Speak gRPC, HTTP/2, TLS, SMTP, a proxy's protocol, or nothing known, to the port."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
    upgrade = hostile.head(
        "GET", "/live", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
    )
    said = [
        preface + settings * 5_000,
        upgrade + preface + settings,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + hostile.head("GET", "/live"),
        b"\r\n\r\n\x00\r\nQUIT\n" + bytes(12) + hostile.head("GET", "/live"),
        b"EHLO x\r\n" * 1_000,
        bytes(100_000),
        b"\r\n" * 50_000,
        hostile.head("GET", "/live") * 2_000,
        hostile.head("POST", "/v1/traces", "Transfer-Encoding: chunked") + b"1;" + b"x" * 60_000,
        hostile.head("POST", "/v1/traces", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 30_000,
        hostile.head("POST", "/v1/traces", "Transfer-Encoding: chunked") + b"0\r\n" + b"a: b\r\n" * 30_000,
        hostile.head("POST", "/v1/traces", "Expect: 100-continue", "Content-Length: 8000000"),
        hostile.head("GET", "/api/v1/traces", *(f"X-{n}: y" for n in range(2_000))),
        hostile.head("GET", "/" + "%2e%2e/" * 2_000),
        hostile.head("POST", "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                     "Content-Type: application/grpc", "TE: trailers", "Content-Length: 5") + bytes(5),
    ]  # fmt: skip

    async def one() -> None:
        while True:
            sent = hostile.dice.choice(said)
            cut = hostile.dice.choice([len(sent), len(sent), hostile.dice.randrange(1, len(sent))])
            await hostile.speak(sent[:cut], receive=hostile.dice.random() * 0.2, reset=hostile.dice.random() < 0.5)

    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(one())
