"""Questions of panels: targets of the data source with the dashboard's variables in their payloads.

Every variable goes in as ``${name:queryparam}``, the only form that survives every value, and every target is
``strict``: should a payload be lost in the browser, the panel says so instead of showing everything.
Keys are checked against the catalogue here, so that a dashboard cannot ask for what does not exist.
"""

from __future__ import annotations

import json
from typing import Any, Final

from datasource.panel_catalog import TARGETS

DATASOURCE: Final = {"type": "simpod-json-datasource", "uid": "${ds}"}

# Variables that narrow every panel; each is a key of the payload by the same name.
FILTER_VARIABLES: Final = ("project", "environment", "service", "provider", "model", "user")

Json = dict[str, Any]


def variable(name: str) -> str:
    """Return the reference to a dashboard variable as written in a payload."""
    return f"${{{name}:queryparam}}"


def target(name: str, ref_id: str = "A", *, filtered: bool = True, **payload: Any) -> Json:
    """Return the query of a panel. ``filtered`` adds the dashboard's filter variables; ``payload`` wins over them.

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
