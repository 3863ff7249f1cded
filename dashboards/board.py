"""A dashboard: places its panels, and adds the common parts of all dashboards (uid, tags, time, links, variables)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dashboards.queries import Json
from dashboards.variables import common_annotations, common_variables, own_annotations

SCHEMA_VERSION: Final = 42
"""Classic dashboard JSON as both Grafana 12.4 and 13.1 write it; older ones migrate it on load."""
TAG: Final = "llm-traces"
DETAIL_TAG: Final = "llm-trace-detail"
"""The tag of dashboards about a single thing, which are reached by links and are not in a menu."""
GRID_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Row:
    """A heading with panels below it, or panels without a heading. A collapsed row sends no queries until it is
    opened."""

    title: str | None
    panels: Sequence[Json]
    collapsed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard. ``uid`` never changes, because links, alerts and bookmarks contain it.

    ``common`` adds the filters and annotations that all dashboards over a range share; ``in_menu`` is false for a
    dashboard about a single thing, which is empty until a link has chosen the thing.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    time_from: str = "now-6h"
    refresh: str = "1m"
    variables: Sequence[Json] = ()
    common: bool = True
    links: Sequence[Json] = field(default_factory=tuple)
    in_menu: bool = True

    def render(self) -> Json:
        """Return the dashboard as Grafana stores it, ready for provisioning, import and API alike."""
        chosen = common_variables() if self.common else []
        return {
            "id": None,
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG] if self.in_menu else [DETAIL_TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 0,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "browser",
            "time": {"from": self.time_from, "to": "now"},
            "timepicker": {},
            "refresh": self.refresh,
            "fiscalYearStartMonth": 0,
            "liveNow": False,
            "weekStart": "monday",
            "annotations": {"list": [own_annotations(), *(common_annotations() if self.common else [])]},
            "templating": {"list": [*chosen, *self.variables]},
            "links": [*_menu(), *self.links],
            "panels": place(self.rows),
        }


def place(rows: Sequence[Row]) -> list[Json]:
    """Return all panels with ids and positions: left to right, then down, row by row."""
    placed: list[Json] = []
    number, y = 1, 0
    for row in rows:
        heading: Json = {
            "type": "row",
            "id": number,
            "title": row.title,
            "collapsed": row.collapsed,
            "gridPos": {"x": 0, "y": y, "w": GRID_WIDTH, "h": 1},
            "panels": [],
        }
        number, y = (number, y) if row.title is None else (number + 1, y + 1)
        x = height = 0
        inside: list[Json] = []
        for panel in copy.deepcopy(list(row.panels)):
            width = panel["gridPos"]["w"]
            if x + width > GRID_WIDTH:
                x, y, height = 0, y + height, 0
            panel["gridPos"] |= {"x": x, "y": y}
            panel["id"] = number
            number, x = number + 1, x + width
            height = max(height, panel["gridPos"]["h"])
            inside.append(panel)
        y += height
        if row.title is None:
            placed += inside
        elif row.collapsed:
            heading["panels"] = inside
            placed.append(heading)
        else:
            placed += [heading, *inside]
    return placed


def dashboard_link(uid: str, title: str) -> Json:
    """Return a link to another of our dashboards that keeps range and variables."""
    return {
        "type": "link",
        "title": title,
        "url": f"/d/{uid}",
        "icon": "dashboard",
        "keepTime": True,
        "includeVars": True,
        "targetBlank": False,
        "asDropdown": False,
        "tags": [],
        "tooltip": "",
    }


def _menu() -> list[dict[str, Any]]:
    return [
        {
            "type": "dashboards",
            "title": "LLM dashboards",
            "tags": [TAG],
            "asDropdown": True,
            "icon": "external link",
            "includeVars": True,
            "keepTime": True,
            "targetBlank": False,
            "tooltip": "",
            "url": "",
        }
    ]
