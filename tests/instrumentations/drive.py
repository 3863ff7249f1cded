"""Drives one real client under one real instrumentation: ``python drive.py SCENARIO VENDOR_URL SINK_URL``.

A scenario runs in a process of its own, since instrumentations patch their libraries for good.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

QUESTION = "How is the weather in Paris?"
ANSWER = "It is sunny in Paris."
SYSTEM = "You answer in one sentence."
OPENAI_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
ANTHROPIC_TOOLS = [
    {
        "name": "get_weather",
        "description": "The weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
CLAUDE = "claude-sonnet-4-5"


def provider(sink_url: str) -> TracerProvider:
    """Return a tracer and logger provider that send to the sink."""
    resource = Resource.create({"service.name": "weather-bot", "deployment.environment.name": "test"})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{sink_url}/v1/traces")))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{sink_url}/v1/logs")))
    set_logger_provider(loggers)
    return tracers


def quietly(call: Callable[[], Any]) -> None:
    """Run a call that is meant to fail, like an application that carries on."""
    try:
        call()
    except Exception as error:
        print(f"as meant: {type(error).__name__}")


def drive_openai(vendor_url: str) -> None:
    """Make a chat, a stream, a tool round trip, two errors, an embedding."""
    import openai

    client = openai.OpenAI(api_key="stub", base_url=f"{vendor_url}/v1", max_retries=0)
    drive_chats(client)
    client.embeddings.create(model="text-embedding-3-small", input="weather in Paris")


def drive_chats(client: Any) -> None:
    """Make a chat, a stream, a tool round trip, two errors."""
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES, temperature=0.2, max_tokens=100)
    stream = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    for _ in stream:
        continue
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, tools=OPENAI_TOOLS)
    call = answer.choices[0].message
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny, 21 degrees"}
    client.chat.completions.create(
        model="gpt-4o", messages=[*MESSAGES, call.model_dump(exclude_none=True), result], tools=OPENAI_TOOLS
    )
    quietly(lambda: client.chat.completions.create(model="fail-429", messages=MESSAGES))
    quietly(lambda: client.chat.completions.create(model="fail-500", messages=MESSAGES))


def drive_anthropic(vendor_url: str) -> None:
    """Make a message, a stream, a tool round trip, an error."""
    import anthropic

    client = anthropic.Anthropic(api_key="stub", base_url=vendor_url, max_retries=0)
    question: Any = [{"role": "user", "content": QUESTION}]
    client.messages.create(model=CLAUDE, max_tokens=100, system=SYSTEM, messages=question)
    for _ in client.messages.create(model=CLAUDE, max_tokens=100, system=SYSTEM, messages=question, stream=True):
        continue
    answer = client.messages.create(model=CLAUDE, max_tokens=100, messages=question, tools=ANTHROPIC_TOOLS)
    result = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny, 21 degrees"}]
    client.messages.create(
        model=CLAUDE,
        max_tokens=100,
        tools=ANTHROPIC_TOOLS,
        messages=[
            *question,
            {"role": "assistant", "content": [part.model_dump() for part in answer.content]},
            {"role": "user", "content": result},
        ],
    )
    quietly(lambda: client.messages.create(model="fail-429", max_tokens=100, messages=question))


def openai_v2(vendor_url: str, sink_url: str) -> TracerProvider:
    tracers = provider(sink_url)
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    drive_openai(vendor_url)
    return tracers


def openai_v2_latest(vendor_url: str, sink_url: str) -> TracerProvider:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"
    tracers = provider(sink_url)
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
    drive_openai(vendor_url)
    return tracers


def openinference_openai(vendor_url: str, sink_url: str) -> TracerProvider:
    tracers = provider(sink_url)
    from openinference.instrumentation import using_attributes
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=tracers)
    with using_attributes(
        session_id="session-7", user_id="user-3", tags=["weather", "test"], metadata={"tier": "gold"}
    ):
        drive_openai(vendor_url)
    return tracers


def openinference_anthropic(vendor_url: str, sink_url: str) -> TracerProvider:
    tracers = provider(sink_url)
    from openinference.instrumentation.anthropic import AnthropicInstrumentor

    AnthropicInstrumentor().instrument(tracer_provider=tracers)
    drive_anthropic(vendor_url)
    return tracers


def openinference_langchain(vendor_url: str, sink_url: str) -> TracerProvider:
    tracers = provider(sink_url)
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=tracers)

    @tool
    def get_weather(city: str) -> str:
        """The weather of a city"""
        return f"sunny in {city}"

    def model(name: str = "gpt-4o", **options: Any) -> Any:
        return ChatOpenAI(model=name, api_key="stub", base_url=f"{vendor_url}/v1", max_retries=0, **options)

    prompt = ChatPromptTemplate.from_messages([("system", SYSTEM), ("user", "How is the weather in {city}?")])
    chain = prompt | model() | StrOutputParser()
    chain.invoke({"city": "Paris"})
    for _ in (prompt | model(stream_usage=True) | StrOutputParser()).stream({"city": "Paris"}):
        continue
    answer = (prompt | model().bind_tools([get_weather])).invoke({"city": "Paris"})
    get_weather.invoke(answer.tool_calls[0])
    quietly(lambda: (prompt | model("fail-500")).invoke({"city": "Paris"}))
    return tracers


def traceloop_openai(vendor_url: str, sink_url: str) -> TracerProvider:
    tracers = provider(sink_url)
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=tracers)
    drive_openai(vendor_url)
    return tracers


def traceloop_anthropic(vendor_url: str, sink_url: str) -> TracerProvider:
    tracers = provider(sink_url)
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

    AnthropicInstrumentor().instrument(tracer_provider=tracers)
    drive_anthropic(vendor_url)
    return tracers


def pydantic_ai(vendor_url: str, sink_url: str) -> TracerProvider:
    tracers = provider(sink_url)
    import logfire
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink_url
    logfire.configure(
        send_to_logfire=False, service_name="weather-bot", environment="test", console=False, metrics=False
    )
    logfire.instrument_pydantic_ai()

    async def run() -> None:
        client = AsyncOpenAI(api_key="stub", base_url=f"{vendor_url}/v1", max_retries=0)
        chat = OpenAIChatModel("gpt-4o", provider=OpenAIProvider(openai_client=client))
        agent = Agent(chat, system_prompt=SYSTEM, name="weather_agent")

        @agent.tool_plain
        def get_weather(city: str) -> str:
            """The weather of a city"""
            return f"sunny in {city}"

        await agent.run(QUESTION)
        plain = Agent(chat, system_prompt=SYSTEM, name="plain_agent")
        async with plain.run_stream(QUESTION) as stream:
            await stream.get_output()
        failing = OpenAIChatModel("fail-500", provider=OpenAIProvider(openai_client=client))
        try:
            await Agent(failing, name="failing_agent").run(QUESTION)
        except Exception as error:
            print(f"as meant: {type(error).__name__}")

    asyncio.run(run())
    logfire.force_flush()
    return tracers


def logfire_openai(vendor_url: str, sink_url: str) -> TracerProvider:
    tracers = provider(sink_url)
    import logfire
    import openai

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink_url
    logfire.configure(
        send_to_logfire=False, service_name="weather-bot", environment="test", console=False, metrics=False
    )
    logfire.instrument_openai(openai.OpenAI)
    drive_openai(vendor_url)
    logfire.force_flush()
    return tracers


def litellm_otel(vendor_url: str, sink_url: str) -> TracerProvider:
    os.environ["OTEL_EXPORTER"] = "otlp_http"
    os.environ["OTEL_ENDPOINT"] = f"{sink_url}/v1/traces"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.callbacks = ["otel"]
    options: Any = {"api_key": "stub", "base_url": f"{vendor_url}/v1", "max_retries": 0}
    litellm.completion(model="openai/gpt-4o", messages=MESSAGES, user="user-3", **options)
    for _ in litellm.completion(
        model="openai/gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **options
    ):
        continue
    litellm.completion(model="openai/gpt-4o", messages=MESSAGES, tools=OPENAI_TOOLS, **options)
    quietly(lambda: litellm.completion(model="openai/fail-500", messages=MESSAGES, **options))
    litellm.completion(
        model=f"anthropic/{CLAUDE}", messages=MESSAGES, api_key="stub", base_url=vendor_url, max_tokens=100
    )
    import time

    time.sleep(2)  # the callback runs in a thread of its own
    tracers = trace.get_tracer_provider()
    assert isinstance(tracers, TracerProvider)
    return tracers


def langwatch_sdk(vendor_url: str, sink_url: str) -> TracerProvider:
    import langwatch
    import openai

    langwatch.setup(api_key="stub", endpoint_url=sink_url, base_attributes={"service.name": "weather-bot"})
    client = openai.OpenAI(api_key="stub", base_url=f"{vendor_url}/v1", max_retries=0)

    @langwatch.span(type="tool", name="get_weather")
    def get_weather(city: str) -> str:
        return f"sunny in {city}"

    @langwatch.trace(name="weather agent", type="agent")
    def run() -> None:
        langwatch.get_current_trace().autotrack_openai_calls(client)
        langwatch.get_current_trace().update(
            metadata={"user_id": "user-3", "thread_id": "session-7", "labels": ["weather", "test"]}
        )
        drive_chats(client)
        get_weather("Paris")
        with langwatch.span(type="rag", name="search") as search:
            search.update(input="weather", contexts=[ANSWER])
        langwatch.get_current_span().add_evaluation(name="tone", passed=True, score=0.9, details="kind")

    run()
    tracers = trace.get_tracer_provider()
    assert isinstance(tracers, TracerProvider)
    return tracers


SCENARIOS: dict[str, Callable[[str, str], TracerProvider]] = {
    "openai_v2": openai_v2,
    "openai_v2_latest": openai_v2_latest,
    "openinference_openai": openinference_openai,
    "openinference_anthropic": openinference_anthropic,
    "openinference_langchain": openinference_langchain,
    "traceloop_openai": traceloop_openai,
    "traceloop_anthropic": traceloop_anthropic,
    "pydantic_ai": pydantic_ai,
    "logfire_openai": logfire_openai,
    "litellm": litellm_otel,
    "langwatch": langwatch_sdk,
}


def main() -> None:
    name, vendor_url, sink_url = sys.argv[1:]
    tracers = SCENARIOS[name](vendor_url, sink_url)
    tracers.force_flush()
    from opentelemetry._logs import get_logger_provider

    loggers = get_logger_provider()
    if isinstance(loggers, LoggerProvider):
        loggers.force_flush()


if __name__ == "__main__":
    main()
