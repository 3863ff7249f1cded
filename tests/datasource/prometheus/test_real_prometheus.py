"""A real Prometheus scrapes a project, and promtool reads what we write. Skipped where they are not installed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboards.alert_pack import PACK
from tests.conftest import AppServer, ProjectMaker
from tests.datasource.prometheus.compliance import free_port
from tests.live.conftest import store_live
from tests.span_factory import make_span, store

NEEDED = ("prometheus", "promtool")
pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in NEEDED),
    reason="prometheus and promtool are not installed (Debian's package prometheus)",
)
SCRAPES = """
global: {{scrape_interval: 2s, scrape_timeout: 2s}}
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
    """The API of a Prometheus that scrapes alpha every two seconds."""
    await project("alpha")
    token = bearer("viewer", ["alpha"])["Authorization"].removeprefix("Bearer ")
    (tmp_path / "token").write_text(token)
    target = app_server.base_url.removeprefix("http://")
    (tmp_path / "prometheus.yml").write_text(SCRAPES.format(folder=tmp_path, target=target))
    port = free_port()
    program = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20) as http:
            yield http
    finally:
        program.kill()
        program.wait(10)


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
