#!/bin/sh
# Expected: a span has the attributes that it was started with, whichever package set up the tracing.
# Happens: under Langtrace's SDK they are gone, those of other instrumentations too: its sampler returns none of them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check langtrace-python-sdk==3.8.21 importlib-metadata==8.7.0 'setuptools<80'
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from langtrace_python_sdk import langtrace
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def attributes(tracer, exporter):
    with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}) as span:
        span.set_attribute("gen_ai.usage.input_tokens", 9)
    return dict(exporter.get_finished_spans()[-1].attributes)


plain = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(plain))
without = attributes(provider.get_tracer("any"), plain)
exporter = InMemorySpanExporter()
langtrace.init(api_key="none", custom_remote_exporter=exporter, batch=False)
under = attributes(trace.get_tracer("any"), exporter)
print("langtrace-python-sdk", version("langtrace-python-sdk"), "opentelemetry-sdk", version("opentelemetry-sdk"))
print("OpenTelemetry alone:", without)
print("under Langtrace:", under)
sys.exit(0 if "gen_ai.operation.name" in without and "gen_ai.operation.name" not in under else 1)
PYTHON
