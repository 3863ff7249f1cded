"""Steps of visits: model calls that may fail, embeddings, tools."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from server.demo.demo_span import DemoSpan, TraceWriter
from server.demo.episodes import ERROR_BURST, SLOW_PROVIDER, SLOWNESS, is_on, prompt_version
from server.demo.shop import Model, Service, choose, texts

BASE_ERROR_RATE = 0.015
OUTAGE_ERROR_RATE = 0.4
BAD_RELEASE_ERROR_RATE = 0.06
BAD_RELEASE_SLOWNESS = 1.7
MODEL_ERRORS = (("rate_limit_exceeded", 5.0), ("timeout", 2.0), ("server_error", 2.0), ("context_length_exceeded", 1.0))


@dataclass
class Visit:
    """Somebody (or some job) uses a service at a time; produces one or more traces."""

    rng: Random
    service: Service
    start: datetime
    user: str
    session: str
    environment: str
    agent: str | None = None
    """The agent on whose behalf models are called."""

    def writer(self, start: datetime, scope: str = "opentelemetry.instrumentation.genai") -> TraceWriter:
        """Return a new trace of this visit."""
        resource = {
            "service.name": self.service.name,
            "service.version": self.service.version(start.date()),
            "deployment.environment.name": self.environment,
            "telemetry.sdk.language": "python",
        }
        return TraceWriter(self.rng, start, resource, scope)

    @property
    def prompt_version(self) -> int:
        """Prompts are reworked about every twelve days."""
        return prompt_version(self.start.date())

    @property
    def slowness(self) -> float:
        """Factor on all times: bad releases are slow, and so are busy evenings."""
        factor = BAD_RELEASE_SLOWNESS if self.service.is_bad_release(self.start.date()) else 1.0
        return factor * (1.25 if 17 <= self.start.hour <= 20 else 1.0) * self.rng.lognormvariate(0, 0.25)

    def wait_for(self, provider: str) -> float:
        """Factor on the times of one call of ``provider``."""
        return self.slowness * (SLOWNESS if is_on(SLOW_PROVIDER, self.start, provider) else 1.0)

    def failure(self, provider: str) -> str | None:
        """Return the error type of the next model call, None if it succeeds."""
        rate = BASE_ERROR_RATE
        if self.service.is_bad_release(self.start.date()):
            rate = BAD_RELEASE_ERROR_RATE
        if is_on(ERROR_BURST, self.start, provider):
            rate = OUTAGE_ERROR_RATE
        return choose(self.rng, MODEL_ERRORS) if self.rng.random() < rate else None


def embed(writer: TraceWriter, visit: Visit, text: str) -> None:
    """Write the embedding of one text."""
    with writer.span(
        "embeddings text-embedding-3-small",
        is_client=True,
        gen_ai__operation__name="embeddings",
        gen_ai__provider__name="openai",
        gen_ai__request__model="text-embedding-3-small",
        gen_ai__usage__input_tokens=len(text) // 4 + 3,
    ):
        writer.wait(visit.rng.lognormvariate(4.0, 0.3) * visit.slowness)


def chat_with_retry(
    writer: TraceWriter,
    visit: Visit,
    model: Model,
    question: str,
    answer: str,
    *,
    prompt: str,
    turn: int = 0,
    **attributes: Any,
) -> DemoSpan:
    """Write a model call, repeated once if the provider refused it; return the last attempt."""
    span = _chat(writer, visit, model, question, answer, prompt=prompt, turn=turn, **attributes)
    if span.error in ("rate_limit_exceeded", "server_error"):
        writer.wait(visit.rng.uniform(300, 1500))
        span = _chat(writer, visit, model, question, answer, prompt=prompt, turn=turn, **attributes)
    return span


def _chat(
    writer: TraceWriter,
    visit: Visit,
    model: Model,
    question: str,
    answer: str,
    *,
    prompt: str,
    turn: int,
    **attributes: Any,
) -> DemoSpan:
    rng = visit.rng
    input_tokens = int(rng.lognormvariate(6.6, 0.45)) + len(question) // 3 + turn * 350
    output_tokens = max(12, int(rng.lognormvariate(4.9, 0.5)) + len(answer) // 3)
    reasoning = int(output_tokens * rng.uniform(0.8, 2.5)) if model.reasons else 0
    with writer.span(
        f"chat {model.name}",
        is_client=True,
        gen_ai__operation__name="chat",
        gen_ai__provider__name=model.provider,
        gen_ai__request__model=model.name,
        gen_ai__request__temperature=0.2,
        gen_ai__agent__name=visit.agent,
        gen_ai__conversation__id=visit.session,
        session__id=visit.session,
        user__id=visit.user,
        gen_ai__prompt__name=prompt,
        gen_ai__prompt__version=str(visit.prompt_version),
        gen_ai__input__messages=_messages("user", question),
        **attributes,
    ) as span:
        slowness = visit.wait_for(model.provider)
        first_token = model.first_token_ms * slowness
        failure = visit.failure(model.provider)
        if failure is not None:
            writer.wait(30_000 if failure == "timeout" else first_token)
            fail(span, failure)
            return span
        writer.wait(first_token + (output_tokens + reasoning) * model.token_ms * slowness)
        cut_off = rng.random() < 0.02
        span.attributes |= {
            "gen_ai.response.model": model.name,
            "gen_ai.response.finish_reasons": ["length" if cut_off else "stop"],
            "gen_ai.response.time_to_first_chunk": round(first_token / 1000, 4),
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens + reasoning,
            "gen_ai.output.messages": _messages("assistant", answer or f"Next step {rng.randint(1, 9)}."),
        }
        if reasoning:
            span.attributes["gen_ai.usage.reasoning.output_tokens"] = reasoning
        if model.caches and (turn > 0 or rng.random() < 0.35):
            span.attributes["gen_ai.usage.cache_read.input_tokens"] = int(input_tokens * rng.uniform(0.4, 0.8))
        elif model.provider == "anthropic":
            span.attributes["gen_ai.usage.cache_write.input_tokens"] = int(input_tokens * 0.5)
    return span


def tool(writer: TraceWriter, visit: Visit, name: str, arguments: dict[str, Any]) -> None:
    """Write a call of a tool; some fail."""
    with writer.span(
        f"execute_tool {name}",
        gen_ai__operation__name="execute_tool",
        gen_ai__tool__name=name,
        gen_ai__tool__call__arguments=json.dumps(arguments, ensure_ascii=False),
    ) as span:
        writer.wait(visit.rng.lognormvariate(4.4, 0.8))
        if visit.rng.random() < 0.03:
            fail(span, "ToolError")
        else:
            span.attributes["gen_ai.tool.call.result"] = json.dumps({"ok": True})


def _messages(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def fail(span: DemoSpan, error_type: str | None) -> None:
    """End a span with an error; None leaves it well."""
    if error_type is None:
        return
    span.error = error_type
    span.attributes["error.type"] = error_type
    text = texts()["error_texts"][error_type]
    span.events.append(("exception", span.start_ns, {"exception.type": error_type, "exception.message": text}))


def inherit_error(root: DemoSpan, last: DemoSpan) -> None:
    """Fail the whole after a failed last step; a repetition that succeeded does not count as failure."""
    root.error = last.error
    if last.error is not None:
        root.attributes["error.type"] = last.error
