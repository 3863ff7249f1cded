"""The scrape endpoint: what a Prometheus reads, and what promtool says of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.conftest import AppServer, ProjectMaker
from tests.span_factory import make_span, store

HOSTILE = 'a "b" \\ c\nd'


async def test_a_project_is_scraped_with_exemplars(
    client: httpx.AsyncClient, app_server: AppServer, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> None:
    await project("alpha")
    await project("beta")
    now = datetime.now(UTC).replace(microsecond=0)
    spans = [
        make_span(ts=now - timedelta(seconds=number), duration_ms=100.0 * (number + 1), service_name=HOSTILE)
        for number in range(5)
    ]
    await store(app_server.services, "alpha", spans)
    await store(app_server.services, "beta", make_span(service_name="secret"))
    headers = bearer("viewer", ["alpha"])
    answer = await client.get("/metrics/projects/alpha", headers=headers)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]
    calls = {sample.name: sample for sample in families["llm_calls"].samples}
    assert calls["llm_calls_total"].value == 5
    assert calls["llm_calls_total"].labels["service"] == HOSTILE
    assert datetime.fromtimestamp(calls["llm_calls_created"].value, UTC) == now.replace(
        day=1, hour=0, minute=0, second=0
    )
    duration = families["llm_duration_seconds"]
    assert (duration.type, duration.unit) == ("histogram", "seconds")
    sums = {sample.name: sample.value for sample in duration.samples if sample.name != "llm_duration_seconds_bucket"}
    assert (sums["llm_duration_seconds_sum"], sums["llm_duration_seconds_count"]) == (1.5, 5)
    exemplars = {sample.exemplar.labels["trace_id"] for sample in duration.samples if sample.exemplar}
    assert exemplars
    assert exemplars <= {span.trace_id for span in spans}
    assert "secret" not in answer.text

    older = await client.get("/metrics/projects/alpha", headers={**headers, "Accept": "text/plain"})
    totals = {family.name: family for family in parse_text(older.text)}
    assert totals["llm_calls"].samples[0].value == 5
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = subprocess.run([promtool, "check", "metrics"], input=older.text, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    for foreign in ("beta", "nothing"):
        assert (await client.get(f"/metrics/projects/{foreign}", headers=headers)).status_code == 403
    poor = await client.get("/metrics/projects/alpha", headers=bearer("viewer", ["alpha"], scopes=["metrics:read"]))
    assert "usd" not in poor.text
    assert "llm_calls_total" in poor.text
