"""The alert pack on nine days of the demo: each rule fires for its own trouble, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from dashboards.alert_pack import PACK
from server.demo.demo_span import DemoTrace
from server.demo.otlp_export import encode
from server.demo.schedule import Schedule
from server.settings import Settings
from tests.conftest import ProjectMaker
from tests.datasource.prometheus.prometheus_client import PrometheusClient
from tests.datasource.seed import ACME

# Within these days the demo has each of its episodes once, and from the last Friday on a worse version of the prompts.
END = datetime(2024, 11, 23, 20, tzinfo=UTC)
DAYS, TRACES, SEED = 9, 5000, 6
SERVICES = {"support-assistant", "code-review-agent", "report-writer"}
"""Those that the episodes concern: the others would only take time."""
ALERTS = {alert.title: alert for _, _, alerts in PACK for alert in alerts}


@dataclass(frozen=True)
class Trouble:
    """When an alert is right (in the demo's calendar), and labels of those whom it concerns."""

    first: datetime
    last: datetime
    labels: dict[str, str]


def november(day: int, first: int, last: int, **labels: str) -> Trouble:
    """Return an episode of one day from one hour to another; alerts look an hour back."""
    start = datetime(2024, 11, day, tzinfo=UTC)
    return Trouble(start + timedelta(hours=first), start + timedelta(hours=last + 1), labels)


def worse(**labels: str) -> Trouble:
    """Return the time of the worse prompts, until the end."""
    return Trouble(datetime(2024, 11, 22, tzinfo=UTC), END, labels)


OUTAGE = november(17, 16, 18, provider="anthropic")
SLOWNESS = november(19, 10, 14, provider="anthropic")
LOOP = november(22, 16, 21, service="code-review-agent")
TROUBLES: dict[str, tuple[Trouble, ...]] = {
    "LLMErrorRateHigh": (OUTAGE,),
    "LLMLatencyHigh": (SLOWNESS,),
    "LLMFirstTokenSlow": (SLOWNESS,),
    "LLMCostSpike": (november(21, 10, 13, service="report-writer"), LOOP),
    # It looks three hours back.
    "LLMAgentLoop": (november(22, 16, 23, service="code-review-agent"),),
    "LLMScoreRegression": (worse(score_name="helpfulness"),),
}
"""What has to fire, for each of its troubles. A rule that is not named here has to be silent."""
BY_CHANCE = november(17, 12, 12, provider="openai")
"""Two of nineteen calls of an hour were refused, which is just above the bound."""
MAY_FIRE = {"LLMRateLimited": (OUTAGE, BY_CHANCE), "LLMErrorRateElevated": (OUTAGE,), "LLMScoreRegression": (worse(),)}


def demo(shift: timedelta) -> Iterator[DemoTrace]:
    """Yield the traces of those days, later by ``shift``."""
    schedule = Schedule(END, DAYS, TRACES, SEED)
    nanoseconds = int(shift.total_seconds()) * 1_000_000_000
    for day in schedule.dates():
        for trace in schedule.day_traces(day):
            if trace.resource["service.name"] not in SERVICES:
                continue
            for span in trace.spans:
                span.start_ns += nanoseconds
                span.end_ns += nanoseconds
                span.events = [(name, at + nanoseconds, more) for name, at, more in span.events]
            for score in trace.scores:
                score["timestamp"] = (datetime.fromisoformat(score["timestamp"]) + shift).isoformat()
            yield trace


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings that keep five-minute rollups: without them a range of days has its windows moved to whole hours, and
    what fires would depend on whether they were deleted before the question or after it.
    """
    return replace(settings, rollup_5m_days=2 * DAYS)


@pytest.fixture
async def shift(client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], project: ProjectMaker) -> timedelta:
    """Stores the demo so that it ended two hours ago; returns by how much it was moved."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    moved = now - timedelta(hours=2) - END
    await project(ACME)
    headers = bearer("developer", [ACME])
    traces = list(demo(moved))
    for start in range(0, len(traces), 300):
        part = traces[start : start + 300]
        sent = await client.post(
            "/v1/traces", content=encode(part), headers=headers | {"Content-Type": "application/x-protobuf"}
        )
        assert sent.status_code == 200, sent.text
    scores = [score for trace in traces for score in trace.scores]
    for start in range(0, len(scores), 500):
        posted = await client.post(
            "/api/v1/scores/batch", json={"scores": scores[start : start + 500]}, headers=headers
        )
        assert posted.status_code < 300, posted.text
    return moved


@pytest.mark.timeout(600)  # nine days of half hours for each rule: two minutes are not enough for a busy machine
async def test_each_rule_fires_for_its_own_trouble_and_for_nothing_else(
    client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], shift: timedelta
) -> None:
    prometheus = PrometheusClient(client, bearer("viewer", [ACME]))
    for title in ALERTS:
        expected = TROUBLES.get(title, ())
        fired = await fires(prometheus, title, shift)
        for labels, at in fired:
            allowed = [*expected, *MAY_FIRE.get(title, ())]
            assert any(concerns(trouble, labels, at) for trouble in allowed), f"{title} for {labels} at {at}"
        for trouble in expected:
            assert any(concerns(trouble, labels, at) for labels, at in fired), f"{title} is silent about {trouble}"
    silent = await firing(prometheus, "LLMNoTraffic", END + shift + timedelta(minutes=65))
    assert [labels["project"] for labels in silent] == [ACME]
    await check_budgets(prometheus, bearer("admin", ["*"]), datetime.now(UTC))
    await check_unpriced(prometheus, bearer("developer", [ACME]))


def concerns(trouble: Trouble, labels: dict[str, str], at: datetime) -> bool:
    """Return whether an alert is about ``trouble``."""
    return trouble.first <= at <= trouble.last and trouble.labels.items() <= labels.items()


async def fires(prometheus: PrometheusClient, title: str, shift: timedelta) -> list[tuple[dict[str, str], datetime]]:
    """Return labels and moment (of the demo's calendar) of every firing at a half hour; two days of warm-up are left
    out.
    """
    end = (END + shift).timestamp()
    expression = ALERTS[title].render_for_prometheus()["expr"]
    asked = {"query": expression, "start": end - (DAYS - 2) * 86_400, "end": end, "step": 1800}
    found = await prometheus.data("query_range", asked)
    return [
        (row["metric"], datetime.fromtimestamp(at, UTC) - shift) for row in found["result"] for at, _ in row["values"]
    ]


async def firing(prometheus: PrometheusClient, title: str, at: datetime) -> list[dict[str, str]]:
    """Return the labels of the alerts of a rule at a moment."""
    expression = ALERTS[title].render_for_prometheus()["expr"]
    found = await prometheus.data("query", {"query": expression, "time": at.timestamp()})
    return [row["metric"] for row in found["result"]]


async def check_budgets(prometheus: PrometheusClient, admin: dict[str, str], now: datetime) -> None:
    """Check budgets of a day in the evening of one that lies within the demo, whatever the date is. One is fine, one is
    at its own warning, one will not last until midnight, one is over: each alert has its own.
    """
    evening = (now - timedelta(days=3)).replace(hour=20, minute=0, second=0, microsecond=0)
    spent = await prometheus.instant("sum(increase(llm_cost_usd_total[20h]))", evening.timestamp())
    for name, used in (("fine", 0.3), ("close", 0.6), ("soon", 0.9), ("over", 1.2)):
        body = {"name": name, "amount_usd": f"{spent[''] / used:.9f}", "period": "day", "warning_pct": 50}
        made = await prometheus.http.put(f"/api/v1/budgets/{ACME}/{name}", json=body, headers=admin)
        assert made.status_code == 201, made.text
    for title, budgets in (
        ("LLMBudgetWarning", {"close", "soon"}),
        ("LLMBudgetCritical", {"over"}),
        ("LLMBudgetProjectedOver", {"soon", "over"}),
    ):
        assert {labels["budget"] for labels in await firing(prometheus, title, evening)} == budgets, title
    early = evening.replace(hour=2)
    assert await firing(prometheus, "LLMBudgetProjectedOver", early) == [], "the first tenth of a day is not judged"


async def check_unpriced(prometheus: PrometheusClient, developer: dict[str, str]) -> None:
    """Check that a call of a model without a price fires the alert, which names the model."""
    assert await firing(prometheus, "LLMUnpricedModel", datetime.now(UTC)) == []
    (trace,) = list(demo(datetime.now(UTC) - END))[-1:]
    for span in trace.spans:
        if "gen_ai.response.model" in span.attributes:
            span.attributes |= {"gen_ai.request.model": "house-model-1", "gen_ai.response.model": "house-model-1"}
    sent = await prometheus.http.post(
        "/v1/traces", content=encode([trace]), headers=developer | {"Content-Type": "application/x-protobuf"}
    )
    assert sent.status_code == 200, sent.text
    fired = await firing(prometheus, "LLMUnpricedModel", datetime.now(UTC))
    assert {labels["model"] for labels in fired} == {"house-model-1"}
