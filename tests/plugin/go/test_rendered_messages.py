"""Messages about alerts, rendered by Go's own engine: run by ``make test-alerts``.

They are no part of ``make test``: Go compiles its library first, which takes a fresh machine a minute.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dashboards.message_templates import ALERTMANAGER_TEMPLATE, TEMPLATE

PROGRAM = Path(__file__).with_name("render.go")
NAMES = re.findall(r'define "([\w.]+)"', TEMPLATE)


def alert(status: str, summary: str, **labels: str) -> dict[str, Any]:
    """Return one alert as Grafana passes it."""
    return {
        "Status": status,
        "Labels": {"alertname": "LLMBudgetCritical", "severity": "critical", "project": "shop", **labels},
        "Annotations": {
            "summary": summary, "description": "118 % of the amount of the period is spent.",
            "runbook_url": "https://wiki.example.org/alerts#llmbudgetcritical",
        },
        "StartsAt": "2026-03-10T08:00:00Z", "EndsAt": "2026-03-10T09:30:00Z",
        "PanelURL": "https://grafana.example.org/d/llm-cost?viewPanel=9",
        "SilenceURL": "https://grafana.example.org/alerting/silence/new",
    }  # fmt: skip


def render(*alerts: dict[str, Any], template: str = TEMPLATE) -> dict[str, str]:
    """Render every message of ``template`` for these alerts."""
    common = {"alertname": "LLMBudgetCritical", "project": "shop"}
    asked = {
        "Template": template,
        "Names": [name for name in NAMES if name.count(".") == 2 and name.split(".")[2] not in ("alert", "plain")],
        "Data": {
            "Status": alerts[0]["Status"],
            "Alerts": list(alerts),
            "CommonLabels": common,
            "ExternalURL": "https://alerts.example.org",
        },
    }
    done = subprocess.run(["go", "run", PROGRAM], input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_messages_read_well() -> None:
    written = render(
        alert("firing", "Budget <b>Search</b> & co of project shop has reached its critical threshold."),
        alert("resolved", "Budget Reports of project shop has reached its critical threshold."),
    )
    assert written["llm.slack.title"] == ":rotating_light: LLMBudgetCritical (1 firing, 1 resolved)"
    assert written["llm.slack.text"] == (
        "*Budget &lt;b&gt;Search&lt;/b&gt; &amp; co of project shop has reached its critical threshold.* (critical)\n"
        "118 % of the amount of the period is spent.\n"
        "<https://grafana.example.org/d/llm-cost?viewPanel=9|Panel>  "
        "<https://wiki.example.org/alerts#llmbudgetcritical|What to do>  "
        "<https://grafana.example.org/alerting/silence/new|Silence>\n\n"
        "Resolved after 1h30m0s: Budget Reports of project shop has reached its critical threshold.\n"
    )
    assert written["llm.email.subject"] == "[LLM] LLMBudgetCritical: 1 firing, 1 resolved in shop"
    assert written["llm.email.message"] == (
        "Budget <b>Search</b> & co of project shop has reached its critical threshold.\n"
        "118 % of the amount of the period is spent.\n"
        "Severity: critical\n"
        "Since: 2026-03-10 08:00 UTC\n"
        "Panel: https://grafana.example.org/d/llm-cost?viewPanel=9\n"
        "What to do: https://wiki.example.org/alerts#llmbudgetcritical\n"
        "Silence: https://grafana.example.org/alerting/silence/new\n\n"
        "Resolved after 1h30m0s: Budget Reports of project shop has reached its critical threshold.\n"
    )


def test_what_an_alert_does_not_have_leaves_nothing_behind() -> None:
    bare = alert("firing", "Calls of m have no price.")
    bare |= {"PanelURL": "", "SilenceURL": "", "Annotations": {"summary": "Calls of m have no price."}}
    written = render({**bare, "Labels": {}})
    assert written["llm.slack.text"] == "*Calls of m have no price.*\n\n\n"
    assert "no value" not in "".join(written.values())
    assert written["llm.email.message"].splitlines()[:2] == ["Calls of m have no price.", "Since: 2026-03-10 08:00 UTC"]


def test_alertmanager_gets_links_from_the_rule_and_from_the_labels() -> None:
    one = alert("firing", "Budget has reached its critical threshold.", budget='Tea & "cakes" \\ more')
    one["Annotations"]["panel_url"] = "https://grafana.example.org/d/llm-cost?viewPanel=9&var-project=shop"
    written = render(one, template=ALERTMANAGER_TEMPLATE)
    assert "PanelURL" not in ALERTMANAGER_TEMPLATE, "Alertmanager refuses a template that asks for it"
    assert "SilenceURL" not in ALERTMANAGER_TEMPLATE
    assert f"<{one['Annotations']['panel_url']}|Panel>" in written["llm.slack.text"]
    (silence,) = re.findall(r"<(\S+)\|Silence>", written["llm.slack.text"])
    assert unquote(silence) == (
        'https://alerts.example.org/#/silences/new?filter={alertname="LLMBudgetCritical",'
        r'budget="Tea & \"cakes\" \\ more",project="shop",severity="critical"}'
    )
    assert f"Silence: {silence}\n" in written["llm.email.message"]
