#!/bin/sh
# Expected: LlamaIndex's own OpenTelemetry tracing tells of a streamed answer what it tells of a whole one: the answer, its usage.
# Happens: the span of a stream ends before the event that has them, so it has the start event only, whatever the stream gave.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    llama-index-core==0.14.25 llama-index-observability-otel==0.7.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.observability.otel import LlamaIndexOpenTelemetry
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
LlamaIndexOpenTelemetry(span_exporter=exporter, span_processor="simple").start_registering()
model = MockLLM()
question = [ChatMessage(role="user", content="Weather?")]


def events_of(name):
    spans = {span.name: [event.name for event in span.events] for span in exporter.get_finished_spans()}
    exporter.clear()
    return spans[f"MockLLM.{name}"]


model.chat(question)
whole = events_of("chat")
parts = list(model.stream_chat(question))
streamed = events_of("stream_chat")
print("llama-index-core", version("llama-index-core"))
print("llama-index-observability-otel", version("llama-index-observability-otel"))
print("chat:", whole)
print("stream_chat, read to its end in", len(parts), "parts:", streamed)
is_so = whole == ["LLMChatStartEvent", "LLMChatEndEvent"] and streamed == ["LLMChatStartEvent"] and len(parts) > 1
sys.exit(0 if is_so else 1)
PYTHON
