"""Log events of coding agents as spans (table: ``dialects/agent_events.json``).

Claude Code, Codex and Gemini CLI report by default in log records and metrics, without traces: one record for each
request to a model, with tokens and perhaps cost, and one for each tool. Copilot reports requests in the record of the
GenAI convention, outside of any trace. Each becomes a span, which is then mapped,
priced and stored like any other. Its ids follow from the session, the turn and the request, so that a repeated record
is the same span. A record comes at the end of what it reports.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from server.ingest.dialects.attribute_table import read_table
from server.ingest.mapping.mapping_result import SpanUpdate
from server.ingest.mapping.span_identity import is_identifier
from server.ingest.mapping.span_times import to_datetime
from server.ingest.messages.coercion import to_number, to_text
from server.ingest.otlp.payload import DecodedLog, DecodedLogRecords, DecodedSpan, DecodedSpans

_TABLE: Final[dict[str, Any]] = read_table("agent_events.json")
_AGENTS: Final[dict[str, dict[str, Any]]] = {
    **_TABLE["agents"],
    **{name: {**_TABLE["agents"][fork["of"]], **fork} for name, fork in _TABLE["forks"].items()},
}
_CONVENTION: Final = frozenset({"gen_ai.client.inference.operation"})
"""Record of the GenAI convention. The table has it too, because agents send it beside their own events."""
_SCOPES: Final = {scope: agent for agent, table in _AGENTS.items() for scope in table.get("scopes", ())}
_LASTS: Final = ("duration_ms", "ttft_ms")
"""Attributes that tell how long a call took; the first token is the least, where nothing else is said."""
_INTERNAL: Final = 1
_ERROR: Final = 2


@dataclass(slots=True)
class AgentEvents:
    """Results of the events of one request."""

    groups: list[DecodedSpans] = field(default_factory=list)
    updates: list[SpanUpdate] = field(default_factory=list)
    """Answers that come apart from the call they belong to."""


@dataclass(slots=True)
class AgentEvent:
    """A record that the table knows."""

    agent: str
    rule: dict[str, Any]


def find_event(record: DecodedLog, scope: str = "") -> AgentEvent | None:
    """Return the table's entry for ``record``; None for any other record.

    The name is in the event name, an attribute or the body, in one of them with the agent before it; or the scope
    tells the agent.
    """
    for name in (record.event_name, record.body, record.attributes.get("event.name")):
        if not isinstance(name, str):
            continue
        agent, _, event = name.rpartition(".")
        agent = agent or _SCOPES.get(scope, "")
        rule = next((rule for rule in _rules(agent, event) if _fits(rule, record)), None)
        if rule is not None and not (agent in _CONVENTION and reports_itself(scope)):
            return AgentEvent(agent, rule)
    return None


def reports_itself(scope: str) -> bool:
    """Return whether ``scope`` is that of an agent whose own events are its calls, whatever else it sends of them."""
    return scope in _SCOPES


def _rules(agent: str, event: str) -> list[dict[str, Any]]:
    rules = _AGENTS.get(agent, {}).get("events", {}).get(event, [])
    return rules if isinstance(rules, list) else [rules]


def _fits(rule: dict[str, Any], record: DecodedLog) -> bool:
    """Return whether ``record`` has what ``rule`` asks for."""
    values = record.attributes
    if any(values.get(key) not in allowed for key, allowed in rule.get("only", {}).items()):
        return False
    needs_any = rule.get("needs_any", ())
    return all(values.get(key) for key in rule.get("needs", ())) and (
        not needs_any or any(values.get(key) is not None for key in needs_any)
    )


def add_event(events: AgentEvents, group: DecodedLogRecords, record: DecodedLog, event: AgentEvent) -> None:
    """Add the span, or the answer to a call, that ``record`` stands for."""
    table, rule = _AGENTS[event.agent], event.rule
    in_trace = is_identifier(record.trace_id, 32)
    if in_trace and table.get("own_spans"):
        return
    trace_id, turn_span = record.trace_id, record.span_id or None
    session, turn = _first(record, table["session"]), _first(record, table["turn"])
    if not in_trace:
        trace_id, turn_span = _digest(32, event.agent, session, turn), _digest(16, event.agent, session, turn)
    kind = str(rule.get("answers") or rule["name"])
    if rule["call"]:
        call = _digest(16, event.agent, session, _kind_of(table, kind), _first(record, rule["call"]))
    elif in_trace:  # a span of the agent's own has the id
        call = _digest(16, event.agent, session, kind, turn, str(record.time_ns))
    else:
        call = _digest(16, event.agent, session, turn)
    if "answers" in rule:
        columns = {"output_text": to_text(record.attributes.get(rule["text"]))}
        if columns["output_text"]:
            events.updates.append(
                SpanUpdate(ts=to_datetime(record.time_ns), trace_id=trace_id, span_id=call, columns=columns)
            )
        return
    parent = None if call == turn_span or (rule.get("alone") and not in_trace) else turn_span
    span = _span(record, table, rule, trace_id, call, parent)
    if "of" in table:
        span.name = event.agent + span.name.removeprefix(table["of"])
    if not events.groups or events.groups[-1].scope is not group.scope:
        events.groups.append(DecodedSpans(group.resource, group.scope, []))
    events.groups[-1].spans.append(span)


def _kind_of(table: dict[str, Any], kind: str) -> str:
    """Return the name of the spans of an event; for an answer, of the event that it answers."""
    rule = table["events"].get(kind)
    return kind if rule is None else str(rule["name"] if isinstance(rule, dict) else rule[0]["name"])


def _span(
    record: DecodedLog, table: dict[str, Any], rule: dict[str, Any], trace_id: str, span_id: str, parent: str | None
) -> DecodedSpan:
    names = {**table["names"], **rule.get("names", {})}
    attributes: dict[str, Any] = dict(table["constants"])
    if "operation" in rule:
        attributes["gen_ai.operation.name"] = rule["operation"]
    if rule.get("alone") and isinstance(record.body, dict):
        attributes.update(record.body)
    for key, value in record.attributes.items():
        attributes.setdefault(names.get(key, key), value)
    for key in names:  # of two names for one thing the later of the table wins, whatever the order in the record
        if key in record.attributes and names[key] != key:
            attributes[names[key]] = record.attributes[key]
    told = (to_number(record.attributes.get(key))[0] for key in _LASTS)
    duration_ms = next((number for number in told if number), 0.0)
    start_ns = max(record.time_ns - round(duration_ms * 1_000_000), 1)
    return DecodedSpan(
        trace_id,
        span_id,
        parent or "",
        rule["name"],
        _INTERNAL,
        start_ns,
        record.time_ns,
        attributes,
        [],
        [],
        status_code=_ERROR if rule.get("failed") else 0,
    )


def _first(record: DecodedLog, keys: list[str]) -> str:
    """Return the first of ``keys`` that the record has, else the time at which it was made."""
    return next((to_text(record.attributes[key]) for key in keys if record.attributes.get(key)), str(record.time_ns))


def _digest(length: int, *parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]
