"""The JSON data source over HTTP: the test list A.7 and group G, with bodies as Grafana 12.4 sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import httpx
import jsonschema

from datasource.panel_catalog import TARGETS
from server.telemetry.prometheus import CACHE_REQUESTS
from tests.conftest import AppFactory
from tests.datasource.grafana_client import (
    RECORDED,
    Grafana,
    adapted,
    columns_of,
    is_empty,
    points,
    query_body,
    recording,
    with_unknown_keys,
)
from tests.datasource.seed import ACME, HOSTILE_USER, TRACES, Seed

# A.7 e: the three forms of an answer, with a type on each column and times in whole milliseconds.
ANSWER_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "oneOf": [
            {
                "required": ["target", "refId", "title", "datapoints"],
                "not": {"required": ["length"]},
                "properties": {
                    "datapoints": {
                        "items": {
                            "prefixItems": [{"type": ["number", "null"]}, {"type": "integer", "minimum": 10**12}],
                            "minItems": 2,
                            "maxItems": 2,
                        }
                    }
                },
            },
            {
                "required": ["type", "refId", "columns", "rows"],
                "not": {"required": ["length"]},
                "properties": {
                    "type": {"const": "table"},
                    "columns": {
                        "items": {
                            "required": ["text", "type"],
                            "properties": {"type": {"enum": ["time", "number", "string", "boolean", "other"]}},
                        }
                    },
                },
            },
            {
                "required": ["schema", "data"],
                "not": {"required": ["length"]},
                "properties": {
                    "schema": {
                        "required": ["refId", "fields"],
                        "properties": {
                            "fields": {
                                "items": {
                                    "required": ["name", "type"],
                                    "properties": {"type": {"enum": ["time", "number", "string", "boolean", "other"]}},
                                }
                            }
                        },
                    }
                },
            },
        ],
    },
}


async def test_a_health_is_200_with_and_without_a_slash(grafana: Grafana) -> None:
    for path in ("/grafana", "/grafana/"):
        answer = await grafana.http.get(path, headers=grafana.headers)
        assert answer.status_code == 200
        assert answer.json()["status"] == "ok"
        assert (await grafana.http.get(path)).status_code == 401


async def test_b_every_recorded_request_is_answered(grafana: Grafana) -> None:
    # The first two hold an empty payload in a strict target, the rest only keys that are not ours.
    refused = {"query-interpolation-failed", "query-absolute-range-utc", "query-formats-all",
               "query-formats-multi", "query-formats-single"}  # fmt: skip
    assert len(RECORDED) == 19
    for name in RECORDED:
        path = recording(name)["path"]
        if recording(name)["method"] == "GET":
            answers = [await grafana.http.get(path, headers=grafana.headers)]
        else:
            body = adapted(name, grafana.seed)
            answers = [await grafana.post(path, body), await grafana.post(path, with_unknown_keys(body))]
        for answer in answers:
            assert answer.status_code == (400 if name in refused else 200), (name, answer.text)
            assert answer.headers["content-type"] == "application/json"
            if name.startswith("query") and answer.status_code == 200:
                jsonschema.validate(answer.json(), ANSWER_SCHEMA)


async def test_b_recorded_variable_formats_agree_with_one_another(grafana: Grafana) -> None:
    for name in ("query-formats-all", "query-formats-multi", "query-formats-single"):
        payload = recording(name)["body"]["targets"][0]["payload"]
        everything = payload["all"].replace("var-user=", "var-elsewhere=")
        asked = [
            {"model": payload["m_qp"]},
            {"model": payload["m_pe"]},
            {"model": payload["m_csv"]},
            {"vars": everything},
        ]
        answers = [
            await grafana.query({"target": "timeseries", "payload": {"metric": "calls", **one}}) for one in asked
        ]
        assert len({points(answer) for answer in answers}) == 1, name


async def test_c_an_empty_payload_is_an_error_when_strict_and_a_notice_when_not(grafana: Grafana) -> None:
    strict = await grafana.query({"target": "timeseries", "payload": {}})
    assert strict.status_code == 400
    assert "queryparam" in strict.json()["message"]
    loose = await grafana.query({"target": "timeseries", "payload": {}, "strict": False})
    assert loose.status_code == 200
    assert points(loose) == TRACES
    assert "nothing is filtered" in loose.json()[0]["meta"]["notices"][0]["text"]


async def test_d_builder_mode_sends_texts_with_escapes(grafana: Grafana) -> None:
    payload = {"metric": "calls", "model": "(gpt-5|gpt-4\\.1)", "limit": "10", "group_by": ["model", ""]}
    answer = await grafana.query({"target": "timeseries", "editorMode": "builder", "payload": payload})
    assert points(answer) == 32
    assert {frame["title"] for frame in answer.json()} == {"gpt-5", "gpt-4.1"}


async def test_e_every_target_keeps_the_schema_and_the_ref_id(grafana: Grafana) -> None:
    for definition in TARGETS.values():
        payload = {"vars": "var-x="} | (
            {"trace_id": grafana.seed.trace_id} if definition.field_named("trace_id") else {}
        )
        answer = await grafana.query({"target": definition.name, "refId": "Q7", "payload": payload})
        assert answer.status_code == 200, (definition.name, answer.text)
        frames = answer.json()
        jsonschema.validate(frames, ANSWER_SCHEMA)
        assert frames, definition.name
        assert {frame.get("refId") or frame["schema"]["refId"] for frame in frames} == {"Q7"}


async def test_f_two_targets_keep_their_order_and_names(grafana: Grafana) -> None:
    answer = await grafana.query(
        {"target": "histogram", "refId": "Z", "payload": {"metric": "duration"}},
        {"target": "timeseries", "refId": "A", "payload": {"metric": "calls"}},
        {"target": "nonsense", "refId": "H", "hide": True},
    )
    assert [frame.get("refId") or frame["schema"]["refId"] for frame in answer.json()] == ["Z", "A"]


AD_HOC: list[tuple[str, str, str, int]] = [
    ("model", "=", "gpt-5", 16),
    ("model", "!=", "gpt-5", 32),
    ("model", "=~", "gpt.*", 32),
    ("model", "!~", "^gpt", 16),
    ("duration_ms", ">", "1000", 23),
    ("duration_ms", "<=", "1000", 25),
    ("duration_ms", ">=", "1575", 1),
    ("duration_ms", "<", "425", 1),
    ("status", "=", "error", 6),
    ("tags", "=", "batch", 8),
    ("attribute.app.tier", "=", "free", 16),
    ("user_id", "=", HOSTILE_USER, 4),
]


async def test_g_ad_hoc_filters(grafana: Grafana) -> None:
    target = {"target": "timeseries", "payload": {"metric": "calls"}}
    for key, operator, value, calls in AD_HOC:
        item = {"key": key, "operator": operator, "value": value, "condition": "", "valueLabels": [value]}
        for name in ("filters", "adhocFilters"):
            answer = await grafana.query(target, **{"filters": [], name: [item]})
            assert points(answer) == calls, (key, operator, value, answer.text)


async def test_g_one_of_filters_take_several_values(grafana: Grafana) -> None:
    target = {"target": "timeseries", "payload": {"metric": "calls"}}
    several = {"key": "model", "operator": "=|", "value": "gpt-5", "values": ["gpt-5", "claude-opus-4"]}
    assert points(await grafana.query(target, filters=[several])) == 32
    assert points(await grafana.query(target, filters=[{**several, "operator": "!=|"}])) == 16


async def test_h_an_empty_result_keeps_its_columns(grafana: Grafana) -> None:
    answer = await grafana.query({"target": "spans", "payload": {"model": "no-such-model"}})
    (frame,) = answer.json()
    assert is_empty(frame)
    assert ("duration_ms", "number") in set(columns_of(frame))


async def test_i_slow_panels_leave_room_for_health(grafana: Grafana, owner: asyncpg.Connection) -> None:
    """Panels wait for a lock, hold all their places and no more: everybody else still gets a connection."""
    async with asyncio.TaskGroup() as tasks, owner.transaction():
        await owner.execute("LOCK TABLE llm_traces IN ACCESS EXCLUSIVE MODE")
        waiting = [
            tasks.create_task(grafana.query({"target": "spans", "payload": {"limit": number + 1}}))
            for number in range(10)
        ]
        await asyncio.sleep(0.2)
        health = await asyncio.wait_for(grafana.http.get("/grafana", headers=grafana.headers), 0.5)
        assert health.status_code == 200
        assert not any(task.done() for task in waiting)
    assert {task.result().status_code for task in waiting} == {200}


async def test_a_panel_that_takes_too_long_ends_at_the_database_too(
    start_app: AppFactory, bearer: Callable[..., dict[str, str]], owner: asyncpg.Connection, seeded_history: Seed
) -> None:
    server = await start_app(grafana_timeout=0.3)
    body = query_body(seeded_history, {"target": "spans", "payload": {"limit": 3}})
    async with owner.transaction(), httpx.AsyncClient(base_url=server.base_url) as http:
        await owner.execute("LOCK TABLE llm_traces IN ACCESS EXCLUSIVE MODE")
        answer = await http.post("/grafana/query", json=body, headers=bearer("viewer", [ACME]))
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "query_timeout")
        async with asyncio.timeout(1):
            while await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.02)


async def test_j_the_data_source_credential_cannot_write_or_leave_its_project(grafana: Grafana) -> None:
    annotation = await grafana.post("/api/v1/annotations", {"title": "x"})
    assert annotation.status_code == 403
    for payload in ({"project": "globex"}, {"project": "unknown"}, {"project": "var-project=acme&var-project=globex"}):
        answer = await grafana.query({"target": "spans", "payload": payload})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "project_forbidden"
    for method in ("PUT", "DELETE", "PATCH"):
        assert (await grafana.http.request(method, "/grafana/query", headers=grafana.headers)).status_code == 405


async def test_nothing_of_another_project_is_seen(grafana: Grafana) -> None:
    secret = "secret"
    for definition in TARGETS.values():
        payload = {"vars": "var-x="} | ({"trace_id": "f" * 32} if definition.field_named("trace_id") else {})
        answer = await grafana.query({"target": definition.name, "payload": payload})
        assert secret not in answer.text, definition.name
    for field in ("model", "user", "provider", "projects"):
        answer = await grafana.post("/grafana/variable", {"payload": {"field": field}, "range": grafana.seed.range()})
        assert secret not in answer.text
        assert "globex" not in answer.text
    named = {"payload": {"field": "model", "project": "globex"}, "range": grafana.seed.range()}
    assert (await grafana.post("/grafana/variable", named)).status_code == 403
    values = await grafana.post("/grafana/tag-values", {"key": "model", "timeRange": grafana.seed.range()})
    assert secret not in values.text


async def test_money_and_content_need_their_scopes(grafana: Grafana, bearer: Callable[..., dict[str, str]]) -> None:
    poor = Grafana(grafana.http, bearer("viewer", [ACME], scopes=["metrics:read"]), grafana.seed)
    assert (await poor.query({"target": "stat", "payload": {"metric": "calls"}})).status_code == 200
    assert (await poor.query({"target": "stat", "payload": {"metric": "cost"}})).status_code == 403
    assert (await poor.query({"target": "flame_graph", "payload": {"value": "cost"}})).status_code == 403
    costly = {"field": "total_cost_usd", "operator": "gt", "value": 0.4}
    metric = {"metric": "calls"}
    for name, more in {"stat": metric, "timeseries": metric, "breakdown": metric, "availability": {}}.items():
        for where in (costly, {"not": costly}):
            asked = {"target": name, "payload": {**more, "where": where}}
            refused = await poor.query(asked)
            assert refused.status_code == 403, asked
            assert refused.json()["error"]["message"] == "A filter by total_cost_usd needs the scope costs:read."
            assert (await grafana.query(asked)).status_code == 200
            assert (await poor.query(asked)).status_code == 403
    adhoc = [{"key": "total_cost_usd", "operator": ">", "value": "0.4"}]
    refused = await poor.query({"target": "stat", "payload": {"metric": "calls"}}, adhocFilters=adhoc)
    assert refused.status_code == 403
    assert (await poor.query({"target": "spans", "payload": {"limit": 5}})).status_code == 403
    billing = Grafana(grafana.http, bearer("billing", [ACME]), grafana.seed)
    assert (await billing.query({"target": "logs", "payload": {"limit": 5}})).status_code == 403
    for name in ("errors", "messages", "trace"):
        payload = {"trace_id": grafana.seed.trace_id} if name != "errors" else {"limit": 100}
        text = (await billing.query({"target": name, "payload": payload})).text
        assert "question" not in text, name
        assert "429 too many" not in text, name


async def test_markup_in_values_stays_text(grafana: Grafana) -> None:
    table = await grafana.query({"target": "spans", "payload": {"limit": 1000}})
    users = {row[5] for row in table.json()[0]["rows"]}
    assert HOSTILE_USER in users
    found = await grafana.query({"target": "spans", "payload": {"user": [HOSTILE_USER], "limit": 1000}})
    assert len(found.json()[0]["rows"]) == 12


async def test_equal_questions_are_asked_once(grafana: Grafana) -> None:
    """Fifty viewers of one panel: one computation, and none while nothing changes."""
    target = {"target": "breakdown", "payload": {"metric": "calls,cost", "group_by": "model"}}
    before = cache_misses()
    answers = await asyncio.gather(*(grafana.query(target, panelId=number) for number in range(50)))
    assert {answer.content for answer in answers} == {answers[0].content}
    assert cache_misses() - before == 1
    await grafana.query(target)
    assert cache_misses() - before == 1


def cache_misses() -> float:
    """Return how often this process computed an answer that could have been remembered."""
    return sum(
        sample.value
        for family in CACHE_REQUESTS.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["outcome"] == "miss"
    )


async def test_a_failed_variable_means_no_filter(grafana: Grafana) -> None:
    """Section H: panels are then sent with an empty value."""
    answer = await grafana.query({"target": "timeseries", "payload": {"metric": "calls", "model": "var-model="}})
    assert points(answer) == TRACES
