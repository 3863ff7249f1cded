"""Bytes on the wire before any handler runs. Raw sockets, since clients correct mistakes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable

import asyncpg
import pytest

from datasource.json.routes import MAX_BODY_BYTES
from server.errors import InvalidParameter
from server.http.body_limit import body_limit
from server.http.path_value import path_value
from server.http.wire.request_head import joined_url, read_fields
from tests.conftest import AppServer, ProjectMaker
from tests.ingest.otlp_payloads import export_request

Bearer = Callable[..., dict[str, str]]

HEAD = b"GET /live HTTP/1.1\r\nHost: x"
SMUGGLED = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


async def exchange(server: AppServer, sent: bytes) -> bytes:
    """Return what the server says to ``sent`` until it closes, or, where nothing makes it close, for a moment."""
    host, _, port = server.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    await writer.drain()
    received = b""
    try:
        async with asyncio.timeout(20 if b"HTTP/1.0" in sent or b"Connection: close" in sent else 0.7):
            while chunk := await reader.read(65536):
                received += chunk
    except TimeoutError:
        pass
    writer.close()
    return received


async def exchange_all(server: AppServer, cases: Iterable[bytes]) -> dict[bytes, bytes]:
    """Send each case on a connection of its own, all at once; return the answers."""
    listed = list(cases)
    return dict(zip(listed, await asyncio.gather(*(exchange(server, case) for case in listed)), strict=True))


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def search_head(bearer: Bearer) -> bytes:
    """Return the head, without its end, of a request that has a body and may come in."""
    token = bearer("developer", ["alpha"])["Authorization"].encode()
    return b"POST /api/v1/traces/search HTTP/1.1\r\nHost: x\r\nAuthorization: " + token + b"\r\n"


FRAMING = (
    b"Content-Length : %d",
    b" Content-Length: %d",
    b"Content-Length\t: %d",
    b"Content-Length: +%d",
    b"Content-Length: -%d",
    b"Content-Length: 0x%d",
    b"Content-Length: %d_0",
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: %d\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: %d",
    b"Transfer-Encoding: Chunked\r\nX: %d",
    b"Transfer-Encoding: chunked, identity\r\nX: %d",
    b"Transfer-Encoding: identity\r\nX: %d",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nX: %d",
)


async def test_framing_that_readers_disagree_on_is_refused_once(app_server: AppServer) -> None:
    cases = (b"POST /live HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (case % len(SMUGGLED), SMUGGLED) for case in FRAMING)
    for sent, received in (await exchange_all(app_server, cases)).items():
        assert statuses(received) == [400], sent
        assert b"connection: close" in received.lower()
        assert b"application/problem+json" in received


async def test_a_chunk_size_that_is_not_plain_hexadecimal_is_refused(app_server: AppServer, bearer: Bearer) -> None:
    head = search_head(bearer) + b"Transfer-Encoding: chunked\r\n\r\n"
    sizes = (b"0x5", b"-1", b"+5", b" 5", b"5 ", b"f" * 17, b"", b"g")
    cases = (head + size + b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED for size in sizes)
    for sent, received in (await exchange_all(app_server, cases)).items():
        assert statuses(received) == [400], sent


async def test_a_well_formed_chunked_body_is_read_to_its_end(app_server: AppServer, bearer: Bearer) -> None:
    head = search_head(bearer) + b"Transfer-Encoding: chunked\r\n\r\n"
    received = await exchange(app_server, head + b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED.replace(b"1.1", b"1.0"))
    assert len(statuses(received)) == 2


MALFORMED = (
    HEAD + b"\r\nX-A: a\nb",
    HEAD + b"\r\nX-A: a\rb",
    HEAD + b"\r\nX-A: a\x00b",
    HEAD + b"\r\nX-A: a\x1bb",
    HEAD + b"\r\nX-A: a\r\n folded",
    HEAD + b"\r\n: no name",
    HEAD + b"\r\nno colon",
    HEAD + b"\r\nHost: x",
    HEAD + b"\r\nAuthorization: Bearer \xff\xfe",
    HEAD + b"\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b",
    HEAD + b"\r\na: b" * 101,
    b"GET /live HTTP/1.1",
    b"GET /live HTTP/1.1\r\nHost:",
    b"GET /live HTTP/1.1\r\nHost: x/../y",
    b"GET /live HTTP/1.1\r\nHost: u@x",
    b"GET /live HTTP/2.0\r\nHost: x",
    b"GET  /live HTTP/1.1\r\nHost: x",
    b"GET /li\xffve HTTP/1.1\r\nHost: x",
    b"GET live HTTP/1.1\r\nHost: x",
    b"GET * HTTP/1.1\r\nHost: x",
)


async def test_a_malformed_head_is_a_400_and_the_end_of_the_connection(app_server: AppServer) -> None:
    cases = (head + b"\r\n\r\n" + SMUGGLED for head in MALFORMED)
    for sent, received in (await exchange_all(app_server, cases)).items():
        assert statuses(received) == [400], sent


async def test_a_well_formed_head_passes_and_the_connection_stays_open(app_server: AppServer) -> None:
    received = await exchange(app_server, (HEAD + b"\r\nX-Tab:\ta \xe9 b\r\n\r\n") * 2)
    assert statuses(received) == [200, 200]


async def test_the_header_lines_of_one_request_are_not_taken_for_those_of_the_next(
    app_server: AppServer, bearer: Bearer
) -> None:
    """A parsed head is reused for requests that repeat it, and for no others."""
    token = bearer("developer", ["alpha"])["Authorization"].encode()
    line = b"GET /api/v1/projects HTTP/1.1\r\nHost: x\r\n"
    known = line + b"Authorization: " + token + b"\r\n\r\n"
    nobody = line + b"\r\n"
    received = await exchange(app_server, known + known + nobody + known + b"GET /live HTTP/1.0\r\n\r\n")
    assert statuses(received) == [200, 200, 401, 200, 200]
    assert received.lower().count(b"connection: close") == 1


async def test_the_address_of_one_request_is_not_taken_for_that_of_the_next(app_server: AppServer) -> None:
    paths = (b"/live", b"/live", b"/nowhere", b"/live", b"//api/v1//traces", b"/live")
    sent = b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths)
    assert statuses(await exchange(app_server, sent)) == [200, 200, 404, 200, 401, 200]


async def test_the_same_headers_stand_with_and_without_a_body(app_server: AppServer) -> None:
    get = await exchange(app_server, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await exchange(app_server, b"HEAD /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    names = [[line.split(b":")[0] for line in part.partition(b"\r\n\r\n")[0].split(b"\r\n")] for part in (get, head)]
    assert names[0] == names[1]
    assert b"content-length: %d\r\n" % len(get.partition(b"\r\n\r\n")[2]) in head
    tag = next(line for line in get.split(b"\r\n") if line.lower().startswith(b"etag: "))[6:]
    same = await exchange(app_server, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nIf-None-Match: " + tag + b"\r\n\r\n")
    assert statuses(same) == [304]
    assert same.endswith(b"\r\n\r\n")
    assert b"content-length" not in same.lower()
    assert b"x-request-id: " in same


async def test_an_oversized_head_is_refused(app_server: AppServer) -> None:
    cases = (
        HEAD + b"\r\nX-Long: " + b"a" * 8193 + b"\r\n\r\n",
        HEAD + b"\r\na: b" * 1000 + b"\r\n\r\n",
        b"GET /live?" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    for received in (await exchange_all(app_server, cases)).values():
        assert statuses(received)[0] in (400, 413, 414, 431)
        assert (statuses(received)[0] == 413) == (b"The head of the request is larger" in received)


async def test_methods_that_no_route_takes_are_405_with_allow(app_server: AppServer) -> None:
    cases = (f"{method} /live HTTP/1.1\r\nHost: x\r\n\r\n".encode() for method in ("PATCH", "DELETE", "PUT", "POST"))
    for received in (await exchange_all(app_server, cases)).values():
        assert statuses(received) == [405]
        assert b"\r\nallow: " in received.lower()
    cases = (f"{method} /live HTTP/1.1\r\nHost: x\r\n\r\n".encode() for method in ("TRACE", "CONNECT", "BREW", "get"))
    for received in (await exchange_all(app_server, cases)).values():
        assert statuses(received) in ([405], [400])


async def test_head_answers_like_get_without_a_body(app_server: AppServer) -> None:
    received = await exchange(app_server, b"HEAD /live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n")


async def test_options_names_the_methods(app_server: AppServer) -> None:
    received = await exchange(app_server, b"OPTIONS /live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(received) == [204]
    assert b": GET, HEAD, OPTIONS\r\n" in received


async def test_a_method_override_is_ignored(app_server: AppServer) -> None:
    received = await exchange(app_server, HEAD + b"\r\nX-HTTP-Method-Override: DELETE\r\n\r\n")
    assert statuses(received) == [200]


DISGUISED = (
    "//live",
    "/live/",
    "/live;x=1",
    "/live%00",
    "/LIVE",
    "/api/../live",
    "/%6cive/",
    "/api/v1/traces/%2e%2e%2flive",
    "/api/v1/traces/..%2f..%2f..%2flive",
)


async def test_a_disguised_path_reaches_no_public_handler(app_server: AppServer) -> None:
    cases = (f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in DISGUISED)
    for sent, received in (await exchange_all(app_server, cases)).items():
        assert statuses(received)[0] in (400, 401, 404), sent


async def test_absurd_ranges_and_encodings_are_ignored(app_server: AppServer) -> None:
    head = HEAD + b"\r\nRange: bytes=" + b"0-1," * 500 + b"\r\nAccept-Encoding: " + b"gzip, " * 500 + b"\r\n\r\n"
    assert statuses(await exchange(app_server, head)) == [200]


async def test_a_request_id_is_echoed_only_when_it_is_harmless(app_server: AppServer) -> None:
    good = await exchange(app_server, HEAD + b"\r\nX-Request-ID: abc_DEF-12345\r\n\r\n")
    assert b"x-request-id: abc_DEF-12345\r\n" in good
    bad = (b"short", b"a" * 65, b"has space 123", b"caf\xe9caf\xe9caf\xe9", b"<script>alert</script>")
    received = await exchange_all(app_server, (HEAD + b"\r\nX-Request-ID: " + sent + b"\r\n\r\n" for sent in bad))
    for sent, answer in zip(bad, received.values(), strict=True):
        assert answer.lower().count(b"x-request-id: ") == 1
        assert sent not in answer


async def test_a_body_above_the_routes_cap_is_413_before_it_is_read(app_server: AppServer, bearer: Bearer) -> None:
    head = search_head(bearer)
    received = await exchange(app_server, head + b"Content-Length: 1048577\r\n\r\nabc")
    assert statuses(received) == [413]
    received = await exchange(app_server, head + b"Transfer-Encoding: chunked\r\n\r\n100001\r\nabc")
    assert statuses(received) == [413]


async def test_who_asks_before_sending_a_body_gets_all_headers_of_the_refusal(
    app_server: AppServer, bearer: Bearer
) -> None:
    received = await exchange(
        app_server, search_head(bearer) + b"Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n"
    )
    assert statuses(received)[-1] == 413
    for header in (b"x-request-id: ", b"x-ratelimit-remaining: ", b"content-type: application/problem+json"):
        assert received.lower().count(header) == 1


def ingest_head(bearer: Bearer, size: int) -> bytes:
    """Return the head of a request that brings ``size`` bytes of spans."""
    token = bearer("developer", ["alpha"])["Authorization"].encode()
    return (
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nAuthorization: %b\r\n"
        b"Content-Length: %d\r\n" % (token, size)
    )


@pytest.mark.parametrize("piece", [1_000, 70_000, 1_000_000])
async def test_a_body_in_pieces_of_any_size_is_read_whole_and_no_further(
    app_server: AppServer, bearer: Bearer, project: ProjectMaker, owner: asyncpg.Connection, piece: int
) -> None:
    await project("alpha")
    body = export_request(30, attributes={"note": "n" * 9_000}).SerializeToString()
    sent = ingest_head(bearer, len(body)) + b"\r\n" + body + SMUGGLED
    host, _, port = app_server.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for start in range(0, len(sent), piece):
        writer.write(sent[start : start + piece])
        await writer.drain()
        await asyncio.sleep(0)
    received = b""
    while len(statuses(received)) < 2:
        received += await asyncio.wait_for(reader.read(65536), 5)
    writer.close()
    assert statuses(received) == [200, 200]
    assert await owner.fetchval("SELECT count(*) FROM llm_traces") == 30


async def test_who_asks_first_is_told_to_send_the_body(
    app_server: AppServer, bearer: Bearer, project: ProjectMaker
) -> None:
    await project("alpha")
    body = export_request(2).SerializeToString()
    host, _, port = app_server.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(ingest_head(bearer, len(body)) + b"Expect: 100-continue\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_sender_that_goes_away_within_a_body_holds_no_memory(
    app_server: AppServer, bearer: Bearer, project: ProjectMaker
) -> None:
    await project("alpha")
    bodies = app_server.services.bodies
    host, _, port = app_server.base_url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(ingest_head(bearer, 500_000) + b"\r\n" + b"x" * 200_000)
    await writer.drain()
    async with asyncio.timeout(5):
        while not bodies.held:
            await asyncio.sleep(0.01)
        writer.close()
        while bodies.held:
            await asyncio.sleep(0.01)


def test_body_caps_by_path() -> None:
    assert body_limit("/api/v1/traces/search") == 1 << 20
    assert body_limit("/api/v1/keys") == 64 << 10
    assert body_limit("/v1/traces") > 8 << 20


@pytest.mark.parametrize("host", [b"x", b"x:80", b"[::1]:8080", b"127.0.0.1", b"a_b.example"])
def test_ordinary_hosts_pass(host: bytes) -> None:
    assert read_fields(b"Host: " + host, is_http_10=False).headers["host"] == host.decode()


def test_http_10_needs_no_host_and_has_no_chunks() -> None:
    assert not read_fields(b"", is_http_10=True).headers
    with pytest.raises(ValueError, match="Transfer-Encoding"):
        read_fields(b"Transfer-Encoding: chunked", is_http_10=True)


def test_a_path_segment_is_decoded_once_and_strictly() -> None:
    assert path_value("a%2Fb%20c", "session_id") == "a/b c"
    assert path_value("%252F", "session_id") == "%2F"
    assert path_value("caf%C3%A9", "session_id") == "café"
    for bad in ("%ff", "a%00b", "a%0Ab", "%C3"):
        with pytest.raises(InvalidParameter):
            path_value(bad, "session_id")


@pytest.mark.parametrize(
    ("method", "sent", "meant"),
    [
        ("GET", "//api/v1/traces?limit=1", "/api/v1/traces?limit=1"),
        ("GET", "//api//v1//traces/?where=//", "/api/v1/traces?where=//"),
        ("POST", "/api/v1//metrics/query/", "/api/v1/metrics/query"),
        ("GET", "/jaeger//api/services", "/jaeger/api/services"),
        ("GET", "/tempo//api/echo", "/tempo/api/echo"),
        ("GET", "/grafana/", "/grafana"),
        ("POST", "/grafana//query", "/grafana/query"),
        ("DELETE", "//api/v1/keys/", "/api/v1/keys/"),
        ("GET", "/jaeger/api/services//operations", "/jaeger/api/services//operations"),
        ("GET", "/api/v1/traces/a%2F%2Fb", "/api/v1/traces/a%2F%2Fb"),
        ("GET", "//metrics", "//metrics"),
        ("GET", "/metrics/", "/metrics/"),
        ("GET", "/grafanas//x/", "/grafanas//x/"),
        ("POST", "/oauth//token", "/oauth//token"),
    ],
)
def test_slashes_that_joining_addresses_makes_are_taken_out(method: str, sent: str, meant: str) -> None:
    assert joined_url(sent.encode(), method) == meant.encode()


def test_a_panel_may_send_what_the_data_source_says_it_takes() -> None:
    assert body_limit("/grafana/query") == MAX_BODY_BYTES


async def test_a_sender_of_grpc_is_told_to_use_http_and_the_log_says_so(
    app_server: AppServer, caplog: pytest.LogCaptureFixture
) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with caplog.at_level(logging.WARNING, "observatory"):
        received = [await exchange(app_server, preface) for _ in range(2)]
    assert all(statuses(answer) == [400] for answer in received)
    body = json.loads(received[0].partition(b"\r\n\r\n")[2])
    assert body["code"] == "wrong_protocol"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in body["detail"]
    lines = [record for record in caplog.records if "HTTP/2" in record.getMessage()]
    assert len(lines) == 1  # not one for each attempt
    assert vars(lines[0])["client_address"] == "127.0.0.1"
