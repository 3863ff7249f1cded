"""What happens on a visit: each scenario writes the spans that the service's instrumentation would send.

Three generations of attribute names are spoken, as in real fleets: OpenTelemetry's GenAI conventions by most,
OpenInference by the product search, OpenLLMetry by the translation gateway.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from server.demo.demo_span import DemoSpan, DemoTrace, TraceWriter
from server.demo.shop import MODELS, SERVICES, TENANTS, USERS, Model, Service, choose, outage, texts

BASE_ERROR_RATE = 0.015
OUTAGE_ERROR_RATE = 0.4
BAD_RELEASE_ERROR_RATE = 0.06
BAD_RELEASE_SLOWNESS = 1.7
MODEL_ERRORS = (("rate_limit_exceeded", 5.0), ("timeout", 2.0), ("server_error", 2.0), ("context_length_exceeded", 1.0))


@dataclass
class Visit:
    """Somebody (or some job) uses a service at a time; gives one or more traces."""

    rng: Random
    service: Service
    start: datetime
    user: str
    session: str
    environment: str

    def writer(self, start: datetime, scope: str = "opentelemetry.instrumentation.genai") -> TraceWriter:
        """A new trace of this visit."""
        resource = {
            "service.name": self.service.name,
            "service.version": self.service.version(start.date()),
            "deployment.environment.name": self.environment,
            "telemetry.sdk.language": "python",
        }
        return TraceWriter(self.rng, start, resource, scope)

    @property
    def slowness(self) -> float:
        """Factor on all times: bad releases are slow, and so are busy evenings."""
        factor = BAD_RELEASE_SLOWNESS if self.service.is_bad_release(self.start.date()) else 1.0
        return factor * (1.25 if 17 <= self.start.hour <= 20 else 1.0) * self.rng.lognormvariate(0, 0.25)

    def failure(self, provider: str) -> str | None:
        """The error type of the next model call, None when it goes well."""
        rate = BASE_ERROR_RATE
        if self.service.is_bad_release(self.start.date()):
            rate = BAD_RELEASE_ERROR_RATE
        if outage(self.start) == provider:
            rate = OUTAGE_ERROR_RATE
        return choose(self.rng, MODEL_ERRORS) if self.rng.random() < rate else None


def make_visit(rng: Random, start: datetime, session: str) -> list[DemoTrace]:
    """The traces of one visit at ``start``; ``rng`` decides everything about it."""
    service = rng.choices(SERVICES, [service.share for service in SERVICES])[0]
    # A few people come often, most seldom.
    user = USERS[min(int(rng.paretovariate(0.7)) - 1, len(USERS) - 1)] if rng.random() < 0.6 else rng.choice(USERS)
    environment = "production" if rng.random() < 0.88 else "staging"
    return SCENARIOS[service.scenario](Visit(rng, service, start, user, session, environment))


def support(visit: Visit) -> list[DemoTrace]:
    """A conversation of one to four turns with retrieval, and a look into the order system when needed."""
    rng = visit.rng
    language, topic, question, answer = rng.choice(texts()["conversations"])
    model = MODELS[choose(rng, visit.service.models)]
    start, traces = visit.start, []
    for turn in range(rng.choices((1, 2, 3, 4), (4, 3, 2, 1))[0]):
        writer = visit.writer(start)
        with writer.span(
            "invoke_agent support-assistant",
            gen_ai__operation__name="invoke_agent",
            gen_ai__agent__name="support-assistant",
            gen_ai__conversation__id=visit.session,
            session__id=visit.session,
            user__id=visit.user,
            tag__tags=[topic, language],
        ) as root:
            writer.wait(rng.uniform(2, 9))
            _embed(writer, visit, question)
            with writer.span(
                "retrieval help-articles",
                gen_ai__operation__name="retrieval",
                gen_ai__data_source__id="help-articles",
                gen_ai__retrieval__query__text=question,
            ):
                writer.wait(rng.lognormvariate(3.2, 0.5))
            last = _chat_with_retry(writer, visit, model, question, answer, prompt="support-answer", turn=turn)
            if last.error is None and topic in ("delivery", "billing") and rng.random() < 0.6:
                _tool(writer, visit, "lookup_order", {"order": f"A-{rng.randint(10000, 99999)}"})
                last = _chat_with_retry(writer, visit, model, question, answer, prompt="support-answer", turn=turn)
            _inherit_error(root, last)
        _judge_answer(writer, visit, failed=last.error is not None)
        traces.append(writer.trace)
        start += timedelta(seconds=rng.uniform(25, 180))
    return traces


def search(visit: Visit) -> list[DemoTrace]:
    """One search: the query as a vector, candidates, ranking. Speaks OpenInference."""
    rng, query = visit.rng, visit.rng.choice(texts()["queries"])
    writer = visit.writer(visit.start, "openinference.instrumentation")
    with writer.span(
        "product search",
        openinference__span__kind="CHAIN",
        input__value=query,
        session__id=visit.session,
        user__id=visit.user,
        tag__tags=["search", rng.choice(TENANTS)],
    ) as root:
        with writer.span(
            "embedding",
            is_client=True,
            openinference__span__kind="EMBEDDING",
            embedding__model_name="text-embedding-3-small",
            llm__provider="openai",
            llm__token_count__prompt=len(query) // 4 + 2,
            llm__token_count__total=len(query) // 4 + 2,
            input__value=query,
        ) as embedding:
            writer.wait(rng.lognormvariate(4.1, 0.35) * visit.slowness)
            _fail(embedding, visit.failure("openai"))
        _inherit_error(root, embedding)
        if embedding.error is None:
            with writer.span("retrieve candidates", openinference__span__kind="RETRIEVER", input__value=query):
                writer.wait(rng.lognormvariate(3.0, 0.4))
            with writer.span("rerank", openinference__span__kind="RERANKER", reranker__model_name="shop-ranker-2"):
                writer.wait(rng.lognormvariate(3.4, 0.3))
            root.attributes["output.value"] = f"{rng.randint(3, 48)} products"
    return [writer.trace]


def code_review(visit: Visit) -> list[DemoTrace]:
    """An agent reads a change with its tools, thinks in several calls, and writes a review."""
    rng = visit.rng
    subject, verdict, code = rng.choice(texts()["code_reviews"])
    model = MODELS[choose(rng, visit.service.models)]
    writer = visit.writer(visit.start)
    with writer.span(
        "invoke_agent code-reviewer",
        gen_ai__operation__name="invoke_agent",
        gen_ai__agent__name="code-reviewer",
        session__id=visit.session,
        user__id=f"dev-{rng.randint(1, 24):02d}",
        tag__tags=["code-review"],
    ) as root:
        last = _chat_with_retry(writer, visit, model, f"Review this change: {subject}", "", prompt="review-plan")
        for tool in rng.choices(("read_file", "search_code", "run_tests", "git_diff"), k=rng.randint(1, 4)):
            if last.error is not None:
                break
            _tool(writer, visit, tool, {"path": f"shop/{subject.split()[0]}.py", "code": code})
            last = _chat_with_retry(writer, visit, model, f"Go on reviewing: {subject}", "", prompt="review-step")
        if last.error is None:
            last = _chat_with_retry(writer, visit, model, f"{subject}\n\n{code}", verdict, prompt="review-final")
        _inherit_error(root, last)
    if last.error is None and rng.random() < 0.4:
        writer.score("review_outcome", choose(rng, (("accepted", 6), ("changed", 3), ("ignored", 1))), "human")
    return [writer.trace]


def translation(visit: Visit) -> list[DemoTrace]:
    """One call to translate a text. Speaks OpenLLMetry."""
    rng = visit.rng
    language, _, question, answer = rng.choice(texts()["conversations"])
    model = MODELS[choose(rng, visit.service.models)]
    writer = visit.writer(visit.start, "opentelemetry.instrumentation.openllmetry")
    prompt_tokens, completion_tokens = len(answer) // 3 + 60, len(answer) // 3 + 5
    with writer.span(
        "translate.chat",
        is_client=True,
        llm__request__type="chat",
        gen_ai__system=model.provider,
        gen_ai__request__model=model.name,
        gen_ai__response__model=model.name,
        gen_ai__usage__prompt_tokens=prompt_tokens,
        traceloop__association__properties__user_id=visit.user,
        traceloop__prompt__key="translate",
        traceloop__prompt__version=str(visit.start.toordinal() // 20 % 9 + 1),
    ) as span:
        span.attributes |= {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": f"Translate from {language} to English: {answer}",
        }
        writer.wait((model.first_token_ms + completion_tokens * model.token_ms) * visit.slowness)
        _fail(span, visit.failure(model.provider))
        if span.error is None:
            span.attributes |= {
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.content": question if language == "en" else f"[{language}] {question}",
                "gen_ai.completion.0.finish_reason": "stop",
                "gen_ai.usage.completion_tokens": completion_tokens,
                "llm.usage.total_tokens": prompt_tokens + completion_tokens,
            }
    return [writer.trace]


def report(visit: Visit) -> list[DemoTrace]:
    """A batch job: sections in sequence by a reasoning model, long outputs."""
    rng = visit.rng
    title, summary = rng.choice(texts()["reports"])
    model = MODELS[choose(rng, visit.service.models)]
    writer = visit.writer(visit.start)
    with writer.span(
        f"invoke_workflow {title}",
        gen_ai__operation__name="invoke_workflow",
        gen_ai__workflow__name=title,
        tag__tags=["batch", rng.choice(TENANTS)],
    ) as root:
        for section in range(rng.randint(2, 5)):
            last = _chat_with_retry(
                writer, visit, model, f"{title}: section {section + 1}", summary * 4, prompt="report-section"
            )
            _inherit_error(root, last)
            if last.error is not None:
                break
    return [writer.trace]


def _judge_answer(writer: TraceWriter, visit: Visit, *, failed: bool) -> None:
    """Some answers are judged by a program, a few by the person; later prompt versions are better."""
    rng = visit.rng
    quality = 0.3 if failed else 0.68 + 0.03 * _prompt_version(visit)
    if rng.random() < 0.25:
        writer.score("helpfulness", round(min(1.0, max(0.0, rng.gauss(quality, 0.12))), 3), "eval")
    if rng.random() < 0.08:
        writer.score("thumbs_up", rng.random() < quality, "human")


def _prompt_version(visit: Visit) -> int:
    return visit.start.toordinal() // 12 % 9 + 1


def _embed(writer: TraceWriter, visit: Visit, text: str) -> None:
    with writer.span(
        "embeddings text-embedding-3-small",
        is_client=True,
        gen_ai__operation__name="embeddings",
        gen_ai__provider__name="openai",
        gen_ai__request__model="text-embedding-3-small",
        gen_ai__usage__input_tokens=len(text) // 4 + 3,
    ):
        writer.wait(visit.rng.lognormvariate(4.0, 0.3) * visit.slowness)


def _chat_with_retry(
    writer: TraceWriter, visit: Visit, model: Model, question: str, answer: str, *, prompt: str, turn: int = 0
) -> DemoSpan:
    """A model call, tried again once when the provider refused it; gives the last try."""
    span = _chat(writer, visit, model, question, answer, prompt=prompt, turn=turn)
    if span.error in ("rate_limit_exceeded", "server_error"):
        writer.wait(visit.rng.uniform(300, 1500))
        span = _chat(writer, visit, model, question, answer, prompt=prompt, turn=turn)
    return span


def _chat(
    writer: TraceWriter, visit: Visit, model: Model, question: str, answer: str, *, prompt: str, turn: int
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
        gen_ai__conversation__id=visit.session,
        session__id=visit.session,
        user__id=visit.user,
        gen_ai__prompt__name=prompt,
        gen_ai__prompt__version=str(_prompt_version(visit)),
        gen_ai__input__messages=_messages("user", question),
    ) as span:
        first_token = model.first_token_ms * visit.slowness
        failure = visit.failure(model.provider)
        if failure is not None:
            writer.wait(30_000 if failure == "timeout" else first_token)
            _fail(span, failure)
            return span
        writer.wait(first_token + (output_tokens + reasoning) * model.token_ms * visit.slowness)
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


def _tool(writer: TraceWriter, visit: Visit, name: str, arguments: dict[str, Any]) -> None:
    with writer.span(
        f"execute_tool {name}",
        gen_ai__operation__name="execute_tool",
        gen_ai__tool__name=name,
        gen_ai__tool__call__arguments=json.dumps(arguments, ensure_ascii=False),
    ) as span:
        writer.wait(visit.rng.lognormvariate(4.4, 0.8))
        if visit.rng.random() < 0.03:
            _fail(span, "ToolError")
        else:
            span.attributes["gen_ai.tool.call.result"] = json.dumps({"ok": True})


def _messages(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def _fail(span: DemoSpan, error_type: str | None) -> None:
    if error_type is None:
        return
    span.error = error_type
    span.attributes["error.type"] = error_type
    text = texts()["error_texts"][error_type]
    span.events.append(("exception", span.start_ns, {"exception.type": error_type, "exception.message": text}))


def _inherit_error(root: DemoSpan, last: DemoSpan) -> None:
    """A failed last step fails the whole; what was tried again with success does not."""
    root.error = last.error
    if last.error is not None:
        root.attributes["error.type"] = last.error


Scenario = Callable[[Visit], list[DemoTrace]]
SCENARIOS: dict[str, Scenario] = {
    "support": support,
    "search": search,
    "code_review": code_review,
    "translation": translation,
    "report": report,
}
