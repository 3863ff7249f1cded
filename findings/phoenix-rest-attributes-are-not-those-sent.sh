#!/bin/sh
# Expected: a span read from Phoenix's REST API has the attributes that were sent, or at least those that its data frame of the same span has.
# Happens: openinference.span.kind is not among them, and metadata, sent as one JSON text, is one attribute for each of its members; in the data frame both are whole.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check arize-phoenix==20.26.1 arize-phoenix-client==3.5.0
export PHOENIX_WORKING_DIR="$folder" PHOENIX_HOST=127.0.0.1 PHOENIX_TELEMETRY_ENABLED=false
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from phoenix.client import Client

SENT = {"openinference.span.kind": "CHAIN", "metadata": json.dumps({"tier": "gold"}), "input.value": "Where is it?"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def read(path):
    with urllib.request.urlopen(address + path) as answer:
        return answer.read()


def until(condition):
    for _ in range(180):
        try:
            if found := condition():
                return found
        except OSError:
            pass
        time.sleep(1)
    sys.exit("no answer within three minutes")


ports = {"PHOENIX_PORT": free_port(), "PHOENIX_GRPC_PORT": free_port()}
address = f"http://127.0.0.1:{ports['PHOENIX_PORT']}"
with open(os.path.join(sys.argv[1], "log"), "w") as log:
    server = subprocess.Popen(
        [sys.executable, "-m", "phoenix.server.main", "serve"], env={**os.environ, **ports}, stdout=log, stderr=log
    )
try:
    until(lambda: read("/healthz") is not None)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{address}/v1/traces")))
    with provider.get_tracer("shop").start_as_current_span("support", attributes=SENT):
        pass
    provider.shutdown()
    (span,) = until(lambda: json.loads(read("/v1/projects/default/spans"))["data"])
    row = Client(base_url=address).spans.get_spans_dataframe(project_identifier="default").iloc[0]
finally:
    server.terminate()
    server.wait()
rest = span["attributes"]
frame = {name.removeprefix("attributes."): row[name] for name in row.index if name.startswith("attributes.")}
print("arize-phoenix", version("arize-phoenix"))
print("sent:      ", json.dumps(SENT, sort_keys=True))
print("REST:      ", json.dumps(rest, sort_keys=True))
print("data frame:", json.dumps(frame, sort_keys=True))
as_seen = (
    "openinference.span.kind" not in rest
    and "metadata" not in rest
    and rest.get("metadata.tier") == "gold"
    and frame.get("openinference.span.kind") == "CHAIN"
    and frame.get("metadata") == {"tier": "gold"}
)
sys.exit(0 if as_seen else 1)
PYTHON
