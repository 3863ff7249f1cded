"""Scenarios of a visit: each writes the spans that the service's instrumentation would send.

Three generations of attribute names are spoken, as in real fleets: OpenTelemetry's GenAI conventions by most,
OpenInference by the product search, OpenLLMetry by the translation gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from server.demo.demo_span import DemoTrace, TraceWriter
from server.demo.episodes import (
    AGENT_LOOP,
    COST_SPIKE,
    COSTLY_FACTOR,
    LOOP_STEPS,
    is_on,
    is_worse_prompt,
    prompt_version,
)
from server.demo.shop import MODELS, REPOSITORIES, SERVICES, TENANTS, USERS, choose, texts
from server.demo.steps import Visit, chat_with_retry, embed, fail, inherit_error, tool


def make_visit(rng: Random, start: datetime, session: str) -> list[DemoTrace]:
    """Return the traces of one visit at ``start``; ``rng`` decides everything about it."""
    service = rng.choices(SERVICES, [service.share for service in SERVICES])[0]
    # A few people come often, most seldom.
    user = USERS[min(int(rng.paretovariate(0.7)) - 1, len(USERS) - 1)] if rng.random() < 0.6 else rng.choice(USERS)
    environment = rng.choices(("production", "staging", "development"), (82, 12, 6))[0]
    return SCENARIOS[service.scenario](Visit(rng, service, start, user, session, environment))


def support(visit: Visit) -> list[DemoTrace]:
    """Write a conversation of one to four turns with retrieval, and a query of the order system when needed."""
    rng, visit = visit.rng, replace(visit, agent="support-assistant")
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
            embed(writer, visit, question)
            with writer.span(
                "retrieval help-articles",
                gen_ai__operation__name="retrieval",
                gen_ai__data_source__id="help-articles",
                gen_ai__retrieval__query__text=question,
            ):
                writer.wait(rng.lognormvariate(3.2, 0.5))
            last = chat_with_retry(writer, visit, model, question, answer, prompt="support-answer", turn=turn)
            if last.error is None and topic in ("delivery", "billing") and rng.random() < 0.6:
                tool(writer, visit, "lookup_order", {"order": f"A-{rng.randint(10000, 99999)}"})
                last = chat_with_retry(writer, visit, model, question, answer, prompt="support-answer", turn=turn)
            inherit_error(root, last)
        _judge_answer(writer, visit, failed=last.error is not None)
        traces.append(writer.trace)
        start += timedelta(seconds=rng.uniform(25, 180))
    return traces


def search(visit: Visit) -> list[DemoTrace]:
    """Write one search: the query's embedding, candidates, ranking. Uses OpenInference's names."""
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
            fail(embedding, visit.failure("openai"))
        inherit_error(root, embedding)
        if embedding.error is None:
            with writer.span("retrieve candidates", openinference__span__kind="RETRIEVER", input__value=query):
                writer.wait(rng.lognormvariate(3.0, 0.4))
            with writer.span("rerank", openinference__span__kind="RERANKER", reranker__model_name="shop-ranker-2"):
                writer.wait(rng.lognormvariate(3.4, 0.3))
            root.attributes["output.value"] = f"{rng.randint(3, 48)} products"
    return [writer.trace]


def code_review(visit: Visit) -> list[DemoTrace]:
    """Write a code review: an agent reads a change with its tools, thinks in several calls, and writes a review."""
    rng = visit.rng
    subject, verdict, code = rng.choice(texts()["code_reviews"])
    model = MODELS[choose(rng, visit.service.models)]
    # The user is a developer instead of a customer of the shop, on every span of the trace.
    visit = replace(visit, user=f"dev-{rng.randint(1, 24):02d}", agent="code-reviewer")
    writer = visit.writer(visit.start)
    with writer.span(
        "invoke_agent code-reviewer",
        gen_ai__operation__name="invoke_agent",
        gen_ai__agent__name="code-reviewer",
        session__id=visit.session,
        user__id=visit.user,
        tag__tags=["code-review"],
    ) as root:
        last = chat_with_retry(writer, visit, model, f"Review this change: {subject}", "", prompt="review-plan")
        steps = rng.randint(1, 4)
        if is_on(AGENT_LOOP, visit.start):
            steps += LOOP_STEPS
        for name in rng.choices(("read_file", "search_code", "run_tests", "git_diff"), k=steps):
            if last.error is not None:
                break
            tool(writer, visit, name, {"path": f"shop/{subject.split()[0]}.py", "code": code})
            last = chat_with_retry(writer, visit, model, f"Go on reviewing: {subject}", "", prompt="review-step")
        if last.error is None:
            last = chat_with_retry(writer, visit, model, f"{subject}\n\n{code}", verdict, prompt="review-final")
        inherit_error(root, last)
    if last.error is None and rng.random() < 0.4:
        writer.score("review_outcome", choose(rng, (("accepted", 6), ("changed", 3), ("ignored", 1))), "human")
    return [writer.trace]


def coding(visit: Visit) -> list[DemoTrace]:
    """Write a coding agent at work in a repository: it reads, edits, runs tests, and calls other models on the way."""
    rng = visit.rng
    subject, verdict, code = rng.choice(texts()["code_reviews"])
    repository = rng.choice(REPOSITORIES)
    visit = replace(visit, user=f"dev-{min(int(rng.paretovariate(1.1)), 12):02d}", agent="claude-code")
    writer = visit.writer(visit.start)
    with writer.span(
        "invoke_agent claude-code",
        gen_ai__operation__name="invoke_agent",
        gen_ai__agent__name="claude-code",
        session__id=visit.session,
        user__id=visit.user,
        vcs__repository__name=repository,
        tag__tags=["coding-agent", repository],
    ) as root:
        last = None
        for step in range(rng.randint(3, 12)):
            model = MODELS[choose(rng, visit.service.models)]
            last = chat_with_retry(
                writer, visit, model, f"{repository}: {subject}", verdict, prompt="coding-step", turn=step,
                tag__tags=["coding-agent", repository],
            )  # fmt: skip
            if last.error is not None:
                break
            name = choose(rng, (("Read", 5), ("Edit", 4), ("Bash", 3), ("Grep", 3), ("Write", 1), ("Task", 1)))
            tool(writer, visit, name, {"repository": repository, "code": code})
        if last is not None:
            inherit_error(root, last)
    if rng.random() < 0.6:
        writer.score("edit_accepted", rng.random() < 0.83, "human")
    return [writer.trace]


def translation(visit: Visit) -> list[DemoTrace]:
    """Write one call that translates a text. Uses OpenLLMetry's names."""
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
        traceloop__prompt__version=str(prompt_version(visit.start.date())),
    ) as span:
        span.attributes |= {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": f"Translate from {language} to English: {answer}",
        }
        writer.wait((model.first_token_ms + completion_tokens * model.token_ms) * visit.slowness)
        fail(span, visit.failure(model.provider))
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
    """Write a batch job: a reasoning model writes sections one after the other, with long outputs."""
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
        length = 4 * (COSTLY_FACTOR if is_on(COST_SPIKE, visit.start) else 1)
        for section in range(rng.randint(2, 5)):
            last = chat_with_retry(
                writer, visit, model, f"{title}: section {section + 1}", summary * length, prompt="report-section"
            )
            inherit_error(root, last)
            if last.error is not None:
                break
    return [writer.trace]


def _judge_answer(writer: TraceWriter, visit: Visit, *, failed: bool) -> None:
    """Score some answers by a program and a few by the person; later prompt versions are better."""
    rng = visit.rng
    quality = 0.3 if failed else 0.74 + 0.02 * visit.prompt_version
    if is_worse_prompt(visit.start.date()):
        quality -= 0.22
    if rng.random() < 0.25:
        writer.score("helpfulness", round(min(1.0, max(0.0, rng.gauss(quality, 0.12))), 3), "eval")
    if rng.random() < 0.08:
        writer.score("thumbs_up", rng.random() < quality, "human")


Scenario = Callable[[Visit], list[DemoTrace]]
SCENARIOS: dict[str, Scenario] = {
    "support": support,
    "search": search,
    "code_review": code_review,
    "coding": coding,
    "translation": translation,
    "report": report,
}
