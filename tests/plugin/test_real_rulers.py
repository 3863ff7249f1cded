"""A real vmalert judges the alert pack against a running server, and a real Alertmanager sends the messages, by the
commands of docs/how-to/alert-without-grafana.md. Skipped where they are not installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from server.ingest.mapping.span_record import SpanRecord
from tests.conftest import AppServer, ProjectMaker
from tests.datasource.prometheus.compliance import free_port
from tests.docs.markdown import ROOT, Page
from tests.span_factory import make_span, store

PAGE = Page(ROOT / "docs" / "how-to" / "alert-without-grafana.md")
ALERTMANAGER = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
"""Debian's name has the word Prometheus in front."""
pytestmark = pytest.mark.skipif(
    shutil.which("vmalert") is None or ALERTMANAGER is None, reason="vmalert and alertmanager are not installed"
)
SECONDS = 60


@dataclass
class Inbox:
    """A stand-in for Slack's address of incoming messages; keeps what it was sent."""

    messages: list[dict[str, str]] = field(default_factory=list)

    def serve(self) -> ThreadingHTTPServer:
        """Return a server, started in a thread."""
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                messages.extend(body["attachments"])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        return server

    async def until(self, title: str) -> dict[str, str]:
        """Return the message with this title, as soon as it came."""
        async with asyncio.timeout(SECONDS):
            while True:
                for message in self.messages:
                    if message["title"] == title:
                        return message
                await asyncio.sleep(0.1)


@dataclass(frozen=True)
class Scene:
    """The programs that run."""

    inbox: Inbox
    rules: str
    """Address of vmalert's list of rules."""


@pytest.fixture
async def scene(
    app_server: AppServer, project: ProjectMaker, bearer: Callable[..., dict[str, str]], tmp_path: Path
) -> AsyncIterator[Scene]:
    """Run vmalert and Alertmanager as the page has them, with rules that are judged every second and fire at once."""
    await project("shop")
    inbox = Inbox()
    slack = inbox.serve()
    alertmanager, vmalert = free_port(), free_port()
    addresses = {
        "http://127.0.0.1:8080": app_server.base_url, "127.0.0.1:9093": f"127.0.0.1:{alertmanager}",
        "127.0.0.1:8880": f"127.0.0.1:{vmalert}",
    }  # fmt: skip
    provision, _, judge, send = commands(addresses)
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(provision, cwd=tmp_path, env={"PATH": tools, "HOME": str(tmp_path)}, check=True, capture_output=True)
    hurry(tmp_path / "llm/provisioning/prometheus/llm-observatory.rules.yaml")
    (tmp_path / "vmalert.key").write_text(bearer("viewer", ["shop"])["Authorization"].removeprefix("Bearer "))
    (configuration,) = PAGE.examples("yaml")
    configuration = re.sub(r"https://hooks\S+", f"http://127.0.0.1:{slack.server_port}/", configuration)
    waits = "  group_wait: 1s\n  group_interval: 1s\nreceivers:"
    (tmp_path / "alertmanager.yaml").write_text(configuration.replace("receivers:", waits))
    with ExitStack() as stack:
        stack.callback(slack.server_close)
        stack.callback(slack.shutdown)
        # One instance alone: without this it looks for others of a cluster, which needs an address of the machine.
        for command in ([str(ALERTMANAGER), *send[1:], "--cluster.listen-address="], judge):
            program = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(program.wait, 30)
            stack.callback(program.terminate)
        yield Scene(inbox, f"http://127.0.0.1:{vmalert}/api/v1/rules")


def commands(addresses: dict[str, str]) -> Sequence[list[str]]:
    """Return the commands of the page, with these addresses in the place of its own."""
    text = "".join(PAGE.examples("console"))
    for written, used in addresses.items():
        text = text.replace(written, used)
    return [shlex.split(line) for line in re.findall(r"^\$ (.+)$", text, re.MULTILINE)]


def hurry(rules: Path) -> None:
    """Have the rules judged every second, and fire without waiting."""
    text = re.sub(r'interval: "\w+"', 'interval: "1s"', rules.read_text())
    rules.write_text(re.sub(r'for: "\w+"', 'for: "0s"', text))


def calls(count: int, **values: Any) -> list[SpanRecord]:
    """Return calls of three minutes ago: vmalert judges the moment of half a minute ago."""
    ts = datetime.now(UTC) - timedelta(minutes=3)
    return [make_span(ts=ts, **values) for _ in range(count)]


async def test_alerts_fire_lead_to_panels_and_end(
    scene: Scene, app_server: AppServer, client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]]
) -> None:
    admin = bearer("admin", ["*"])

    async def budget(amount: str) -> None:
        body = {"name": "Tea <&> cakes", "amount_usd": amount, "period": "year"}
        made = await client.put("/api/v1/budgets/shop/total", json=body, headers=admin)
        assert made.is_success, made.text

    paid = {"total_cost_usd": Decimal("0.05"), "cost_source": "computed"}
    hours = [make_span(ts=datetime.now(UTC) - timedelta(hours=hour), **paid) for hour in range(2, 20)]
    await store(app_server.services, "shop", hours)
    await store(app_server.services, "shop", calls(40, **paid) + calls(20, status_code="ERROR", error_type="timeout"))
    await budget("1")

    failing = await scene.inbox.until(":rotating_light: LLMErrorRateHigh (1 firing)")
    assert "*33.33% of the calls to openai (project shop) fail.* (critical)" in failing["text"]
    assert "<https://wiki.example.org/alerts#llmerrorratehigh|What to do>" in failing["text"]
    assert "<https://grafana.example.org/d/llm-errors?viewPanel=" in failing["text"]
    assert "&var-project=shop|Panel>" in failing["text"]
    (silence,) = re.findall(r"<(\S+)\|Silence>", failing["text"])
    assert unquote(silence).startswith("https://alerts.example.org/#/silences/new?filter={")
    assert 'alertname="LLMErrorRateHigh",' in unquote(silence)
    spent = await scene.inbox.until(":rotating_light: LLMBudgetCritical (1 firing)")
    assert "Budget Tea &lt;&amp;&gt; cakes of project shop has reached its critical threshold." in spent["text"]
    assert "|Silence>" in spent["text"]
    assert "Tea%20%3C%26%3E%20cakes" in spent["text"]
    spike = await scene.inbox.until(":rotating_light: LLMCostSpike (1 firing)")
    assert "checkout (project shop) spends 40.0 times as much" in spike["text"]

    await budget("1000")
    await store(app_server.services, "shop", calls(100))
    over = await scene.inbox.until(":white_check_mark: LLMBudgetCritical (1 resolved)")
    assert over["text"].startswith("Resolved after ")
    await scene.inbox.until(":white_check_mark: LLMErrorRateHigh (1 resolved)")

    titles = {message["title"] for message in scene.inbox.messages}
    assert {re.findall(r"LLM\w+", title)[0] for title in titles} <= {
        "LLMErrorRateHigh", "LLMBudgetCritical", "LLMCostSpike", "LLMBudgetProjectedOver"
    }  # fmt: skip
    async with httpx.AsyncClient() as http:
        groups = (await http.get(scene.rules)).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"]: rule["lastError"] for rule in rules} == {rule["name"]: "" for rule in rules}
    assert {rule["health"] for rule in rules} == {"ok"}
