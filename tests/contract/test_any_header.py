"""No value of a header causes a server error, at any route: it is taken, refused, or of no meaning."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from server.rest.openapi.document import build_document
from tests.conftest import AppFactory, AppServer, ProjectMaker
from tests.contract.number_places import Sent, requests_with_numbers

VALUES: Final = (
    b"\xff\xfe", b"", b"*", b'"a', b"a" * 4000, b"a,b,,c", b"gzip;q=nan", b"application/json; charset=rot13",
    b"application/json; charset=idna", b"application/json; charset=\xff", b"text/html;charset=hex",
    b"multipart/form-data", b"application/x-www-form-urlencoded; charset=undefined", b"bytes=9-1,2-3",
    b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00", b"1" * 400, b"-1", b"http://[::1", b"http://\xc3\xa9", b"null",
    b"100-continue", b"Basic \xff", b"Bearer x y", b"Bearer ", b"=?utf-8?q?x?=", b"Mon, 32 Foo 2026 99:99:99 GMT",
    b"websocket", b"h2c", b"keep-alive, upgrade, close", b'for="_x";;;',
)  # fmt: skip
NAMES: Final = (
    "If-None-Match", "Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Content-Encoding",
    "Authorization", "X-Request-ID", "traceparent", "tracestate", "Origin", "Range", "Expect", "Upgrade", "Forwarded",
    "X-Forwarded-For", "X-Forwarded-Proto", "Last-Event-ID", "Idempotency-Key", "Prefer", "X-Grafana-Id",
    "X-Observatory-Project", "Mcp-Session-Id", "MCP-Protocol-Version", "Access-Control-Request-Method", "Host",
    "Sec-WebSocket-Key", "Cache-Control", "User-Agent", "If-Modified-Since", "Connection",
)  # fmt: skip
OF_AGENTS: Final = Sent("post", "/mcp", "application/json", '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}')
EACH: Final = 8
DOCUMENTED: Final = (503, 504)


async def test_no_header_fails_the_server(
    start_app: AppFactory, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> None:
    await project("headers")
    server = await start_app()
    own = {
        "Host": b"x",
        "Connection": b"close",
        "Authorization": bearer("admin", ["headers"])["Authorization"].encode(),
    }
    requests = list(odd_requests(server, own))
    assert len(requests) > 900
    assert any(b"\r\nAccept: \xff\xfe\r\n" in sent for sent in requests)
    waiting, failed = iter(requests), []

    async def ask() -> None:
        for sent in waiting:
            status = await _status(server, sent)
            if status >= 500 and status not in DOCUMENTED:
                failed.append(f"{status} for {sent!r}")

    await asyncio.gather(*(ask() for _ in range(6)))
    assert failed == []


def odd_requests(server: AppServer, own: dict[str, bytes]) -> Iterator[bytes]:
    """Give requests to each route, each with one odd header; in the end each name had each value."""
    odd = itertools.cycle(zip(itertools.cycle(NAMES), itertools.cycle(VALUES[:-1]), strict=False))
    seen = set()
    document = build_document(server.app)
    bare = [Sent(method, path) for path, operations in document["paths"].items() for method in operations]
    for sent in (OF_AGENTS, *requests_with_numbers(document, "headers", 1), *bare):
        place = (sent.method, sent.path.partition("?")[0])
        if place in seen or sent.method == "delete" or sent.path.endswith("/live"):
            continue
        seen.add(place)
        body = (sent.body or "").encode()
        for name, value in itertools.islice(odd, EACH):
            fields = {**own, **({"Content-Type": sent.content_type.encode()} if sent.content_type else {})}
            if body:
                fields["Content-Length"] = b"%d" % len(body)
            fields[name] = value
            lines = b"".join(b"%b: %b\r\n" % (field.encode(), text) for field, text in fields.items())
            yield b"%b %b HTTP/1.1\r\n%b\r\n%b" % (sent.method.upper().encode(), sent.path.encode(), lines, body)


async def _status(server: AppServer, sent: bytes) -> int:
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        async with asyncio.timeout(30):
            line = await reader.readline()
        return int(line[9:12] or 0)
    finally:
        writer.transport.abort()
