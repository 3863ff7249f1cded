"""A project's redaction reaches every text that a caller can send, by any door, in any table."""

from __future__ import annotations

import base64
import itertools
import json
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import asyncpg
import httpx

from tests.conftest import ProjectMaker
from tests.ingest.spans_in_both_encodings import attributes

IDENTITIES: Final = {"user", "session"}
"""Stay by default: a rule has to say that it is about identities, too."""
CHOSEN_IDS: Final = {"score id"}
NAMES_OF_PRICES: Final = {"model", "provider"}
_HEX: Final = re.compile(r"\\\\x([0-9a-f]{8,})")


class Canaries:
    """Addresses that must not be stored, each named for its place."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        self._numbers = itertools.count()

    def __call__(self, place: str) -> str:
        canary = f"canary{next(self._numbers):03d}@leak.example"
        self.places[canary] = place
        return canary

    def found(self, texts: Iterator[tuple[str, str]]) -> dict[str, set[str]]:
        """Return the places of the canaries in ``texts`` of tables, with the tables."""
        found: dict[str, set[str]] = {}
        for table, text in texts:
            for canary in re.findall(r"canary[0-9]{3}@leak\.example", text):
                found.setdefault(self.places[canary], set()).add(table)
        return found


def span_of(canary: Canaries, trace_id: str, span_id: str, now: int) -> dict[str, Any]:
    """Return a span with a canary in each place that the convention and its dialects have."""
    said = [
        {"type": "text", "content": canary("text part")},
        {"type": "tool_call", "id": canary("call id"), "name": canary("call name"),
         "arguments": {"to": canary("tool argument"), canary("tool argument's name"): 1}},
        {"type": "tool_call_response", "id": "x", "response": {"found": [canary("tool response")]}},
        {"type": "blob", "mime_type": canary("mime type"), "content": canary("blob")},
        {"type": "uri", "uri": "https://x/?u=" + canary("uri")},
    ]  # fmt: skip
    messages = [{"role": canary("role"), "name": canary("name"), "parts": said, "finish_reason": canary("finish")}]
    event = {"gen_ai.evaluation.name": canary("score of an event: name"), "gen_ai.evaluation.score.value": 0.5,
             "gen_ai.evaluation.score.label": canary("score of an event: label"),
             "gen_ai.evaluation.explanation": canary("score of an event: explanation")}  # fmt: skip
    failure = {"exception.message": canary("exception"), "exception.stacktrace": canary("stack"),
               "exception.type": canary("exception type")}  # fmt: skip
    fields: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps(messages),
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": canary("instructions")}]),
        "gen_ai.tool.definitions": json.dumps([{"name": "f", "description": canary("tool definition")}]),
        "gen_ai.tool.call.arguments": json.dumps({"q": canary("tool.call.arguments")}),
        "gen_ai.tool.call.result": canary("tool.call.result"),
        "gen_ai.retrieval.documents": json.dumps([{"id": canary("document id"), "content": canary("document")}]),
        "gen_ai.response.finish_reasons": [canary("finish reason")],
        "retrieval.documents.0.document.content": canary("OpenInference document"),
        "llm.prompt_template.variables": json.dumps({"v": canary("template variable")}),
        "tag.tags": [canary("tag")],
        "metadata": json.dumps({"m": canary("metadata")}),
        "user.id": canary("user"),
        "session.id": canary("session"),
        canary("attribute's name"): "v",
    }
    for name in (
        "gen_ai.tool.name", "gen_ai.tool.description", "gen_ai.agent.name", "gen_ai.agent.id", "gen_ai.prompt.name",
        "gen_ai.prompt.version", "gen_ai.response.id", "gen_ai.workflow.name", "gen_ai.data_source.id", "error.type",
        "gen_ai.output.type", "url.full", "anything.else",
    ):  # fmt: skip
        fields[name] = canary(name)
    sent = attributes(fields)
    raw = base64.b64encode(canary("bytes").encode()).decode()
    sent.append({"key": "raw", "value": {"bytesValue": raw}})
    at = {"timeUnixNano": str(now)}
    return {
        "traceId": trace_id, "spanId": span_id, "name": canary("span name"), "kind": 3,
        "startTimeUnixNano": str(now - 10**9), "endTimeUnixNano": str(now), "attributes": sent,
        "traceState": "a=" + canary("trace state"), "status": {"code": 2, "message": canary("status")},
        "events": [
            {**at, "name": canary("event name"), "attributes": attributes({"k": canary("event attribute")})},
            {**at, "name": "exception", "attributes": attributes(failure)},
            {**at, "name": "gen_ai.evaluation.result", "attributes": attributes(event)},
        ],
        "links": [{"traceId": "1" * 32, "spanId": "2" * 16, "traceState": "b=" + canary("link's state"),
                   "attributes": attributes({"l": canary("link attribute")})}],
    }  # fmt: skip


def traces_of(canary: Canaries, trace_id: str, span_id: str, now: int) -> dict[str, Any]:
    resource = {
        name: canary(name) for name in ("service.name", "service.version", "host.name", "deployment.environment.name")
    }
    scope = {
        "name": canary("scope"),
        "version": canary("scope version"),
        "attributes": attributes({"s": canary("scope attribute")}),
    }
    return {"resourceSpans": [{
        "resource": {"attributes": attributes(resource)}, "schemaUrl": "https://" + canary("schema"),
        "scopeSpans": [{"scope": scope, "spans": [span_of(canary, trace_id, span_id, now)]}],
    }]}  # fmt: skip


def logs_of(canary: Canaries, trace_id: str, span_id: str, now: int) -> dict[str, Any]:
    """Return records about a stored span, about one that has not come, and of a coding agent."""

    def record(name: str, about: str, span: tuple[str, str] | None, **more: str) -> dict[str, Any]:
        where = {"traceId": span[0], "spanId": span[1]} if span else {}
        content = {"key": "content", "value": {"stringValue": canary(f"{about}: body")}}
        return {"timeUnixNano": str(now), "eventName": name, "severityText": canary(f"{about}: severity"), **where,
                "body": {"kvlistValue": {"values": [content]}},
                "attributes": attributes({"event.name": name, "x": canary(f"{about}: attribute"), **more})}  # fmt: skip

    unseen = (secrets.token_hex(16), secrets.token_hex(8))
    texts = json.dumps([{"role": "user", "parts": [{"type": "text", "content": canary("log: message")}]}])
    records = [
        record("gen_ai.user.message", "log of a span", (trace_id, span_id)),
        record("gen_ai.user.message", "log before its span", unseen),
        record("gen_ai.client.inference.operation.details", "details before their span", unseen,
               **{"gen_ai.input.messages": texts, "gen_ai.agent.name": canary("log: agent")}),
        record("gen_ai.evaluation.result", "evaluation", (trace_id, span_id),
               **{"gen_ai.evaluation.name": canary("evaluation: name"),
                  "gen_ai.evaluation.score.label": canary("evaluation: label"),
                  "gen_ai.evaluation.explanation": canary("evaluation: explanation")}),
        record("user_prompt", "prompt of an agent", None, prompt=canary("prompt"), **{"session.id": "s"}),
        record("tool_result", "tool of an agent", None, tool_name=canary("agent's tool"),
               tool_parameters=json.dumps({"command": canary("agent's command")}), **{"session.id": "s"}),
    ]  # fmt: skip
    return {"resourceLogs": [{"resource": {"attributes": attributes({"service.name": "claude-code"})},
                              "scopeLogs": [{"logRecords": records}]}]}  # fmt: skip


def metrics_of(canary: Canaries, now: int) -> dict[str, Any]:
    labels = {
        "type": canary("metric: type"), "user.email": canary("user"), "session.id": canary("session"),
        "tool_name": canary("metric: tool"), "decision": canary("metric: decision"),
        "language": canary("metric: language"),
        "vcs.repository.name": canary("metric: repository"), "model": "m",
    }  # fmt: skip
    point = {
        "timeUnixNano": str(now),
        "startTimeUnixNano": str(now - 10**9),
        "asInt": "5",
        "attributes": attributes(labels),
    }
    counters = [
        {"name": name, "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]}}
        for name in ("claude_code.token.usage", "claude_code.commit.count", "claude_code.code_edit_tool.decision")
    ]
    resource = attributes({"service.name": "claude-code", "repository": canary("metric: resource")})
    return {"resourceMetrics": [{"resource": {"attributes": resource}, "scopeMetrics": [{"metrics": counters}]}]}


async def test_no_table_has_what_a_project_never_wants_stored(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    await project("alpha")
    headers, canary, now = bearer("admin", ["alpha"]), Canaries(), time.time_ns()
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)

    async def send(method: str, path: str, document: Any) -> None:
        answer = await client.request(method, path, json=document, headers=headers)
        assert answer.status_code in (200, 201), (path, answer.text)

    await send("PUT", "/api/v1/projects/alpha/ingest-settings", {"redaction": {"rules": [{"find": "email"}]}})
    await send("POST", "/v1/traces", traces_of(canary, trace_id, span_id, now))
    await send("POST", "/v1/logs", logs_of(canary, trace_id, span_id, now))
    await send("POST", "/v1/metrics", metrics_of(canary, now))
    score = {"trace_id": trace_id, "name": canary("score"), "value": canary("score label"),
             "comment": canary("comment"), "score_id": canary("score id")}  # fmt: skip
    await send("POST", "/api/v1/scores", score)
    await send("POST", "/api/v1/scores/batch", {"scores": [{**score, "score_id": "another"}]})
    await send(
        "POST", "/api/v1/annotations", {"title": canary("title"), "text": canary("text"), "tags": [canary("a tag")]}
    )
    stored = [pair async for pair in _stored_texts(owner)]
    assert {"llm_traces", "span_updates", "scores", "annotations", "agent_figures"} <= {name for name, _ in stored}
    found = canary.found(iter(stored))
    assert set(found) <= IDENTITIES | CHOSEN_IDS, found
    assert found


async def _stored_texts(owner: asyncpg.Connection) -> Any:
    """Give every row of every table as text, and what is packed in it."""
    tables = await owner.fetch(
        "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    for (table,) in tables:
        for (row,) in await owner.fetch(f'SELECT row_to_json(stored)::text FROM "{table}" AS stored'):
            yield table, row
            for packed in _HEX.findall(row):
                data = bytes.fromhex(packed)
                yield table, data.decode("latin-1")
                for window in (15, 31, -15):
                    with suppress(zlib.error):
                        yield table, zlib.decompressobj(window).decompress(data).decode("latin-1")
