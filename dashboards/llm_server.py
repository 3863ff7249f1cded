"""``llm-server``: is the server itself well (utilisation, saturation, errors of ingest, API, cache and background)?

It asks a Prometheus that scrapes ``/metrics`` of the server, so it is the one dashboard that our own data sources do
not answer.
"""

from __future__ import annotations

from typing import Any, Final

from dashboards.board import Board, Row
from dashboards.panels import BLUE, PURPLE, RED, TEAL, YELLOW, columns, lines, stat
from dashboards.queries import Json
from dashboards.variables import IN_CONTROLS_MENU

DATASOURCE: Final = {"type": "prometheus", "uid": "${ds}"}
_JOB: Final = 'job=~"$job"'


def asked(expression: str, legend: str = "", ref_id: str = "A", *, instant: bool = False) -> Json:
    """Return a query of a panel; ``JOB`` stands for the chosen scrape jobs."""
    return {
        "refId": ref_id,
        "datasource": dict(DATASOURCE),
        "editorMode": "code",
        "expr": expression.replace("JOB", _JOB),
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
        "format": "time_series",
    }


def _rate(metric: str, by: str = "", matchers: str = "") -> str:
    chosen = f"JOB, {matchers}" if matchers else "JOB"
    return f"sum by ({by}) (rate({metric}{{{chosen}}}[$__rate_interval]))"


def _p99(histogram: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile(0.99, sum by ({labels}) (rate({histogram}_bucket{{JOB}}[$__rate_interval])))"


def _own(panel: Json) -> Json:
    return {**panel, "datasource": dict(DATASOURCE)}


_FIGURES: Final = (
    stat("Spans/s", "Spans committed by second, over the last five minutes.", asked(
        "sum(rate(observatory_spans_stored_total{JOB}[5m]))", instant=True), unit="short", size=(4, 4)),
    stat("Refused spans/s", "Spans refused out of accepted batches: look for the reason below.", asked(
        "sum(rate(observatory_spans_rejected_total{JOB}[5m]))", instant=True), unit="short", size=(4, 4),
        thresholds=((None, "text"), (0.01, "orange"))),
    stat("Answers 5xx", "Share of the requests that the server could not answer.", asked(
        'sum(rate(http_requests_total{JOB, status=~"5.."}[5m])) / sum(rate(http_requests_total{JOB}[5m]))',
        instant=True), unit="percentunit", size=(4, 4), thresholds=((None, "text"), (0.001, "orange"), (0.01, "red"))),
    stat("Commit p99", "99 % of ingest transactions were faster.", asked(
        "histogram_quantile(0.99, sum by (le) (rate(observatory_ingest_commit_seconds_bucket{JOB}[5m])))",
        instant=True), unit="s", size=(4, 4)),
    stat("Cache hits", "Share of the questions that the result cache answered.", asked(
        'sum(rate(observatory_cache_requests_total{JOB, outcome="hit"}[5m]))'
        " / sum(rate(observatory_cache_requests_total{JOB}[5m]))", instant=True), unit="percentunit", size=(4, 4)),
    stat("Redis", "Whether Redis is being used; without it limits and cache are those of each process.", asked(
        "min(observatory_redis_up{JOB})", instant=True), unit="bool_yes_no", size=(4, 4),
        thresholds=((None, "red"), (1, "text"))),
)  # fmt: skip

BOARD: Final = Board(
    uid="llm-server",
    title="LLM server",
    description="The server itself: ingest, API, cache, limits and background work, from a Prometheus that scrapes it.",
    common=False,
    variables=(
        {
            "type": "datasource", "name": "ds", "label": "Prometheus", "query": "prometheus", "regex": "/^(?!LLM)/",
            "description": "A Prometheus that scrapes /metrics of the server.", "hide": IN_CONTROLS_MENU,
            "includeAll": False, "multi": False, "refresh": 1, "options": [], "current": {}, "skipUrlSync": False,
        },
        {
            "type": "query", "name": "job", "label": "Job", "description": "Scrape jobs of the server.",
            "datasource": dict(DATASOURCE), "definition": "label_values(observatory_redis_up, job)",
            "query": {"query": "label_values(observatory_redis_up, job)", "refId": "job", "qryType": 1}, "refresh": 2,
            "sort": 1, "multi": True, "includeAll": True, "allValue": ".*", "regex": "", "hide": 0, "options": [],
            "current": {"text": ["All"], "value": ["$__all"]}, "skipUrlSync": False,
        },
    ),
    rows=tuple(Row(title, [_own(item) for item in panels]) for title, panels in (
        (None, _FIGURES),
        ("Ingest", (
            lines("Spans", "Committed, known already (replays), and refused, by second.",
                  asked(_rate("observatory_spans_stored_total"), "stored"),
                  asked(_rate("observatory_spans_unchanged_total"), "known already", "B"),
                  asked(_rate("observatory_spans_rejected_total"), "refused", "C"), unit="short",
                  colors={"stored": BLUE, "known already": TEAL, "refused": RED}, size=(8, 8)),
            lines("Commit time p99", "99 % of ingest transactions were faster: a database that is behind shows here.",
                  asked(_p99("observatory_ingest_commit_seconds"), "p99"), unit="s", size=(8, 8)),
            columns("Refused spans by reason", "Spans refused out of accepted batches.",
                    asked(_rate("observatory_spans_rejected_total", "reason"), "{{reason}}"), unit="short",
                    size=(8, 8)),
        )),
        ("API", (
            columns("Requests by status", "Requests by second; 429 and 5xx are worth a look.",
                    asked(_rate("http_requests_total", "status"), "{{status}}"), unit="reqps", size=(8, 8)),
            lines("p99 by route", "The eight slowest routes: 99 % of their requests were faster.",
                  asked(f"topk(8, {_p99('http_request_duration_seconds', 'route')})", "{{route}}"), unit="s",
                  size=(8, 8)),
            columns("Refused", "Requests refused by a rate limit and credentials refused, by second.",
                    asked(_rate("observatory_rate_limited_total", "policy"), "limit {{policy}}"),
                    asked(_rate("observatory_authentication_refused_total", "reason"), "credential {{reason}}", "B"),
                    unit="short", size=(8, 8)),
        )),
        ("Behind it", (
            columns("Cache", "Questions to the result cache by outcome.",
                    asked(_rate("observatory_cache_requests_total", "outcome"), "{{outcome}}"), unit="short",
                    size=(8, 8)),
            lines("Rollups", "Deltas folded by second, and how long a fold takes (p99): lag of long ranges.",
                  asked(_rate("observatory_rollup_deltas_folded_total"), "deltas"),
                  asked(_p99("observatory_rollup_fold_seconds"), "fold p99 (s)", "B"), unit="short",
                  colors={"deltas": BLUE, "fold p99 (s)": PURPLE}, size=(8, 8)),
            columns("Failures", "Failed runs of background work, lost log lines, spans without a price.",
                    asked(_rate("observatory_background_failures_total", "task"), "{{task}}"),
                    asked(_rate("observatory_log_lines_lost_total"), "lost log lines", "B"),
                    asked(_rate("observatory_spans_unpriced_total"), "unpriced spans", "C"), unit="short",
                    colors={"unpriced spans": YELLOW}, size=(8, 8)),
        )),
    )),
)  # fmt: skip


def queries() -> list[dict[str, Any]]:
    """Return every query of the dashboard."""
    return [query for row in BOARD.rows for panel in row.panels for query in panel["targets"]]
