"""Sends the query of every panel of every dashboard through Grafana, and reports the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from dashboards.alert_rules import PROMETHEUS_UID
from dashboards.build import SERVER_BOARD
from plugin.desired_state import DesiredState, Json
from plugin.grafana_api import Grafana, GrafanaRefused
from plugin.provisioning_files import PLUGINS, TEMPO_UID

OK: Final = "ok"
EMPTY: Final = "empty"
FAILED: Final = "failed"

_REFERENCE: Final = re.compile(r"\$\{(\w+):queryparam\}")
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
_MAIN_SOURCE: Final = "llmtraces"
_PROBES: Final[Mapping[str, tuple[str, ...]]] = {_MAIN_SOURCE: ("",), TEMPO_UID: ("api", "echo")}
"""Addresses that Save & test requests from the browser, through Grafana's proxy, for data sources that Grafana's server
cannot check."""
_SECONDS: Final = {"h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one question through Grafana: ``ok``, ``empty`` or ``failed`` with the reason."""

    state: str
    what: str
    reason: str = ""

    def __str__(self) -> str:
        """Return one line of the report."""
        return f"{self.state:6} {self.what}" + (f": {self.reason}" if self.reason else "")


def check(grafana: Grafana, wanted: DesiredState) -> Iterator[Finding]:
    """Check every data source and alert rule, then every panel with the variables as they are when it is opened."""
    missing = False
    for source in wanted.datasources():
        if source["type"] in PLUGINS and source["type"] not in wanted.plugins:
            continue
        finding = _source(grafana, source)
        missing = missing or (source["uid"] == _MAIN_SOURCE and finding.state == FAILED)
        yield finding
    yield from _rules(grafana, wanted)
    if missing:
        return
    for board in wanted.boards():
        if grafana.get("dashboards", "uid", board["uid"]) is None:
            yield Finding(FAILED, f"dashboard {board['title']}", "it is not installed")
            continue
        if board["uid"] == SERVER_BOARD.uid:
            continue  # it queries a Prometheus that is unknown here
        for panel in _panels(board):
            yield _panel(grafana, board, panel) if wanted.plugin else _built_in_panel(grafana, board, panel)


def _source(grafana: Grafana, source: Json) -> Finding:
    what = f"data source {source['name']}"
    if grafana.get("datasources", "uid", source["uid"]) is None:
        return Finding(FAILED, what, "it is not installed")
    uid = source["uid"]
    try:
        # Only newer Grafanas check Tempo in their server, and none the JSON plugin, which has no server part.
        answer = None if uid == _MAIN_SOURCE else grafana.get("datasources", "uid", uid, "health")
        if answer is None and uid in _PROBES:
            grafana.probe("datasources", "proxy", "uid", uid, *_PROBES[uid])
            return Finding(OK, what)
    except GrafanaRefused as error:
        return Finding(FAILED, what, str(error))
    status = str((answer or {}).get("status", "")).lower()
    return Finding(OK, what) if status == "ok" else Finding(FAILED, what, f"Save & test says {answer}")


def _rules(grafana: Grafana, wanted: DesiredState) -> Iterator[Finding]:
    """Check Grafana's last evaluation of each rule. A rule that was not evaluated yet is not a failure."""
    answer = grafana.get("prometheus", "grafana", "api", "v1", "rules") or {}
    known = {rule["name"]: rule for group in answer.get("data", {}).get("groups", ()) for rule in group["rules"]}
    for title in (rule["title"] for group in wanted.rule_groups() for rule in group["rules"]):
        what, rule = f"alert rule {title}", known.get(title)
        if rule is None:
            yield Finding(FAILED, what, "it is not installed")
        elif rule.get("health") == "error":
            yield Finding(FAILED, what, rule.get("lastError") or "its evaluation failed")
        else:
            yield Finding(OK, what, rule.get("state", "") if rule.get("state") != "inactive" else "")


def _panels(board: Json) -> Iterator[Json]:
    for panel in board["panels"]:
        yield from (item for item in [panel, *panel.get("panels", [])] if item.get("targets"))


def _panel(grafana: Grafana, board: Json, panel: Json) -> Finding:
    what = f"{board['title']} / {panel['title']}"
    values = {item["name"]: _value(item) for item in board["templating"]["list"]}
    end = datetime.now(UTC)
    start = end - _length(board["time"]["from"])
    body = {
        "app": "dashboard",
        "dashboardUID": board["uid"],
        "panelId": panel["id"],
        "range": {
            "from": start.isoformat(),
            "to": end.isoformat(),
            "raw": {"from": board["time"]["from"], "to": board["time"]["to"]},
        },
        "maxDataPoints": panel.get("maxDataPoints", 500),
        "intervalMs": 60_000,
        "targets": [{**query, "payload": _interpolated(query["payload"], values)} for query in panel["targets"]],
    }
    try:
        frames = grafana.post("datasources", "proxy", "uid", _MAIN_SOURCE, "query", body=body)
    except GrafanaRefused as error:
        return Finding(FAILED, what, str(error))
    notices = [notice for frame in frames for notice in _meta(frame).get("notices", ())]
    errors = [notice["text"] for notice in notices if notice["severity"] == "error"]
    if errors:
        return Finding(FAILED, what, errors[0])
    if all(_is_empty(frame) for frame in frames):
        return Finding(EMPTY, what, notices[0]["text"] if notices else "")
    return Finding(OK, what)


def _built_in_panel(grafana: Grafana, board: Json, panel: Json) -> Finding:
    """Check a panel whose data sources Grafana's own server queries."""
    what = f"{board['title']} / {panel['title']}"
    values = {item["name"]: item.get("allValue") or _value(item) for item in board["templating"]["list"]}
    values |= {"ds": PROMETHEUS_UID, "tempo": TEMPO_UID}
    end = datetime.now(UTC)
    queries = [with_values(query, values) for query in panel["targets"]]
    if any(_is_search(query) and not query["query"] for query in queries):
        return Finding(EMPTY, what, "a trace has to be chosen")
    start = end - _length(board["time"]["from"])
    try:
        # Up to Grafana 12.3 the browser searches a Tempo itself; what it is sent is the same in later ones.
        found = [_search(grafana, query, start, end) for query in queries if _is_search(query)]
        queries = [query for query in queries if not _is_search(query)]
        found += _asked(grafana, queries, start, end) if queries else []
    except GrafanaRefused as error:
        return Finding(FAILED, what, str(error))
    return Finding(OK if any(found) else EMPTY, what)


def _is_search(query: Json) -> bool:
    return query.get("queryType") == "traceql"


def _search(grafana: Grafana, query: Json, start: datetime, end: datetime) -> bool:
    """Return whether a search finds traces. Raises :class:`GrafanaRefused`."""
    asked = {"q": query["query"], "limit": query["limit"], "spss": query["spss"]}
    times = {"start": int(start.timestamp()), "end": int(end.timestamp())}
    return bool(grafana.get("datasources", "proxy", "uid", TEMPO_UID, "api", "search", **asked, **times)["traces"])


def _asked(grafana: Grafana, queries: Sequence[Json], start: datetime, end: datetime) -> list[bool]:
    """Return, for each frame, whether it has data. Raises :class:`GrafanaRefused`, also for the first failed query."""
    body = {
        "from": str(round(start.timestamp() * 1000)),
        "to": str(round(end.timestamp() * 1000)),
        "queries": [{**query, "intervalMs": 60_000, "maxDataPoints": 120} for query in queries],
    }
    results = grafana.post("ds", "query", body=body)["results"]
    for result in results.values():
        if result.get("error"):
            raise GrafanaRefused(result["error"])
    return [not _is_empty(frame) for result in results.values() for frame in result.get("frames", ())]


def with_values(query: Json, values: Mapping[str, str]) -> Json:
    """Return a query with the dashboard's variables in place; those of Grafana itself stay."""

    def value(found: re.Match[str]) -> str:
        return values.get(found[1] or found[2], found[0])

    text = _VARIABLE.sub(lambda found: json.dumps(value(found))[1:-1], json.dumps(query))
    filled: Json = json.loads(text)
    return filled


def _value(variable: Mapping[str, Any]) -> str:
    current = variable.get("current", {}).get("value", "")
    return str(current[0] if isinstance(current, list) and current else current or "")


def _interpolated(payload: str, values: Mapping[str, str]) -> Any:
    return json.loads(_REFERENCE.sub(lambda found: f"var-{found[1]}={quote(values[found[1]], safe='$')}", payload))


def _length(text: str) -> timedelta:
    """Return ``now-6h`` and the like as a length."""
    number, unit = int(text[len("now-") : -1]), text[-1]
    return timedelta(seconds=number * _SECONDS[unit])


def _meta(frame: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = frame.get("schema", frame).get("meta", {})
    return found


def _is_empty(frame: Mapping[str, Any]) -> bool:
    if "data" in frame:
        return not any(frame["data"]["values"])
    return not (frame.get("rows") or frame.get("datapoints"))
