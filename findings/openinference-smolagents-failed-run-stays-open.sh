#!/bin/sh
# Expected: a run of an agent that fails ends its span, so that it is exported as an error, and the next run begins a trace of its own.
# Happens: OpenInference for smolagents ends neither span nor context: the failed run is never exported, the next one lies in its trace.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    smolagents==1.26.0 openinference-instrumentation-smolagents==0.1.43 opentelemetry-sdk==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
SmolagentsInstrumentor().instrument(tracer_provider=provider)

from smolagents import ChatMessage, Model, ToolCallingAgent


class Broken(Model):
    def generate(self, messages, **_):
        raise ConnectionError("the vendor is away")


class Working(Model):
    def generate(self, messages, **_):
        answer = {"name": "final_answer", "arguments": {"answer": "Sunny."}}
        call = {"id": "call_1", "type": "function", "function": answer}
        return ChatMessage.from_dict({"role": "assistant", "content": "", "tool_calls": [call]})


def run(name, model):
    exporter.clear()
    agent = ToolCallingAgent(tools=[], model=model, name=name, max_steps=1, verbosity_level=0)
    try:
        agent.run("How is the weather?")
    except Exception as error:
        print(name, "failed:", type(error).__name__)
    spans = exporter.get_finished_spans()
    print(name, "exported", [span.name for span in spans])
    return spans


before = run("before", Working("model"))
failed = run("failing", Broken("model"))
after = run("after", Working("model"))
print("smolagents", version("smolagents"), version("openinference-instrumentation-smolagents"))
lost = "before.run" in [span.name for span in before] and "failing.run" not in [span.name for span in failed]
adopted = {span.context.trace_id for span in after} == {span.context.trace_id for span in failed}
alone = {span.context.trace_id for span in before} != {span.context.trace_id for span in failed}
print("span of the failed run is lost:", lost, "| the next run is in its trace:", adopted and alone)
sys.exit(0 if lost and adopted and alone else 1)
PYTHON
