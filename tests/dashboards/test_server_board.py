"""The dashboard of the server itself asks for metrics that /metrics has."""

from __future__ import annotations

import re

from dashboards.build import SERVER_BOARD
from dashboards.llm_server import DATASOURCE, queries
from datasource.prometheus.promql.engine import parsed
from datasource.prometheus.promql.syntax import NAME_LABEL, Selector, walk
from server.telemetry.prometheus import METRICS
from tests.dashboards.dashboard_files import panels_of

LABELS = {next(iter(metric.describe())).name: set(metric._labelnames) for metric in METRICS}


def test_every_query_is_about_metrics_and_labels_of_the_server() -> None:
    asked = set()
    for query in queries():
        expression = query["expr"].replace("$__rate_interval", "5m").replace("$job", ".*")
        for part in walk(parsed(expression)):
            if isinstance(part, Selector):
                (name,) = [item.value for item in part.matchers if item.name == NAME_LABEL]
                family = re.sub(r"_(total|bucket|sum|count)$", "", name)
                assert family in LABELS, name
                used = {item.name for item in part.matchers} - {NAME_LABEL, "job"}
                by = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression)))) - {"le"}
                assert used <= LABELS[family]
                assert by <= LABELS[family]
                asked.add(family)
    assert len(asked) >= 12


def test_panels_explain_themselves() -> None:
    board = SERVER_BOARD.render()
    for panel in panels_of(board):
        assert panel["datasource"] == DATASOURCE
        assert len(panel["description"]) > 20
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
