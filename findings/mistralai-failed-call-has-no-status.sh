#!/bin/sh
# Expected: a chat that Mistral's own client could not get answered (HTTP 500) ends as a span with the status ERROR and the HTTP status.
# Happens: its span has neither status, exception nor http.response.status_code, so that to every backend the call looks like a success.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mistralai==3.7.0 opentelemetry-sdk==1.45.2
MISTRAL_SDK_TELEMETRY=global "$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from threading import Thread

from mistralai.client import Mistral
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1780000000, "model": "mistral-large-latest",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Sunny."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
}  # fmt: skip


class Vendor(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fails = request["model"] == "broken"
        body = json.dumps({"message": "no capacity"} if fails else ANSWER).encode()
        self.send_response(500 if fails else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = HTTPServer(("127.0.0.1", 0), Vendor)
Thread(target=server.serve_forever, daemon=True).start()
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
client = Mistral(api_key="none", server_url=f"http://127.0.0.1:{server.server_port}")
question = [{"role": "user", "content": "How is the weather?"}]
client.chat.complete(model="mistral-large-latest", messages=question)
try:
    client.chat.complete(model="broken", messages=question)
    raised = "nothing"
except Exception as error:
    raised = type(error).__name__

print("mistralai", version("mistralai"))
told = {}
for span in exporter.get_finished_spans():
    told[span.name] = (
        span.status.status_code.name,
        span.attributes.get("http.response.status_code"),
        [event.name for event in span.events],
    )
    print(span.name, "status, HTTP status, events:", *told[span.name])
print("raised to the caller of the second:", raised)
sys.exit(0 if told["chat mistral-large-latest"][0] == "OK" and told["chat broken"] == ("UNSET", None, []) else 1)
PYTHON
