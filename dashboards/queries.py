"""Questions of panels: targets of the data source with the dashboard's variables in their payloads.

Every variable goes in as ``${name:queryparam}``, the only form that survives every value, and every target is
``strict``: if a payload is lost in the browser, the panel reports that instead of showing everything. Keys are checked
against the catalogue here, so that a dashboard cannot contain a key that does not exist.
"""

from __future__ import annotations

import json
from typing import Any, Final

from datasource.panel_catalog import TARGETS

DATASOURCE: Final = {"type": "simpod-json-datasource", "uid": "${ds}"}

# Variables that narrow every panel; each is a key of the payload by the same name.
FILTER_VARIABLES: Final = ("project", "environment", "service", "model", "user")

Json = dict[str, Any]


def variable(name: str) -> str:
    """Return the reference to a dashboard variable as written in a payload."""
    return f"${{{name}:queryparam}}"


def target(name: str, ref_id: str = "A", *, filtered: bool = True, **payload: Any) -> Json:
    """Return the query of a panel. ``filtered`` adds the dashboard's filter variables; ``payload`` takes precedence.

    Raises ValueError for a target or a key that the catalogue does not have.
    """
    definition = TARGETS.get(name)
    if definition is None:
        raise ValueError(f"there is no target {name}")
    keys = FILTER_VARIABLES if filtered else ()
    narrowing = {key: variable(key) for key in keys if definition.field_named(key) is not None}
    complete = {**narrowing, **payload}
    for key in complete:
        if definition.field_named(key) is None:
            raise ValueError(f"{name} takes no {key}")
    if not complete:
        raise ValueError(f"{name}: a strict target needs at least one key")
    return {
        "refId": ref_id,
        "datasource": dict(DATASOURCE),
        "editorMode": "code",
        "strict": True,
        "target": name,
        "payload": json.dumps(complete, ensure_ascii=False),
    }


def series(metric: str, by: str = "", ref_id: str = "A", **payload: Any) -> Json:
    """Return ``metric`` over time, split ``by`` a dimension: each group in its colour, and a notice about calls without
    a value."""
    split: Json = {"group_by": by, "missing": "hide"} if by else {}
    return target("timeseries", ref_id, metric=metric, incomplete="hide", colors=True, **{**split, **payload})


def ranking(metric: str, by: str, ref_id: str = "A", *, limit: int = 10, **payload: Any) -> Json:
    """Return the groups with most of ``metric`` as one row with a column per group, each in its colour."""
    asked = {"metric": metric, "group_by": by, "limit": limit, "layout": "columns", "missing": "hide", "colors": True}
    return target("breakdown", ref_id, **{**asked, **payload})


def rows(metrics: str, by: str, ref_id: str = "A", *, limit: int = 20, **payload: Any) -> Json:
    """Return a table: one row per group of ``by``, one column per metric, sorted by the first metric, largest first."""
    asked = {"metric": metrics, "group_by": by, "limit": limit, "missing": "hide"}
    return target("breakdown", ref_id, **{**asked, **payload})
