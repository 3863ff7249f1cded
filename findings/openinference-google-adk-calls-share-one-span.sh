#!/bin/sh
# Expected: an agent that calls its model twice, round a tool, has two spans of model calls, each with its tokens, as ADK alone makes.
# Happens: with OpenInference for Google ADK both calls are written into one span, the agent's; the first one's tokens are overwritten.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    google-adk==2.13.0 openinference-instrumentation-google-adk==1.0.5
cat > "$folder/run.py" <<'PYTHON'
import asyncio
import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
if sys.argv[1] == "openinference":
    from openinference.instrumentation.google_adk import GoogleADKInstrumentor

    GoogleADKInstrumentor().instrument(tracer_provider=provider)

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types


class Model(BaseLlm):
    async def generate_content_async(self, llm_request, stream=False):
        first = len(llm_request.contents) == 1
        call = types.FunctionCall(name="get_weather", args={"city": "Paris"})
        part = types.Part(function_call=call) if first else types.Part(text="Sunny.")
        counts = types.GenerateContentResponseUsageMetadata(
            prompt_token_count=1000 if first else 2000, candidates_token_count=10
        )
        yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=counts)


def get_weather(city: str) -> str:
    """Tell the weather."""
    return "sunny"


async def main():
    runner = InMemoryRunner(agent=LlmAgent(name="weather", model=Model(model="m"), tools=[get_weather]), app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="ann")
    asked = types.Content(role="user", parts=[types.Part(text="How is the weather?")])
    async for _ in runner.run_async(user_id="ann", session_id=session.id, new_message=asked):
        pass


asyncio.run(main())
KEY = "gen_ai.usage.input_tokens"
print(json.dumps([[span.name, span.attributes[KEY]] for span in exporter.get_finished_spans() if KEY in span.attributes]))
PYTHON
alone=$("$folder/venv/bin/python" "$folder/run.py" alone 2>"$folder/log" | tail -1)
beside=$("$folder/venv/bin/python" "$folder/run.py" openinference 2>"$folder/log" | tail -1)
echo "the model was asked twice, with 1000 and 2000 tokens"
echo "ADK alone:          $alone"
echo "with OpenInference: $beside"
test "$alone" = '[["generate_content m", 1000], ["generate_content m", 2000]]'
test "$beside" = '[["invoke_agent weather", 2000]]'
