#!/bin/sh
# Expected: the span that Logfire's OpenAI instrumentation has for a streamed answer lasts as long as the stream.
# Happens: the one with the answer begins and ends at the stream's end; its length is an attribute, and the other one ends first.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check logfire==5.4.0 openai==3.54.0
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import logfire
from openai import OpenAI
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

PART = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4.1-mini"}


class Vendor(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for word, end in (("It", None), (" is", None), (" sunny.", "stop")):
            choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": end}
            self.wfile.write(f"data: {json.dumps({**PART, 'choices': [choice]})}\n\n".encode())
            self.wfile.flush()
            time.sleep(0.3)
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


vendor = HTTPServer(("127.0.0.1", 0), Vendor)
threading.Thread(target=vendor.serve_forever, daemon=True).start()
exporter = InMemorySpanExporter()
logfire.configure(
    send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(exporter)]
)
client = OpenAI(api_key="none", base_url=f"http://127.0.0.1:{vendor.server_port}/v1")
logfire.instrument_openai(client)
began = time.monotonic()
question = [{"role": "user", "content": "Weather?"}]
for _ in client.chat.completions.create(model="gpt-4.1-mini", messages=question, stream=True):
    pass
lasted = time.monotonic() - began
print("logfire", version("logfire"), "openai", version("openai"))
print(f"the stream lasted {lasted:.1f} s")
spans = {}
for span in exporter.get_finished_spans():
    seconds = (span.end_time - span.start_time) / 1e9
    spans[span.name] = seconds
    print(f"{span.name!r}: {seconds:.2f} s, duration: {span.attributes.get('duration')}")
answered = [seconds for name, seconds in spans.items() if name.startswith("streaming response")]
sys.exit(0 if lasted > 0.6 and answered == [0.0] and max(spans.values()) < lasted / 2 else 1)
PYTHON
