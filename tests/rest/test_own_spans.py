"""The server's own requests become spans, in the trace of the caller, at the endpoint that is set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from server import __version__
from server.telemetry import tracing
from tests.conftest import AppFactory

Bearer = Callable[..., dict[str, str]]
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_a_request_is_a_span_of_the_callers_trace_and_receiving_telemetry_is_none(
    start_app: AppFactory, bearer: Bearer
) -> None:
    bodies: list[bytes] = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    sink = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    Thread(target=sink.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        server = await start_app(
            own_otlp_endpoint=f"http://127.0.0.1:{sink.server_port}/v1/traces",
        )
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            headers = {**bearer(), "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
            await http.get("/api/v1/traces/unknown?project_id=secret", headers=headers)
            await http.post("/v1/traces", content=b"", headers={**headers, "Content-Type": "application/x-protobuf"})
        await asyncio.to_thread(server.app.ctx.own_spans.force_flush)
    finally:
        sink.shutdown()
        sink.server_close()
    (resource,) = [part for body in bodies for part in ExportTraceServiceRequest.FromString(body).resource_spans]
    about = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert about["service.version"] == __version__
    (scope,) = resource.scope_spans
    assert (scope.scope.version, scope.schema_url) == (__version__, tracing.SCHEMA_URL)
    (span,) = scope.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert span.name == "GET /api/v1/traces/<trace_id:str>"
    attributes = {item.key: item.value for item in span.attributes}
    assert attributes["http.response.status_code"].int_value == 403
    assert attributes["url.path"].string_value == "/api/v1/traces/unknown"
    assert "secret" not in str(span), "a query may hold what a person wrote"
