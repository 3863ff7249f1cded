"""Questions that are deep, broad, wrong or many."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import orjson

from tests.hostile.hostile import Hostile

PROMQL = "/prometheus/api/v1/query_range"
NAME = "llm_calls_total"


def deep_promql() -> list[str]:
    """Return expressions that nest, branch, multiply or never end."""
    labels = ",".join(f'l{number}="x"' for number in range(3000))
    doubled = NAME
    for number in range(40):
        doubled = f'label_replace({doubled}, "a", "$1$1", "{"a" if number else "model"}", "(.*)")'
    joined = NAME
    for _ in range(30):
        joined = f'label_join({joined}, "a", "", "a", "a", "model")'
    return [
        "(" * 20_000 + "1" + ")" * 20_000,
        "-" * 20_000 + "1",
        "+".join(["1"] * 20_000),
        "^".join(["2"] * 5_000),
        " or ".join([NAME] * 2_000),
        "abs(" * 5_000 + NAME + ")" * 5_000,
        "sum by (model) (" * 500 + NAME + ")" * 500,
        f"{NAME}{{{labels}}}",
        f'{NAME}{{model=~"{"(a+)+" * 200}$"}}',
        f'{NAME}{{model=~"{"(" * 5000}{")" * 5000}"}}',
        f'{NAME}{{model=~"(x{{1000}}){{1000}}"}}',
        f"rate({NAME}[100y:1ms])",
        f"{NAME}[9999999999d]",
        f"sum_over_time({NAME}[30d:1s])",
        "max_over_time(" * 20 + f"{NAME}" + "[1d:1s])" * 20,
        f"{NAME} offset 99999999999y",
        f"{NAME} @ 1e300",
        f"{NAME} @ -9e99",
        f"topk(1e308, {NAME})",
        f"topk(NaN, {NAME})",
        f"quantile(NaN, {NAME})",
        f'count_values("\\xff", {NAME})',
        f"{NAME} * on() group_left() {NAME}",
        f"{NAME} * ignoring({','.join(f'l{n}' for n in range(2000))}) {NAME}",
        f"histogram_quantile(1e400, {NAME})",
        f"holt_winters({NAME}[1d], 2, 2)",
        "1e" + "9" * 5000,
        "0x" + "f" * 5000,
        '"' + "\\u0000" * 5000 + '"',
        doubled,
        joined,
        "{__name__=~'.+'}",
        "{" + ",".join("__name__=~'.*'" for _ in range(500)) + "}",
        "vector(" * 300 + "1" + ")" * 300,
        "scalar(" * 300 + NAME + ")" * 300,
        "\x00",
        "#" * 50_000,
        f"predict_linear({NAME}[1d], 1e308)",
        f"clamp({NAME}, NaN, -Inf)",
        f"round({NAME}, 1e-320)",
        f"sort_desc({NAME}) " + "> bool 1 " * 400,
        f'label_replace({NAME}, "a", "$9999", "model", "(((((((((((.*)))))))))))")',
        "time() " * 2,
        f"absent({NAME}{{" + ",".join(f'a{n}="{"y" * 50}"' for n in range(500)) + "})",
    ]


async def promql(hostile: Hostile) -> None:
    """Ask PromQL of great depth and breadth, over ranges as wide, fine and wrong as can be written."""
    expressions = itertools.cycle(deep_promql())
    ranges: list[tuple[Any, Any, Any]] = [
        ("now", "now", "15s"), (0, 9e12, 1), (1.7e9, 1.8e9, 1e-9), ("NaN", "Inf", "NaN"), (2e9, 1e9, 15),
        (-1e300, 1e300, 1e298), (1764000000, 1764011000, 1), ("", "", ""), (1764000000, 1764600000, 3600),
    ]  # fmt: skip

    async def act(client: httpx.AsyncClient) -> None:
        start, end, step = hostile.dice.choice(ranges)
        data = {"query": next(expressions), "start": start, "end": end, "step": step, "limit": "-1"}
        await hostile.ask(client, "POST", PROMQL, data=data)
        data = {"query": next(expressions), "time": str(start)}
        await hostile.ask(client, "POST", "/prometheus/api/v1/query", data=data)
        path = hostile.dice.choice(["parse_query", "format_query", "series", "labels", "label/model/values"])
        data = {"query": next(expressions), "match[]": next(expressions)}
        await hostile.ask(client, "POST", f"/prometheus/api/v1/{path}", data=data)

    await hostile.again_and_again(act)


def deep_traceql() -> list[str]:
    """Return queries of TraceQL that nest or branch, and text that is not TraceQL."""
    return [
        "(" * 5_000 + "{}" + ")" * 5_000,
        "{" + "(" * 3_000 + "true" + ")" * 3_000 + "}",
        "{" + " && ".join(f'.a{n} = "x"' for n in range(2_000)) + "}",
        "{" + " || ".join('name =~ "(a+)+$"' for _ in range(500)) + "}",
        " >> ".join(["{}"] * 500),
        " && ".join(["{}"] * 3_000),
        "{ " + "!" * 5_000 + "true }",
        "{ " + "-" * 5_000 + "1 = 1 }",
        "{ .a = " + "9" * 5_000 + " }",
        "{ duration > " + "9" * 300 + "h }",
        "{ duration > 1e400s }",
        "{} | " + " | ".join(["count() > 1"] * 1_000),
        "{} | by(" + ",".join(f".a{n}" for n in range(1_000)) + ")",
        "{} | rate() by (" + ",".join(f".a{n}" for n in range(200)) + ")",
        "{} | quantile_over_time(duration, " + ",".join(["0.5"] * 2_000) + ")",
        "{} | quantile_over_time(duration, NaN, -1, 9)",
        "{ name =~ `" + "(" * 3_000 + "` }",
        '{ name = "\x00" }',
        '{ name = "\\ud800" }',
        "{" * 10_000,
        "{ status = error && kind = banana }",
        "{} | select(" + ",".join(f"span.a{n}" for n in range(2_000)) + ")",
        "{} | histogram_over_time(duration) with(exemplars=1e9)",
        "{ resource.service.name = nil }",
        "{ event:timeSinceStart > 1ns } !>> { link:traceID != nil }",
    ]


async def traceql(hostile: Hostile) -> None:
    """Ask TraceQL of great depth and breadth."""
    queries = itertools.cycle(deep_traceql())
    ranges: list[dict[str, str]] = [
        {}, {"start": "0", "end": "99999999999"}, {"start": "NaN"}, {"limit": "999999"}, {"spss": "-1"},
        {"start": "1764000000", "end": "1764600000", "step": "1s"},
    ]  # fmt: skip

    async def act(client: httpx.AsyncClient) -> None:
        bounds = hostile.dice.choice(ranges)
        for path in ("search", "metrics/query_range", "v2/search/tag/.a/values"):
            await hostile.ask(client, "GET", f"/tempo/api/{path}", params={"q": next(queries), **bounds})
        await hostile.ask(client, "GET", f"/jaeger/api/traces?service=x&tags={'{' * 2000}&lookback={'9' * 400}h")

    await hostile.again_and_again(act)


def deep_filters() -> list[Any]:
    """Return documents that nest, branch, or have no type that was meant."""
    nested: Any = {"field": "model", "operator": "eq", "value": "x"}
    for _ in range(900):
        nested = {"not": nested}
    return [
        nested,
        {"and": [{"field": "model", "operator": "eq", "value": "x"}] * 20_000},
        {"and": [{"or": [{"not": {"field": "cost", "operator": "gt", "value": 1}}] * 40}] * 40},
        {"field": "model", "operator": "in", "value": ["x" * 200] * 5_000},
        {"field": "model", "operator": "regex", "value": "(a+)+" * 100 + "$"},
        {"field": "attributes." + "a." * 2_000, "operator": "eq", "value": "x"},
        {"field": "total_cost_usd", "operator": "gt", "value": 1e400},
        {"field": "total_cost_usd", "operator": "gt", "value": 10**400},
        {"field": "start_time", "operator": "gt", "value": "9" * 5_000},
        {"field": None, "operator": [], "value": {}},
        {"field": "model", "operator": "eq", "value": "\ud800"},
        {"field": "model", "operator": "eq", "value": "\x00"},
        {"field": "tags", "operator": "contains_all", "value": [str(n) for n in range(5_000)]},
        [[[[]]]], "", 0, None, True,
    ]  # fmt: skip


def document(value: Any) -> bytes:
    """Return ``value`` as JSON, even if it has no valid form in JSON."""
    import json

    return json.dumps(value).encode()


async def filters(hostile: Hostile) -> None:
    """Search documents, metric questions, panels and variables with hostile filters."""
    documents = itertools.cycle(deep_filters())
    kinds: list[tuple[str, Callable[[Any], Any]]] = [
        ("/api/v1/traces/search", lambda found: {"from": "now-1h", "filter": found}),
        ("/api/v1/traces/search", lambda found: {"from": found, "limit": found, "sort_by": found, "fields": found}),
        ("/api/v1/metrics/query", lambda found: {"metric": ["cost"], "from": "now-30d", "filter": found}),
        ("/api/v1/metrics/query", lambda found: {"metric": found, "group_by": found, "interval": found}),
        ("/grafana/query", lambda found: {"range": found, "intervalMs": found, "targets": [{"refId": found}]}),
        ("/grafana/query", lambda found: {
            "range": {"from": "now-1d", "to": "now"}, "maxDataPoints": 1e9, "adhocFilters": [found] * 3,
            "targets": [{"refId": "A", "target": "timeseries", "payload": {"metric": "cost", "filter": found}}] * 50}),
        ("/grafana/variable", lambda found: {"payload": {"target": found}, "range": found}),
        ("/grafana/annotations", lambda found: {"annotation": found, "range": found}),
        ("/api/v1/scores", lambda found: {"name": found, "value": found, "trace_id": found}),
        ("/api/v1/scores/batch", lambda found: {"scores": [found] * 100}),
        ("/api/v1/annotations", lambda found: {"text": found, "time": found, "tags": found}),
        ("/api/v1/prices", lambda found: {"provider": found, "model": found, "input_usd_per_mtok": found}),
        ("/api/v1/costs/reprice", lambda found: {"from": found, "to": found, "models": found}),
        ("/api/v1/keys", lambda found: {"label": found, "kind": found, "scopes": found}),
        ("/api/v1/clients", lambda found: {"client_name": found, "role": found}),
    ]  # fmt: skip

    async def act(client: httpx.AsyncClient) -> None:
        path, form = hostile.dice.choice(kinds)
        await hostile.ask(client, "POST", path, content=document(form(next(documents))),
                          headers={"Content-Type": "application/json"})  # fmt: skip
        text = document(next(documents))[:6000].decode()
        for address in ("traces", "facets/model", "users", "sessions", "costs/attribution", "metrics?metric=cost"):
            separator = "&" if "?" in address else "?"
            await hostile.ask(client, "GET", f"/api/v1/{address}{separator}from=now-1d",
                              params={"filter": text, "cursor": text[:2000], "limit": text[:20]})  # fmt: skip

    await hostile.again_and_again(act)


async def agents(hostile: Hostile) -> None:
    """Send wrong, deep and many messages of the Model Context Protocol."""
    nested: Any = []
    for _ in range(400):
        nested = [nested]

    def call(name: Any, arguments: Any, number: Any = 1) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": number, "method": "tools/call",
                "params": {"name": name, "arguments": arguments}}  # fmt: skip

    messages: list[Any] = [
        [call("search_spans", {})] * 500,
        call("search_spans", {"filters": nested}),
        call("search_spans", {"filters": {"contains": "zz"}, "limit": 10**30}),
        call("trace_outline", {"trace_id": "x" * 100_000}),
        call("nothing" * 1000, None),
        call(None, []),
        call("search_spans", {}, number=10**400),
        call("search_spans", {}, number=nested),
        {"jsonrpc": "2.0", "method": "initialize", "id": 1, "params": {"protocolVersion": "x" * 50_000}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": "file:///etc/passwd"}},
        {"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": nested},
        {"jsonrpc": "1.0"}, "x", None, [], nested,
    ]  # fmt: skip
    rounds = itertools.cycle(messages)

    async def act(client: httpx.AsyncClient) -> None:
        accept = hostile.dice.choice(["application/json, text/event-stream", "text/event-stream", "*/*", ""])
        await hostile.ask(client, "POST", "/mcp", content=document(next(rounds)), headers={
            "Content-Type": "application/json", "Accept": accept,
            "Mcp-Session-Id": "x" * hostile.dice.randrange(200), "MCP-Protocol-Version": "9999-99-99"})  # fmt: skip

    await hostile.again_and_again(act)


async def exports(hostile: Hostile) -> None:
    """Start exports and jobs in great number, hardly read them, and abandon them."""
    names = itertools.cycle(["ndjson", "csv", "parquet", "otlp", "../../etc", "\x00"])

    async def act(client: httpx.AsyncClient) -> None:
        params = {"from": "now-30d", "format": next(names), "compression": hostile.dice.choice(["gzip", "zstd", "x"])}
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(0.5), client.stream("GET", "/api/v1/export/traces", params=params) as answer:
                hostile.seen.note(answer.status_code, str(params))
                async for _ in answer.aiter_raw(4096):
                    break
        body = orjson.dumps({"from": "now-30d", "format": "ndjson", "filter": {"contains": "x" * 2000}})
        made = await hostile.ask(client, "POST", "/api/v1/exports", content=body)
        body = orjson.dumps({"from": "now-30d", "format": "csv"})
        made = await hostile.ask(client, "POST", "/api/v1/exports", content=body) or made
        if made is not None and made.status_code == 202:
            path = f"/api/v1/exports/{made.json()['data']['export_id']}"
            for name in ("part-00000.csv", "manifest.json", "..%2f..%2fmanifest.json", "part-99999.csv"):
                await hostile.ask(client, "GET", f"{path}/files/{name}")
            await hostile.ask(client, "DELETE", path)

    await hostile.again_and_again(act)


async def aborts(hostile: Hostile) -> None:
    """Ask questions of every kind, and reset the connection."""
    paths = [
        "/api/v1/traces?from=now-30d&contains=zz", "/api/v1/traces?from=now-30d&search=word1&total=exact",
        "/api/v1/metrics?metric=cost&from=now-30d&group_by=user&limit=40&interval=1h&max_points=11000",
        "/api/v1/sessions?from=now-30d", "/api/v1/users?from=now-30d", "/api/v1/costs/forecast", "/metrics",
        "/tempo/api/search?q=%7B%7D", "/jaeger/api/services", "/api/v1/export/traces?from=now-30d",
        "/prometheus/api/v1/query?query=llm_calls_total", "/metrics/projects/hostile", "/openapi.json", "/ready",
    ]  # fmt: skip

    async def one() -> None:
        while True:
            head = hostile.head("GET", hostile.dice.choice(paths))
            await hostile.speak(head * hostile.dice.choice([1, 1, 1, 20]), receive=hostile.dice.random() * 0.03)

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(one())
