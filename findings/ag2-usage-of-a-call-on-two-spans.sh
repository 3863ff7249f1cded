#!/bin/sh
# Expected: AG2's telemetry reports the tokens of a model call once, on the span of the call.
# Happens: a second span, "record_usage model_call", has the same gen_ai.usage.* beside it: whoever adds up tokens by span counts each call twice.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'ag2[openai,tracing]==1.2.1'
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from ag2 import Agent
from ag2.config import OpenAIConfig
from ag2.middleware.builtin.telemetry import TelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

USAGE = {"prompt_tokens": 900, "completion_tokens": 210, "total_tokens": 1110}
ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1780000000, "model": "gpt-4.1-mini-2025-04-14", "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "In Lyon."}, "finish_reason": "stop"}],
}  # fmt: skip


class Vendor(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


vendor = HTTPServer(("127.0.0.1", 0), Vendor)
threading.Thread(target=vendor.serve_forever, daemon=True).start()
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
agent = Agent(
    "tracker",
    config=OpenAIConfig(model="gpt-4.1-mini", api_key="none", base_url=f"http://127.0.0.1:{vendor.server_port}/v1"),
    middleware=[TelemetryMiddleware(tracer_provider=provider, agent_name="tracker")],
)
asyncio.run(agent.ask("where is parcel 12"))
print("ag2", version("ag2"))
print("calls of the model: 1; tokens by the vendor:", USAGE["total_tokens"])
found = []
for span in exporter.get_finished_spans():
    counts = [span.attributes.get(f"gen_ai.usage.{side}_tokens") for side in ("input", "output")]
    print(f"{span.name}: {counts}")
    found += [span.name] if counts == [900, 210] else []
sys.exit(0 if len(found) == 2 and "record_usage model_call" in found else 1)
PYTHON
