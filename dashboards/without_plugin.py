"""The dashboards for a Grafana that has no plugin: the same panels, asked through Prometheus and Tempo.

Every panel is translated, query by query, from its definition for the JSON data source, so there is one description of
each. Numbers come from the metric engine either way. Parts that neither source can answer (messages, flame graphs,
different users …) are left out, and so is a panel of which nothing remains. Grafana's own server asks these sources, so
such dashboards can be shared publicly and their queries can become alerts.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dashboards.board import Board
from dashboards.panels import GREEN, NO_VALUE, ORANGE, RED, steps
from dashboards.promql_metrics import LABELS, METRICS, PromqlMetric
from dashboards.queries import Json
from dashboards.variables import GROUPS, IN_CONTROLS_MENU, choice_variable, source_variable

PROMETHEUS: Final = {"type": "prometheus", "uid": "${ds}"}
TEMPO: Final = {"type": "tempo", "uid": "${tempo}"}
FEWEST_PANELS: Final = 3
"""Fewest panels of a dashboard: one of which fewer remain is left out."""

_SPAN_VARIABLES: Final = ("project", "environment", "service", "model")
_GROUP: Final = "${group_by:queryparam}"
_SEARCHES: Final[Mapping[str, str]] = {
    "errors": "status = error",
    "traces": "true",
    "slowest": "duration > 1s",
}
"""Tables of spans, and the TraceQL of their conditions."""
_NOT_ASKED: Final = frozenset({"alertlist", "text"})


def boards_without_plugin(boards: Sequence[Board]) -> tuple[Board, ...]:
    """Return the translations of those ``boards`` of which enough remains, in their order."""
    found = (_translated(board) for board in boards)
    return tuple(board for board in found if sum(len(row.panels) for row in board.rows) >= FEWEST_PANELS)


def _translated(board: Board) -> Board:
    rows = [replace(row, panels=[item for item in map(_panel, row.panels) if item is not None]) for row in board.rows]
    names = {item["name"] for item in board.variables}
    variables = [
        *_sources(),
        *(_label_variables() if board.common else ()),
        *([_group_variable()] if "group_by" in names else []),
        *(item for item in board.variables if item["name"] == "trace_id"),
    ]
    return replace(board, rows=[row for row in rows if row.panels], variables=variables, common=False)


def _panel(panel: Json) -> Json | None:
    """Return the panel with queries for the other sources; None if nothing of it can be asked."""
    if panel["type"] in _NOT_ASKED:
        return {**copy.deepcopy(panel), "datasource": dict(PROMETHEUS)}
    if panel.get("transformations") or not panel["targets"]:
        return None
    translated = copy.deepcopy(panel)
    targets: list[Json] = []
    for query in panel["targets"]:
        targets += _targets(query["target"], json.loads(query["payload"]), panel, chr(ord("A") + len(targets)))
    if not targets:
        return None
    translated |= {"targets": targets, "datasource": dict(targets[0]["datasource"])}
    _adapt(translated, panel)
    return translated


def _targets(name: str, payload: Json, panel: Json, first: str) -> list[Json]:
    """Return the queries that are equivalent to a target with that payload; empty if there are none."""
    if name in _SEARCHES:
        limit = int(payload.get("limit", 20))
        return [_search(_SEARCHES[name], limit, first, is_filtered="service" in payload)]
    if name == "trace" or (name == "node_graph" and payload.get("one_trace")):
        return [{"refId": first, "datasource": dict(TEMPO), "queryType": "traceql", "query": "${trace_id}"}]
    if name == "budgets":
        return list(_budgets())
    by = _by(payload)
    if by is None:
        return []
    metrics = _metrics(payload)
    if name == "heatmap" and payload.get("metric") == "duration":
        expression = f"sum by (le) (increase(llm_duration_seconds_bucket{{{_where(payload, '')}}}[$__interval]))"
        return [_range(expression, first, "{{le}}", format="heatmap")]
    if name == "availability":
        return [_range(METRICS["error_rate"].write(by, _where(payload, by), "$__interval"), first, _legend(by))]
    if name not in ("stat", "timeseries", "breakdown") or payload.get("period") not in (None, "", "day"):
        return []
    asked = []
    # Percentiles of one metric are named by themselves, as with the plugin, so that each keeps its colour.
    parts = str(payload.get("aggregation", "")).split(",")
    names = parts if len(parts) == len(metrics) > 1 else [metric.label for metric in metrics]
    for place, metric in enumerate(metrics):
        ref_id = chr(ord(first) + place)
        legend = _legend(by) if len(metrics) == 1 and by else names[place]
        if name == "timeseries":
            asked.append(_range(metric.write(by, _where(payload, by), "$__interval"), ref_id, legend))
        else:
            asked.append(_instant(metric, payload, by, ref_id, legend, is_table=panel["type"] == "table"))
    return asked


def _metrics(payload: Mapping[str, Any]) -> list[PromqlMetric]:
    """Return the metrics of a payload that are known here; none if the first is unknown, since it defines the order."""
    names = str(payload.get("metric", "")).split(",")
    aggregations = str(payload.get("aggregation", "")).split(",") if payload.get("aggregation") else [""]
    wanted = [f"{name}_{part}" if part else name for name in names for part in aggregations]
    found = [METRICS.get(name) for name in wanted]
    return [metric for metric in found if metric is not None] if found and found[0] is not None else []


def _by(payload: Mapping[str, Any]) -> str | None:
    """Return the labels to split by, in PromQL; None if a dimension is not a label."""
    asked = payload.get("group_by", "")
    if asked == _GROUP:
        return "$group_by"
    names = [name for name in str(asked).split(",") if name]
    return ", ".join(LABELS[name] for name in names) if all(name in LABELS for name in names) else None


def _where(payload: Mapping[str, Any], by: str) -> str:
    """Return the matchers of a payload: variables of the dashboard, services, and only groups that have a name."""
    matchers = [f'{name}=~"${name}"' for name in _SPAN_VARIABLES if name in payload]
    if "where" in payload:
        tree = json.loads(payload["where"])
        services = "|".join(re.escape(value) for value in tree["value"]).replace("\\", "\\\\")
        matchers.append(f'service=~"{services}"')
    if payload.get("missing") == "hide" and by:
        matchers += [f'{name}!=""' for name in by.split(", ")]
    return ", ".join(matchers)


def _legend(by: str) -> str:
    if by == "$group_by":
        return "{{$group_by}}"
    return " / ".join(f"{{{{{name}}}}}" for name in by.split(", ")) if by else ""


def _range(expression: str, ref_id: str, legend: str, **more: str) -> Json:
    return _query(expression, ref_id, legend, instant=False, format=more.get("format", "time_series"))


def _instant(
    metric: PromqlMetric, payload: Mapping[str, Any], by: str, ref_id: str, legend: str, *, is_table: bool
) -> Json:
    where = _where(payload, by)
    expression = metric.write(by, where, "$__range")
    if payload.get("period") == "day":
        # A counter without a window counts from midnight UTC.
        expression = re.sub(r"increase\((\w+\{[^}]*\})\[\$__range\]\)", r"\1", expression)
    if payload.get("limit") and by and not is_table:
        expression = f"topk({payload['limit']}, {expression})"
    return _query(expression, ref_id, legend, instant=True, format="table" if is_table else "time_series")


def _query(expression: str, ref_id: str, legend: str, *, instant: bool, format: str) -> Json:
    return {
        "refId": ref_id,
        "datasource": dict(PROMETHEUS),
        "editorMode": "code",
        "expr": expression,
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
        "format": format,
        "exemplar": False,
    }


def _search(condition: str, limit: int, ref_id: str, *, is_filtered: bool) -> Json:
    """Return a TraceQL search for spans, of the chosen services where the dashboard has that variable."""
    parts = [condition] if condition != "true" else []
    if is_filtered:
        parts.append('resource.service.name =~ "${service:regex}"')
    return {
        "refId": ref_id,
        "datasource": dict(TEMPO),
        "queryType": "traceql",
        "query": f"{{ {' && '.join(parts)} }}",
        "limit": min(limit, 100),
        "spss": 3,
        "tableType": "traces" if condition == "true" else "spans",
    }


def _budgets() -> Iterator[Json]:
    labels = "project, budget, period"
    for place, share in enumerate(("used", "projected")):
        expression = f'sum by ({labels}) (100 * llm_budget_{share}_ratio{{project=~"$project"}})'
        yield _query(expression, chr(ord("A") + place), "", instant=True, format="table")


def _adapt(translated: Json, panel: Json) -> None:
    """Adapt the options, columns and links of the translated panel to the new answers."""
    targets = translated["targets"]
    if targets[0]["datasource"] == TEMPO:
        translated["fieldConfig"]["overrides"] = []
        return
    translated["interval"] = "1m"
    if panel["type"] == "stat":
        translated["options"]["showPercentChange"] = False
    if panel["type"] == "heatmap":
        translated["options"] |= {"yAxis": {"unit": "s", "axisPlacement": "left"}}
    if panel["type"] == "state-timeline":
        # Adjacent values of one threshold are one state; mappings of ranges would be applied too late.
        defaults = {"unit": "percentunit", "thresholds": steps(_STATES), "color": {"mode": "thresholds"}}
        translated["fieldConfig"]["defaults"] |= defaults
    if panel["type"] != "table":
        return
    # The text for an empty table is also shown in each empty cell, since our server's column settings are missing.
    translated["fieldConfig"]["defaults"]["noValue"] = NO_VALUE
    payload = json.loads(panel["targets"][0]["payload"])
    if panel["targets"][0]["target"] == "budgets":
        names, units = (
            {"Value #A": "Used", "Value #B": "Projected use"},
            {"Used": "percent", "Projected use": "percent"},
        )
        labels = ["project", "budget", "period"]
    else:
        found = _metrics(payload)
        names = {f"Value #{target['refId']}": metric.label for target, metric in zip(targets, found, strict=True)}
        units = {metric.label: metric.unit for metric in found}
        labels = str(payload["group_by"]).split(",")
    if len(targets) == 1:
        names = {"Value": next(iter(names.values()))}
    titles = {label: _title(label) for label in labels}
    order = {name: place for place, name in enumerate([*labels, *names])}
    translated["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": titles | names,
                                       "indexByName": order}},
        {"id": "sortBy", "options": {"sort": [{"field": next(iter(names.values())), "desc": True}]}},
        {"id": "limit", "options": {"limitField": int(payload.get("limit", 20))}},
    ]  # fmt: skip
    own = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, unit in units.items()
    ]
    columns = {*titles.values(), *names.values()}
    kept = [item for item in translated["fieldConfig"]["overrides"] if item["matcher"]["options"] in columns]
    translated["fieldConfig"]["overrides"] = [*own, *json.loads(_without_lost_variables(json.dumps(kept), titles))]


_STATES: Final = ((None, GREEN), (0.05, ORANGE), (0.5, RED))
"""Shares of failed calls from which on a provider is ok, degraded, failing."""


def _title(label: str) -> str:
    return label.replace("_", " ").capitalize()


def _without_lost_variables(text: str, titles: Mapping[str, str]) -> str:
    """Return the links with the columns' names here, and without variables that do not exist here."""
    text = re.sub(r"&\$\{(?:user|filters):queryparam\}", "", text)
    for label, title in titles.items():
        text = text.replace(f'fields[\\"{label}\\"]', f'fields[\\"{title}\\"]')
    return text


def _sources() -> Iterator[Json]:
    for name, kind, label in (("ds", "prometheus", "Metrics"), ("tempo", "tempo", "Traces")):
        description = f"The {kind.capitalize()} data source of the LLM Observatory."
        yield source_variable(name, kind, label, description, regex="/LLM.*/")


def _label_variables() -> Iterator[Json]:
    for name in _SPAN_VARIABLES:
        under = "" if name == "project" else '{project=~"$project"}'
        query = f"label_values(llm_spans_total{under}, {name})"
        yield {
            "type": "query",
            "name": name,
            "label": name.capitalize(),
            "description": f"{name.capitalize()}; All for no filter.",
            "datasource": dict(PROMETHEUS),
            "definition": query,
            "query": {"query": query, "refId": name, "qryType": 1},
            "refresh": 2,
            "sort": 1,
            "multi": name != "project",
            "includeAll": True,
            "allValue": ".*",
            "regex": "",
            "hide": IN_CONTROLS_MENU if name == "project" else 0,
            "options": [],
            "current": {"text": ["All"], "value": ["$__all"]}
            if name != "project"
            else {"text": "All", "value": "$__all"},
            "skipUrlSync": False,
        }


def _group_variable() -> Json:
    choices = tuple((name, text) for name, text in GROUPS if name in LABELS)
    return choice_variable("group_by", "Group by", "By what charts are split.", choices)
