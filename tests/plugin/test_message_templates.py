"""Messages about alerts use only what Grafana provides; ``tests/plugin/go`` renders them."""

from __future__ import annotations

import re

from dashboards.message_templates import TEMPLATE

NAMES = re.findall(r'define "([\w.]+)"', TEMPLATE)
# The fields that Grafana passes to a template, and the functions of Alertmanager and Go that it has.
FIELDS = {
    "Alerts", "Firing", "Resolved", "CommonLabels", "Labels", "Annotations", "PanelURL", "SilenceURL", "StartsAt",
    "EndsAt", "Sub", "Format", "alertname", "project", "severity", "summary", "description", "runbook_url",
}  # fmt: skip
WORDS = {"define", "template", "with", "else", "if", "and", "end", "range", "len", "reReplaceAll"}


def test_templates_use_only_what_grafana_has() -> None:
    actions = re.findall(r"\{\{-?\s*(.*?)\s*-?\}\}", TEMPLATE, re.DOTALL)
    depth = 0
    for action in actions:
        bare = re.sub(r'"[^"]*"', "", action)
        assert set(re.findall(r"\.(\w+)", bare)) <= FIELDS, action
        assert set(re.findall(r"(?<![.\w])([A-Za-z]\w*)", bare)) <= WORDS, action
        depth += bool(re.match(r"(define|with|if|range)\b", bare)) - (bare == "end")
        assert depth >= 0, action
    assert depth == 0
    assert set(re.findall(r'template "([\w.]+)"', TEMPLATE)) <= set(NAMES)
