#!/bin/sh
# Expected: LangWatch's tracing of OpenAI calls reports the cached tokens of the answer, as it reports its reasoning tokens.
# Happens: the metrics have prompt, completion and reasoning tokens only, so that no backend can price a cached prompt rightly.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check langwatch==1.4.0 openai==3.57.0
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version

import httpx
import langwatch
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

USAGE = {
    "prompt_tokens": 1200, "completion_tokens": 30, "total_tokens": 1230,
    "prompt_tokens_details": {"cached_tokens": 1000},
    "completion_tokens_details": {"reasoning_tokens": 10},
}  # fmt: skip
ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1780000000, "model": "gpt-4o-2024-08-06", "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Sunny."}, "finish_reason": "stop"}],
}  # fmt: skip

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
langwatch.setup(api_key="none", tracer_provider=provider, skip_open_telemetry_setup=True)
vendor = httpx.MockTransport(lambda request: httpx.Response(200, json=ANSWER))
client = openai.OpenAI(api_key="none", http_client=httpx.Client(transport=vendor))


@langwatch.trace(name="ask")
def ask():
    langwatch.get_current_trace().autotrack_openai_calls(client)
    return client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Weather?"}])


print("langwatch", version("langwatch"))
print("the vendor said:", json.dumps(ask().usage.to_dict()))
(call,) = [span for span in exporter.get_finished_spans() if span.attributes.get("langwatch.span.type") == "llm"]
said = {key: value for key, value in call.attributes.items() if "usage" in key or "metrics" in key}
print("the span says:", said)
metrics = json.loads(call.attributes["langwatch.metrics"])
lost = not any("cache" in key for key in (*said, *metrics)) and metrics["reasoning_tokens"] == 10
sys.exit(0 if lost and metrics["prompt_tokens"] == 1200 else 1)
PYTHON
