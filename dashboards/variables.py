"""Template variables and annotations of the dashboards, and links between them that keep the variables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from dashboards.queries import DATASOURCE, FILTER_VARIABLES, Json, target, variable

GROUPS: Final = (
    ("model", "Model"),
    ("provider", "Provider"),
    ("service", "Service"),
    ("environment", "Environment"),
    ("user", "User"),
    ("agent", "Agent"),
    ("tool", "Tool"),
    ("prompt_name", "Prompt"),
)


# Grafana from 12.4 on keeps such a variable in the menu of controls; older ones show it.
IN_CONTROLS_MENU: Final = 3


def datasource_variable() -> Json:
    """Return ``${ds}``: one file works in every Grafana, whatever the uid of its data source."""
    return source_variable(
        "ds", "simpod-json-datasource", "Data source", "The JSON data source of the LLM Observatory.", regex=""
    )


def source_variable(name: str, kind: str, label: str, description: str, *, regex: str) -> Json:
    """Return a choice among the data sources of ``kind`` whose names match ``regex`` (empty: all)."""
    return {
        "type": "datasource",
        "name": name,
        "label": label,
        "description": description,
        "query": kind,
        "regex": regex,
        "hide": IN_CONTROLS_MENU,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "options": [],
        "current": {},
        "skipUrlSync": False,
    }


def values_variable(name: str, label: str, field: str, *, under: Sequence[str] = (), multi: bool = True) -> Json:
    """Return the values of ``field`` in the range, narrowed by the variables ``under``."""
    query = json.dumps({"field": field, **{other: variable(other) for other in under}})
    return {
        "type": "query",
        "name": name,
        "label": label,
        "description": f"{label}; All for no filter.",
        "datasource": dict(DATASOURCE),
        "definition": field,
        "query": {"query": query, "format": "json", "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": True,
        "regex": "",
        "hide": 0,
        "options": [],
        "current": {"text": "All" if not multi else ["All"], "value": "$__all" if not multi else ["$__all"]},
        "skipUrlSync": False,
    }


def text_variable(name: str, label: str, description: str) -> Json:
    """Return a box to type into; empty for no filter."""
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "description": description,
        "query": "",
        "hide": 0,
        "options": [],
        "current": {"text": "", "value": ""},
        "skipUrlSync": False,
    }


def choice_variable(name: str, label: str, description: str, choices: Sequence[tuple[str, str]]) -> Json:
    """Return a choice of fixed values; the first is chosen."""
    options = [{"text": text, "value": value, "selected": index == 0} for index, (value, text) in enumerate(choices)]
    return {
        "type": "custom",
        "name": name,
        "label": label,
        "description": description,
        "query": ",".join(f"{text} : {value}" for value, text in choices),
        "multi": False,
        "includeAll": False,
        "hide": 0,
        "options": options,
        "current": {"text": choices[0][1], "value": choices[0][0]},
        "skipUrlSync": False,
    }


def ad_hoc_variable() -> Json:
    """Return filters on any field, chosen by the viewer."""
    return {
        "type": "adhoc",
        "name": "filters",
        "label": "Filters",
        "description": "Any field of a span.",
        "datasource": dict(DATASOURCE),
        "baseFilters": [],
        "filters": [],
        "hide": 0,
        "skipUrlSync": False,
    }


def common_variables() -> list[Json]:
    """Data source, the filters of every dashboard in the order of use, and free filters.

    Each menu depends on the project only: menus that depend on each other are fetched one after the other, before any
    panel's query. A provider is one of the free filters.
    """
    return [
        datasource_variable(),
        {**values_variable("project", "Project", "projects", multi=False), "hide": IN_CONTROLS_MENU},
        values_variable("environment", "Environment", "environment", under=("project",)),
        values_variable("service", "Service", "service", under=("project",)),
        values_variable("model", "Model", "model", under=("project",)),
        text_variable("user", "User", "Exactly this user id; empty for all."),
        ad_hoc_variable(),
    ]


def group_variable() -> Json:
    """Return the dimension by which the dashboard's charts are split."""
    return choice_variable("group_by", "Group by", "By what charts are split.", GROUPS)


def annotation(name: str, source: str, color: str, *, enabled: bool, **payload: Any) -> Json:
    """Return the lines in every chart, from one of our annotation targets."""
    query = target(source, "Anno", **payload)
    return {
        "name": name,
        "enable": enabled,
        "hide": False,
        "placement": "inControlsMenu",
        "iconColor": color,
        "datasource": dict(DATASOURCE),
        "target": {key: value for key, value in query.items() if key != "datasource"},
    }


def own_annotations() -> Json:
    """Return annotations that people add within Grafana: every dashboard has them."""
    return {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }


MOST_DAYS_OF_RELEASES: Final = 7
"""Beyond a week, lines of releases cover the charts."""


def common_annotations() -> list[Json]:
    """Return first sightings of versions, price changes, error bursts and remarks of people, narrowed by the common
    variables."""
    return [
        annotation(
            "Releases",
            "annotations.releases",
            "blue",
            enabled=True,
            kinds="service_version,prompt_version",
            longest_days=MOST_DAYS_OF_RELEASES,
        ),
        annotation("New models", "annotations.releases", "purple", enabled=False, kinds="model"),
        annotation("Price changes", "annotations.prices", "yellow", enabled=False),
        annotation("Error bursts", "annotations.errors", "red", enabled=False),
        annotation("Remarks", "annotations.custom", "green", enabled=True),
    ]


_KEPT: Final = ("ds", *FILTER_VARIABLES, "filters")


def to_board(title: str, uid: str, column: str, variable: str) -> Json:
    """Return a link of a table's column to the dashboard ``uid`` with ``variable`` set to the cell.

    The other variables keep their values; the one that is set is not named twice.
    """
    kept = "&".join(f"${{{name}:queryparam}}" for name in _KEPT if name != variable)
    value = f'${{__data.fields["{column}"]:percentencode}}'
    return {"title": title, "url": f"/d/{uid}?var-{variable}={value}&{kept}&${{__url_time_range}}"}
