#!/bin/sh
# Expected: LiteLLM reads OTEL_EXPORTER_OTLP_HEADERS as OpenTelemetry's exporters do, which decode its values (%20 is a space).
# Happens: the value is sent as it stands, so that the spelling that OpenTelemetry asks for, Bearer%20KEY, is no credential.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    litellm==1.83.0 opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

received = []
arrived = threading.Semaphore(0)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        received.append(self.headers["Authorization"])
        self.send_response(200)
        self.end_headers()
        arrived.release()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/v1/traces"
os.environ.update(
    OTEL_EXPORTER="otlp_http",
    OTEL_ENDPOINT=address,
    OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20example",
    OTEL_BSP_SCHEDULE_DELAY="100",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
)

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

plain = TracerProvider()
plain.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=address)))
with plain.get_tracer("plain").start_as_current_span("span"):
    pass
arrived.acquire(timeout=30)
by_opentelemetry = list(received)
received.clear()

import litellm

litellm.callbacks = ["otel"]
question = [{"role": "user", "content": "Weather?"}]
litellm.completion(model="openai/gpt-4o", messages=question, mock_response="Sunny.", api_key="none")
arrived.acquire(timeout=30)

print("litellm", version("litellm"), "opentelemetry-sdk", version("opentelemetry-sdk"))
print("OpenTelemetry's exporter sends:", by_opentelemetry)
print("LiteLLM sends:", received)
sys.exit(0 if by_opentelemetry == ["Bearer example"] and received[:1] == ["Bearer%20example"] else 1)
PYTHON
