"""Builders of panels. Each returns a panel without place and id; :mod:`dashboards.board` puts it on a dashboard.

A panel names one question: title in words, a description (what, how computed, what to do), a unit. Settings
common to a kind (legend, tooltip, colours, text for "nothing") are here once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from dashboards.queries import DATASOURCE, Json, target

NOTHING: Final = "Nothing to show for this range and these filters."
"""The text of a chart or table without data. It claims nothing, since Grafana shows it with an error, too."""
NO_VALUE: Final = "–"

# The Grafana whose panel options these are. It takes a panel without a version for one of before its migrations: an
# xychart would lose its mapping and show nothing.
PLUGIN_VERSION: Final = "12.4.0"

# Colour by meaning, the same on every dashboard and in both themes. Red means errors and nothing else.
BLUE: Final = "#5794F2"
ORANGE: Final = "#FF9830"
PURPLE: Final = "#B877D9"
TEAL: Final = "#1AA398"
GREEN: Final = "#56A64B"
RED: Final = "#E02F44"
YELLOW: Final = "#D9B400"
PERCENTILE_COLORS: Final = {"p50": BLUE, "p90": TEAL, "p95": ORANGE, "p99": PURPLE}
STATUS_COLORS: Final = {"OK": GREEN, "ERROR": RED, "UNSET": BLUE}

# Points over the range: few enough to distinguish a bar from the next one, and a line from noise.
BARS: Final = 72
POINTS: Final = 120

Better = Literal["up", "down", "neither"]
"""The direction in which a figure gets better: such a change is green, the opposite red."""
_CHANGE_COLORS: Final = {"up": "standard", "down": "inverted", "neither": "same_as_value"}


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
        "noValue": NOTHING,
        "color": {"mode": "palette-classic"},
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


def lines(
    title: str,
    description: str,
    *targets: Json,
    unit: str,
    colors: dict[str, str] | None = None,
    objective: Sequence[tuple[float | None, str]] = (),
    **more: Any,
) -> Json:
    """Return lines over time, for latency, rates and shares. ``objective`` draws thresholds as dashed lines."""
    defaults: Json = {"min": 0}
    custom = _over_time("line", fill=6)
    if objective:
        defaults["thresholds"] = steps(objective)
        custom["thresholdsStyle"] = {"mode": "dashed"}
    return _chart(title, description, targets, unit, custom, defaults, POINTS, colors, more)


def columns(
    title: str,
    description: str,
    *targets: Json,
    unit: str,
    colors: dict[str, str] | None = None,
    **more: Any,
) -> Json:
    """Return stacked bars over time, for measures that add up: calls, tokens, money."""
    custom = _over_time("bars", fill=85) | {"lineWidth": 0, "barWidthFactor": 0.85, "barAlignment": 1}
    custom["stacking"] = {"mode": "normal", "group": "A"}
    return _chart(title, description, targets, unit, custom, {"min": 0}, BARS, colors, more)


def _over_time(style: str, *, fill: int) -> Json:
    return {
        "drawStyle": style,
        "lineWidth": 2,
        "lineInterpolation": "linear",
        "fillOpacity": fill,
        "gradientMode": "none",
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": False,
        "stacking": {"mode": "none", "group": "A"},
        "axisSoftMin": 0,
        "axisBorderShow": False,
    }


def _chart(
    title: str,
    description: str,
    targets: Sequence[Json],
    unit: str,
    custom: Json,
    defaults: Json,
    points: int,
    colors: dict[str, str] | None,
    more: dict[str, Any],
) -> Json:
    size = more.pop("size", (12, 8))
    overrides = [color_by_name(name, color) for name, color in (colors or {}).items()]
    # Beside a wide chart there is room for a column of names; under a narrow one they appear in a line.
    legend: Json = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
    if size[0] >= WIDE:
        calc = "sum" if custom["drawStyle"] == "bars" else "mean"
        legend = {"showLegend": True, "displayMode": "table", "placement": "right", "calcs": [calc], "width": 300}
    return panel(
        "timeseries", title, description, targets, unit=unit, size=size, custom=custom, defaults=defaults,
        options={"legend": legend, "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": True}},
        overrides=[*overrides, *more.pop("overrides", ())], maxDataPoints=points, **more,
    )  # fmt: skip


WIDE: Final = 16
"""Width from which on a chart has its legend at the right."""


def stat(
    title: str,
    description: str,
    *targets: Json,
    unit: str,
    thresholds: Sequence[tuple[float | None, str]] = (),
    better: Better = "neither",
    change: bool = False,
    **more: Any,
) -> Json:
    """Return one figure. With ``change`` the query returns the value before, too, and the change is shown in small
    print."""
    defaults: Json = {
        "noValue": NO_VALUE,
        "color": {"mode": "thresholds" if thresholds else "fixed", "fixedColor": "text"},
    }
    if thresholds:
        defaults["thresholds"] = steps(thresholds)
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "graphMode": "none",
        "colorMode": "value",
        "justifyMode": "center",
        "textMode": more.pop("text_mode", "value"),
        "orientation": "auto",
        "wideLayout": True,
        # All figures of a row in one size; by itself Grafana fits each to its panel.
        "text": {"valueSize": 28, "percentSize": 14},
        "showPercentChange": change,
        "percentChangeColorMode": _CHANGE_COLORS[better],
    }
    return panel(
        "stat", title, description, targets, unit=unit, size=more.pop("size", (3, 4)), options=options,
        defaults=defaults | more.pop("defaults", {}), **more,
    )  # fmt: skip


def figure(
    metric: str,
    title: str,
    description: str,
    unit: str,
    *,
    better: Better = "neither",
    period: str = "",
    thresholds: Sequence[tuple[float | None, str]] = (),
    **more: Any,
) -> Json:
    """Return ``metric`` over the range, or over the current ``period``, with its change against the range or period
    before."""
    asked: Json = {"metric": metric, "layout": "change", **({"period": period} if period else {})}
    asked |= more.pop("payload", {})
    return stat(
        title, description, target("stat", **asked), unit=unit, change=True, better=better, thresholds=thresholds,
        **more,
    )  # fmt: skip


def table(title: str, description: str, *targets: Json, unit: str = "none", **more: Any) -> Json:
    """Return rows; units, widths and links come with the columns from the server."""
    options = {"showHeader": True, "cellHeight": "sm", **more.pop("options", {})}
    return panel(
        "table", title, description, targets, unit=unit, size=more.pop("size", (24, 9)), options=options,
        custom={"align": "auto", "filterable": True, "minWidth": 60}, **more,
    )  # fmt: skip


def bars(title: str, description: str, *targets: Json, unit: str, **more: Any) -> Json:
    """Return one bar per group, longest first. The server sends one row with a column per group, in its colour."""
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "valueMode": "text",
        "namePlacement": "left",
        # Otherwise Grafana stretches two bars over the whole panel.
        "sizing": "manual",
        "text": {"titleSize": 12, "valueSize": 13},
        "minVizHeight": 14,
        "maxVizHeight": 26,
        "minVizWidth": 8,
        "showUnfilled": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
    }
    return panel(
        "bargauge", title, description, targets, unit=unit, options=options, defaults={"min": 0}, **more,
    )  # fmt: skip


def shares(title: str, description: str, *targets: Json, unit: str, **more: Any) -> Json:
    """Return parts of the whole range as a ring. The server sends one row with a column per part."""
    options = {
        "pieType": "donut",
        "displayLabels": [],
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "values": ["percent"]},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel("piechart", title, description, targets, unit=unit, options=options, **more)


def states(title: str, description: str, *targets: Json, **more: Any) -> Json:
    """Return states over time, a row per group."""
    options = {
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.8,
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single"},
    }
    return panel(
        "state-timeline", title, description, targets, options=options, custom={"fillOpacity": 80, "lineWidth": 0},
        # The text for no value would be a state in the legend, in red; a gap is clearer.
        defaults={"noValue": ""}, maxDataPoints=POINTS, **more,
    )  # fmt: skip


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


def sized(name: str, width: int, **properties: Any) -> Json:
    """Return an override for one column of a table with its width in pixels."""
    return column(name, custom__width=width, **properties)


def gauge_cell(name: str, color: str = BLUE) -> Json:
    """Return an override that draws one column as bars, the longest for the largest of that column."""
    return column(
        name, custom__cellOptions={"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
        color={"mode": "fixed", "fixedColor": color}, min=0, fieldMinMax=True, custom__minWidth=130,
    )  # fmt: skip


def colored_cell(name: str, thresholds: Sequence[tuple[float | None, str]]) -> Json:
    """Return an override that colours the text of one column by its value."""
    return column(
        name, custom__cellOptions={"type": "color-text"}, color={"mode": "thresholds"}, thresholds=steps(thresholds)
    )  # fmt: skip
