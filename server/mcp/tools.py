"""The tools that agents can call, as one table; each asks routes of the REST API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from server.errors import InvalidParameter
from server.mcp.data_text import fitting, marked
from server.mcp.inner_request import Question
from server.mcp.links import links_of
from server.settings import Settings

Ask = Callable[[Question], Awaitable[dict[str, Any]]]
Arguments = Mapping[str, Any]

DEFAULT_BUDGET: Final = 4000
LARGEST_BUDGET: Final = 25_000
CONTENT_PAGE: Final = 8000
"""Characters of a page of a span's content."""
_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer", "minimum": 1}

PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "search": {**_TEXT, "description": "Words in prompts and answers."},
    "meaning": {
        **_TEXT,
        "description": "Text in any language: the spans nearest in meaning come first, with similarity and found_by. "
        "With search: near in meaning or with these words.",
    },
    "like": {
        **_TEXT,
        "description": "TRACE_ID or TRACE_ID/SPAN_ID: the spans nearest in meaning to what was said there come first.",
    },
    "filters": {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean", "array"]},
        "description": 'Query parameters of lists, such as {"model": "gpt-4o", "status": "error", "user_id": "u1"}.',
    },
    "from": {**_TEXT, "description": "Start of the range: RFC 3339 or relative, as now-24h."},
    "to": {**_TEXT, "description": "End of the range, not included; default now."},
    "earlier_from": {**_TEXT, "description": "Start of the range to compare with."},
    "earlier_to": {**_TEXT, "description": "End of that range, not included."},
    "project_id": {**_TEXT, "description": "One project; default: all that the credential grants."},
    "limit": {**_NUMBER, "maximum": 200, "description": "Most rows; default 20."},
    "sort_by": {**_TEXT, "description": "ts (default), total_cost_usd, duration_ms and others; largest first."},
    "trace_id": {**_TEXT, "description": "The trace."},
    "span_id": {**_TEXT, "description": "The span."},
    "page": {**_NUMBER, "description": "Page of the content, from 1."},
    "metric": {**_TEXT, "description": "calls, errors, error_rate, cost, total_tokens, duration.p95 and others."},
    "group_by": {**_TEXT, "description": "Dimension: model, provider, service, user, environment, error_type…"},
    "interval": {**_TEXT, "description": "Width of buckets, as 1h or 1d; without it one value for the range."},
    "token_budget": {
        **_NUMBER,
        "maximum": LARGEST_BUDGET,
        "description": f"About how many tokens the answer may take; default {DEFAULT_BUDGET}.",
    },
}


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool: its description, its arguments, and the function that answers."""

    name: str
    sentence: str
    arguments: tuple[str, ...]
    required: tuple[str, ...]
    run: Callable[[Ask, Arguments, Settings], Awaitable[str]]

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        return {
            "type": "object",
            "properties": {name: PARAMETERS[name] for name in self.arguments},
            "required": list(self.required),
            "additionalProperties": False,
        }


def _budget(arguments: Arguments) -> int:
    return int(arguments.get("token_budget", DEFAULT_BUDGET))


def _asked(arguments: Arguments, *names: str, **fixed: Any) -> dict[str, Any]:
    """Return query parameters: those of ``filters``, of these arguments, and fixed ones."""
    given = {name: arguments.get(name) for name in names}
    clash = sorted(set(arguments.get("filters") or {}) & {*PARAMETERS, *fixed})
    if clash:
        raise InvalidParameter.named("filters", f"{clash[0]} is not a filter here: it is an argument, or fixed")
    return {**(arguments.get("filters") or {}), **given, **fixed}


async def _rows(ask: Ask, question: Question, arguments: Arguments, settings: Settings, board: str) -> str:
    data = (await ask(question))["data"]
    text, note = fitting(data if isinstance(data, list) else [data], _budget(arguments))
    return marked(text, links=links_of(settings, board, question), note=note)


async def _search(ask: Ask, arguments: Arguments, settings: Settings) -> str:
    params = _asked(
        arguments, "search", "meaning", "like", "to", "project_id", "sort_by",
        **{"from": arguments.get("from", "now-24h"), "limit": arguments.get("limit", 20)},
    )  # fmt: skip
    return await _rows(ask, Question("/api/v1/traces", params), arguments, settings, "llm-explore")


async def _outline(ask: Ask, arguments: Arguments, settings: Settings) -> str:
    question = Question(
        f"/api/v1/traces/{quote(arguments['trace_id'], safe='')}", {"project_id": arguments.get("project_id")}
    )
    answer = await ask(question)
    lines = [_outline_line(span) for span in answer["data"]["spans"]]
    text, note = fitting(lines, _budget(arguments))
    if answer["pagination"]["has_more"]:
        note = f"{note} The trace has more than {len(lines)} spans.".strip()
    links = links_of(settings, "llm-trace", question, trace_id=arguments["trace_id"])
    return marked(text, links=links, note=note)


def _outline_line(span: Mapping[str, Any]) -> str:
    facts = [span["operation_type"], span["model"], f"{span['duration_ms']:.0f} ms", span["status_code"]]
    if span["total_tokens"] is not None:
        facts.append(f"{span['total_tokens']} tokens")
    if span["total_cost_usd"] is not None:
        facts.append(f"${span['total_cost_usd']}")
    if span["error_type"]:
        facts.append(str(span["error_type"]))
    shown = ", ".join(str(fact) for fact in facts if fact)
    return f"{'  ' * span['depth']}{span['span_name']} [{span['span_id']}] {shown}"


async def _content(ask: Ask, arguments: Arguments, settings: Settings) -> str:
    path = "/".join(quote(arguments[name], safe="") for name in ("trace_id",))
    question = Question(
        f"/api/v1/traces/{path}/spans/{quote(arguments['span_id'], safe='')}",
        {"project_id": arguments.get("project_id")},
    )
    span = (await ask(question))["data"]
    parts = [
        f"{name}:\n{span[name] if isinstance(span[name], str) else fitting([span[name]], LARGEST_BUDGET * 100)[0]}"
        for name in ("input_messages", "input_text", "output_messages", "output_text", "error_message", "attributes")
        if span.get(name)
    ]
    whole = "\n\n".join(parts)
    pages = max(1, -(-len(whole) // CONTENT_PAGE))
    page = int(arguments.get("page", 1))
    if page > pages:
        raise InvalidParameter.named("page", f"the content has {pages} pages")
    text = whole[(page - 1) * CONTENT_PAGE : page * CONTENT_PAGE]
    links = links_of(settings, "llm-trace", question, trace_id=arguments["trace_id"])
    return marked(text, links=links, note=f"Page {page} of {pages}.")


async def _metrics(ask: Ask, arguments: Arguments, settings: Settings) -> str:
    question = Question("/api/v1/metrics", _metric_params(arguments))
    return await _rows(ask, question, arguments, settings, "llm-overview")


def _metric_params(arguments: Arguments, **fixed: Any) -> dict[str, Any]:
    fixed = {"from": arguments.get("from", "now-24h"), "to": arguments.get("to"), **fixed}
    return _asked(arguments, "metric", "group_by", "interval", "project_id", "limit", **fixed)


async def _errors(ask: Ask, arguments: Arguments, settings: Settings) -> str:
    params = _metric_params(arguments, metric="errors", group_by="error_type")
    params = {name: value for name, value in params.items() if name != "interval"}
    return await _rows(ask, Question("/api/v1/metrics", params), arguments, settings, "llm-errors")


async def _costs(ask: Ask, arguments: Arguments, settings: Settings) -> str:
    params = _asked(arguments, "from", "to", "project_id")
    return await _rows(ask, Question("/api/v1/costs/summary", params), arguments, settings, "llm-cost")


async def _unpriced(ask: Ask, arguments: Arguments, settings: Settings) -> str:
    params = {name: arguments.get(name) for name in ("from", "to", "project_id")}
    return await _rows(ask, Question("/api/v1/costs/unpriced", params), arguments, settings, "llm-cost")


async def _compare(ask: Ask, arguments: Arguments, settings: Settings) -> str:
    later = Question("/api/v1/metrics", _metric_params(arguments))
    window = {"from": arguments["earlier_from"], "to": arguments["earlier_to"]}
    earlier = Question("/api/v1/metrics", _metric_params(arguments, **window))
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, question in (("earlier", earlier), ("later", later)):
        for row in (await ask(question))["data"]:
            labels = {key: row[key] for key in sorted(row.keys() - {"time", "time_ms", "value", "unit"})}
            pair = found.setdefault(tuple(map(str, labels.values())), {**labels, "earlier": None, "later": None})
            pair[name] = row["value"]
    for pair in found.values():
        has_both = isinstance(pair["earlier"], int | float) and isinstance(pair["later"], int | float)
        pair["change"] = pair["later"] - pair["earlier"] if has_both else None
    text, note = fitting(list(found.values()), _budget(arguments))
    return marked(text, links=links_of(settings, "llm-overview", later), note=note)


_RANGE: Final = ("from", "to", "project_id", "token_budget")

TOOLS: Final[dict[str, ToolSpec]] = {
    tool.name: tool
    for tool in (
        ToolSpec(
            "search_spans",
            "Find spans (model calls, tool calls, agent steps) by words, meaning and filters, newest first.",
            ("search", "meaning", "like", "filters", *_RANGE, "limit", "sort_by"),
            (),
            _search,
        ),
        ToolSpec(
            "trace_outline",
            "Show one trace as an indented outline: a line per span, without content.",
            ("trace_id", "project_id", "token_budget"),
            ("trace_id",),
            _outline,
        ),
        ToolSpec(
            "span_content",
            "Read prompt, answer, error and attributes of one span, in pages.",
            ("trace_id", "span_id", "project_id", "page"),
            ("trace_id", "span_id"),
            _content,
        ),
        ToolSpec(
            "query_metrics",
            "Aggregate: one metric over a range, by group and over time. Sums and percentiles are exact or say so.",
            ("metric", "group_by", "interval", "filters", *_RANGE, "limit"),
            ("metric",),
            _metrics,
        ),
        ToolSpec(
            "cost_report",
            "Report what was spent: totals, change, by model, service, user, and day; default the last 30 days.",
            ("filters", *_RANGE),
            (),
            _costs,
        ),
        ToolSpec(
            "unpriced_models",
            "List models whose calls have tokens and no price, with the reason; default the last 30 days.",
            _RANGE,
            (),
            _unpriced,
        ),
        ToolSpec(
            "errors_by_class",
            "Count errors by their class.",
            ("filters", *_RANGE, "limit"),
            (),
            _errors,
        ),
        ToolSpec(
            "compare_ranges",
            "Compare one metric in two ranges, by group.",
            ("metric", "group_by", "filters", "earlier_from", "earlier_to", *_RANGE, "limit"),
            ("metric", "earlier_from", "earlier_to"),
            _compare,
        ),
    )
}
