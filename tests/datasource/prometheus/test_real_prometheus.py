"""A real Prometheus scrapes a project, and promtool reads what we write. Skipped where they are not installed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboards.alert_pack import PACK
from tests.conftest import AppServer, ProjectMaker
from tests.datasource.prometheus.prometheus_client import PrometheusClient
from tests.live.conftest import store_live
from tests.span_factory import make_span, store

NEEDED = ("prometheus", "promtool")
pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in NEEDED),
    reason="prometheus and promtool are not installed (Debian's package prometheus)",
)
LISTENING = re.compile(r'msg="Listening on" address=\S+:(\d+)')
SCRAPES = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: llm
    metrics_path: /metrics/projects/alpha
    authorization: {{credentials_file: {folder}/token}}
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.fixture
async def scraper(
    app_server: AppServer, project: ProjectMaker, bearer: Callable[..., dict[str, str]], tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """The API of a Prometheus that scrapes alpha every second."""
    await project("alpha")
    token = bearer("viewer", ["alpha"])["Authorization"].removeprefix("Bearer ")
    (tmp_path / "token").write_text(token)
    target = app_server.base_url.removeprefix("http://")
    (tmp_path / "prometheus.yml").write_text(SCRAPES.format(folder=tmp_path, target=target))
    log = tmp_path / "prometheus.log"
    with log.open("wb") as errors:
        program = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--enable-feature=exemplar-storage",
            ],
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        port = await listening_port(program, log)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20) as http:
            yield http
    finally:
        program.kill()
        program.wait(10)


async def listening_port(program: subprocess.Popen[bytes], log: Path) -> int:
    """Return the port that Prometheus chose: one that is chosen for it may be taken before it has started."""
    async with asyncio.timeout(60):
        while not (found := LISTENING.search(log.read_text())):
            assert program.poll() is None, log.read_text()
            await asyncio.sleep(0.05)
    return int(found[1])


async def until(http: httpx.AsyncClient, path: str, holds: Callable[[Any], bool], **params: str) -> Any:
    """Return the data of an answer as soon as it is as wanted."""
    async with asyncio.timeout(60):
        while True:
            try:
                found = (await http.get(path, params=params)).json().get("data")
                if found and holds(found):
                    return found
            except (httpx.TransportError, json.JSONDecodeError):
                pass
            await asyncio.sleep(0.1)


async def test_a_prometheus_scrapes_counts_rates_and_exemplars(
    scraper: httpx.AsyncClient, app_server: AppServer
) -> None:
    now = datetime.now(UTC)

    async def stored(count: int) -> list[Any]:
        spans = [make_span(ts=now - timedelta(seconds=number), duration_ms=250.0) for number in range(count)]
        await store_live(app_server.services, "alpha", *spans)
        return spans

    def value(data: Any) -> float:
        return float(data["result"][0]["value"][1]) if data["result"] else -1

    first = await stored(5)
    await until(scraper, "/query", lambda data: value(data) == 5, query="sum(llm_calls_total)")
    second = await stored(7)
    await until(scraper, "/query", lambda data: value(data) == 12, query="sum(llm_calls_total)")
    grown = await until(scraper, "/query", lambda data: value(data) > 0, query="sum(rate(llm_calls_total[1m]))")
    assert value(grown) > 0
    middle = "histogram_quantile(0.5, sum by (le) (llm_duration_seconds_bucket))"
    assert 0.1 < value(await until(scraper, "/query", lambda data: value(data) > 0, query=middle)) <= 0.5
    window = {"start": str(now.timestamp() - 3600), "end": str(now.timestamp() + 60)}
    found = await until(scraper, "/query_exemplars", bool, query="llm_duration_seconds_bucket", **window)
    ids = {item["labels"]["trace_id"] for series in found for item in series["exemplars"]}
    assert ids <= {span.trace_id for span in (*first, *second)}
    (target,) = (await scraper.get("/targets")).json()["data"]["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


# Forms of the published compliance suite over our counters, which a scrape has as samples and the API as spans.
# Grouping leaves out the labels that a scrape adds and those that it has not. Percentiles are compared
# elsewhere: a scrape has a few buckets, the API has the bins of a sketch.
SAME_QUESTIONS = (
    "sum(increase(llm_calls_total[{w}]))",
    "{calls}",
    "sum without (instance, job, project, status, error_type) (rate(llm_calls_total[{w}]))",
    "avg by (provider) ({rates})",
    "max by (provider) ({rates})",
    "min by (provider) ({rates})",
    "count by (provider) (sum by (provider, model) (increase(llm_calls_total[{w}])) > 1)",
    "stddev by (provider) (sum by (provider, model) (increase(llm_calls_total[{w}])))",
    "sqrt(stdvar({calls}))",
    "quantile(0.75, {calls})",
    "topk(1, {calls})",
    "bottomk(2, {calls})",
    "sum by (provider) (increase(llm_errors_total[{w}])) / sum by (provider) (increase(llm_calls_total[{w}]))",
    "sum by (model) (increase(llm_tokens_total{{token_type='input'}}[{w}]))",
    "sum by (model, token_type) (increase(llm_tokens_total{{model=~'m[ab]'}}[{w}]))",
    "sum by (model) (increase(llm_cost_usd_total[{w}])) > bool 1",
    "sum by (model) (increase(llm_calls_total{{model!='ma'}}[{w}])) or {errors}",
    "{calls} and {errors} > 0.5",
    "{rate} unless on (model) {errors} > 3",
    "{rates} / on (provider) group_left sum by (provider) (rate(llm_calls_total[{w}]))",
    "label_replace({rate}, 'short', '$1', 'model', 'm(.)')",
    "label_join({rates}, 'both', '-', 'provider', 'model')",
    "sum(rate(llm_duration_seconds_sum[{w}])) / sum(rate(llm_duration_seconds_count[{w}]))",
    "absent(llm_calls_total{{model='none'}})",
    "absent(sum by (model) (increase(llm_calls_total{{model='ma'}}[{w}])))",
    "clamp_max({calls}, 5)",
    "ceil(sum(rate(llm_calls_total[{w}])))",
    "-{calls} ^ 0.5",
    "scalar(sum(increase(llm_calls_total[{w}]))) * vector(2)",
    "sort_desc({calls})",
    "sgn(sum by (model) (rate(llm_errors_total[{w}])))",
)
REFUSED = (
    "sum(", "llm_calls_total[5m", "rate(llm_calls_total)", "llm_calls_total{model=~'('}", "nonsense(llm_calls_total)",
    "sum by (model) (rate(llm_calls_total[1m])) + on () group_left", "llm_calls_total offset", "{}", "1 +", "topk(a)",
)  # fmt: skip
WINDOW = 20
"""Seconds: with a scrape every second Prometheus extrapolates by 5 % at most."""

WORDS = {
    "w": f"{WINDOW}s",
    "calls": f"sum by (model) (increase(llm_calls_total[{WINDOW}s]))",
    "errors": f"sum by (model) (increase(llm_errors_total[{WINDOW}s]))",
    "rate": f"sum by (model) (rate(llm_calls_total[{WINDOW}s]))",
    "rates": f"sum by (provider, model) (rate(llm_calls_total[{WINDOW}s]))",
}


def values(data: Any) -> dict[str, float]:
    """Return the values of an instant answer by its labels."""
    return {json.dumps(row["metric"], sort_keys=True): float(row["value"][1]) for row in data["result"]}


async def test_the_api_and_a_prometheus_that_scrapes_agree_within_a_scrape(
    scraper: httpx.AsyncClient, client: httpx.AsyncClient, app_server: AppServer,
    bearer: Callable[..., dict[str, str]],
) -> None:  # fmt: skip
    kinds = {"ma": 3, "mb": 7, "mc": 12}

    def spans(at: datetime, times: int) -> list[Any]:
        made = []
        for model, count in kinds.items():
            usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
            priced = {**usage, "total_cost_usd": Decimal("0.3"), "cost_source": "computed", "model": model}
            provider = "one" if model == "ma" else "two"
            for number in range(count * times):
                error = {"status_code": "ERROR", "error_type": "timeout"} if number % 3 == 0 else {}
                made.append(make_span(ts=at, provider=provider, duration_ms=250.0, **priced, **error))
        return made

    # All label sets are there before, so that what comes is growth; Prometheus needs some samples of them.
    await store_live(app_server.services, "alpha", *spans(datetime.now(UTC) - timedelta(minutes=30), 1))
    total = "sum(llm_calls_total)"
    await until(scraper, "/query", lambda data: set(values(data).values()) == {22.0}, query=total)
    await asyncio.sleep(WINDOW / 2)
    await store_live(app_server.services, "alpha", *spans(datetime.now(UTC), 2))
    await until(scraper, "/query", lambda data: set(values(data).values()) == {66.0}, query=total)
    await asyncio.sleep(2)
    asked = {"time": str(datetime.now(UTC).timestamp())}
    ours = PrometheusClient(client, bearer("viewer", ["alpha"]))
    different = []
    for question in SAME_QUESTIONS:
        query = question.format(**WORDS)
        real = values((await scraper.get("/query", params={"query": query, **asked})).json()["data"])
        project = ', "project": "alpha"'
        mine = {
            labels.replace(project, ""): value
            for labels, value in values(await ours.data("query", {"query": query, **asked})).items()
        }
        if mine.keys() != real.keys() or any(mine[key] != pytest.approx(real[key], rel=0.12, abs=1e-9) for key in real):
            different.append((query, mine, real))
    assert different == [], "\n".join(map(str, different))
    for query in REFUSED:
        refused = await scraper.get("/query", params={"query": query})
        assert (await ours.error("query", {"query": query}))[:2] == (
            refused.status_code,
            refused.json()["errorType"],
        ), query


def promtool(*arguments: str | Path, text: str | None = None) -> None:
    checked = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_promtool_finds_no_fault_in_the_exposition(
    client: httpx.AsyncClient, app_server: AppServer, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> None:
    await project("alpha")
    await store(app_server.services, "alpha", [make_span(service_name='a "b" \\ c\nd'), make_span(model="ü")])
    headers = {**bearer("admin", ["alpha"]), "Accept": "text/plain"}
    promtool("check", "metrics", text=(await client.get("/metrics/projects/alpha", headers=headers)).text)


def test_promtool_reads_every_expression_of_the_alerts(tmp_path: Path) -> None:
    groups = [
        {
            "name": name,
            "interval": interval,
            "rules": [
                {
                    "alert": alert.title,
                    "expr": f"({alert.expression}) {alert.comparison} {alert.bound}",
                    "for": alert.hold,
                }
                for alert in alerts
            ],
        }
        for name, interval, alerts in PACK
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": groups}))
    promtool("check", "rules", tmp_path / "rules.yml")
