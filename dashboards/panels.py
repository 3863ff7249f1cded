"""Builders of panels. Each returns a panel without place and id; :mod:`dashboards.board` puts it on a dashboard.

A panel names one question: title in words, a description (what, how computed, what to do), a unit. Settings
common to a kind (legend, tooltip, colours, text for "nothing") are here once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dashboards.queries import DATASOURCE, Json

NO_TRAFFIC: Final = "No traffic"

# Version of the panel options. Grafana takes a panel without a version for one of before its migrations: an
# xychart would lose its mapping and show nothing.
PLUGIN_VERSION: Final = "12.4.0"

# Colour by meaning: percentiles keep theirs on every dashboard, errors are red.
PERCENTILE_COLORS: Final = {"p50": "green", "p90": "yellow", "p95": "orange", "p99": "red"}
STATUS_COLORS: Final = {"OK": "green", "ERROR": "red", "UNSET": "blue"}


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    unit: str = "none",
    size: tuple[int, int] = (12, 8),
    options: Json | None = None,
    custom: Json | None = None,
    defaults: Json | None = None,
    overrides: Sequence[Json] = (),
    **more: Any,
) -> Json:
    """Return a panel of any kind. ``size`` is width (of 24) and height in grid units."""
    width, height = size
    field_defaults: Json = {
        "unit": unit,
        "noValue": NO_TRAFFIC,
        "color": {"mode": "palette-classic-by-name"},
        **(defaults or {}),
    }
    if custom:
        field_defaults["custom"] = custom
    return {
        "type": kind,
        "pluginVersion": PLUGIN_VERSION,
        "title": title,
        "description": description,
        "datasource": dict(DATASOURCE),
        "targets": list(targets),
        "fieldConfig": {"defaults": field_defaults, "overrides": list(overrides)},
        "options": options or {},
        "gridPos": {"w": width, "h": height},
        **more,
    }


def time_series(
    title: str,
    description: str,
    *targets: Json,
    unit: str,
    stacked: bool = False,
    bars: bool = False,
    colors: dict[str, str] | None = None,
    **more: Any,
) -> Json:
    """Return the lines over time, or bars; ``stacked`` for parts of a whole."""
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1,
        "fillOpacity": 60 if bars or stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "axisSoftMin": 0,
    }
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel(
        "timeseries", title, description, targets, unit=unit, options=options, custom=custom,
        overrides=[color_by_name(name, color) for name, color in (colors or {}).items()],
        defaults={"min": 0}, **more,
    )  # fmt: skip


def stat(
    title: str,
    description: str,
    *targets: Json,
    unit: str,
    calc: str = "lastNotNull",
    sparkline: bool = False,
    thresholds: Sequence[tuple[float | None, str]] = (),
    decimals: int | None = None,
    **more: Any,
) -> Json:
    """Return one figure, with its change against the period before in a second field, and a sparkline for sums."""
    defaults: Json = {"color": {"mode": "thresholds" if thresholds else "fixed", "fixedColor": "text"}}
    if thresholds:
        defaults["thresholds"] = steps(thresholds)
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "reduceOptions": {"calcs": [calc], "fields": "", "values": False},
        "graphMode": "area" if sparkline else "none",
        "colorMode": "value",
        "justifyMode": "auto",
        "textMode": "value_and_name",
        "orientation": "auto",
        "wideLayout": True,
    }
    change = {
        "matcher": {"id": "byRegexp", "options": "/ change$/"},
        "properties": [
            {"id": "displayName", "value": "vs before"},
            {"id": "decimals", "value": 1},
            {"id": "color", "value": {"mode": "fixed", "fixedColor": "text"}},
        ],
    }
    return panel(
        "stat", title, description, targets, unit=unit, size=more.pop("size", (6, 4)), options=options,
        defaults=defaults, overrides=[change], **more,
    )  # fmt: skip


def table(title: str, description: str, *targets: Json, unit: str = "none", **more: Any) -> Json:
    """Return a table; units, widths and links come with the columns from the server."""
    options = {"showHeader": True, "cellHeight": "sm", **more.pop("options", {})}
    return panel(
        "table", title, description, targets, unit=unit, size=more.pop("size", (24, 9)), options=options,
        custom={"align": "auto", "filterable": True}, **more,
    )  # fmt: skip


def bars(title: str, description: str, *targets: Json, unit: str, **more: Any) -> Json:
    """Return one bar per group, longest first."""
    options = {
        "orientation": "horizontal",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single"},
        "xTickLabelMaxLength": 30,
        "showValue": "always",
    }
    return panel(
        "barchart", title, description, targets, unit=unit, options=options,
        custom={"fillOpacity": 80, "lineWidth": 1}, defaults={"min": 0}, **more,
    )  # fmt: skip


def shares(title: str, description: str, *targets: Json, unit: str, **more: Any) -> Json:
    """Return parts of the whole range as a ring. The server sends one row with a column per part."""
    options = {
        "pieType": "donut",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "values": ["value", "percent"]},
        "tooltip": {"mode": "single"},
    }
    return panel("piechart", title, description, targets, unit=unit, options=options, **more)


def steps(thresholds: Sequence[tuple[float | None, str]]) -> Json:
    """Return Grafana's thresholds: each colour from its value on, the first from the beginning."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in thresholds]}


def color_by_name(name: str, color: str) -> Json:
    """Return an override that fixes the colour of one line."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
    }


def column(name: str, **properties: Any) -> Json:
    """Return an override for one column of a table."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()],
    }
