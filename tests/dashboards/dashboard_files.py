"""Reads dashboards as Grafana and its JSON data source do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from dashboards.build import FOLDER

Json = dict[str, Any]
_REFERENCE = re.compile(r"\$\{(\w+):queryparam\}")
ALL = "$__all"


def load() -> dict[str, Json]:
    """Return every committed dashboard by its file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels_of(board: Json) -> Iterator[Json]:
    """Yield all panels, those in collapsed rows too, without the rows."""
    for panel in board["panels"]:
        yield from panel.get("panels", [])
        if panel["type"] != "row":
            yield panel


def initial_values(board: Json, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the value of each variable when the dashboard is opened, except for those ``chosen``."""
    values = {}
    for variable in board["templating"]["list"]:
        current = variable.get("current", {}).get("value", "")
        values[variable["name"]] = current[0] if isinstance(current, list) else current
    return {**values, **chosen}


def interpolate(text: str, values: Mapping[str, str]) -> Any:
    """Return ``text`` with its variables replaced and parsed, as the plugin's code mode does."""
    return json.loads(_REFERENCE.sub(lambda match: f"var-{match[1]}={quote(values[match[1]], safe='$')}", text))
