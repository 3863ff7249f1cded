"""Links between the dashboards that keep range, filters and data source."""

from __future__ import annotations

from typing import Final

from dashboards.queries import FILTER_VARIABLES, Json

_KEPT: Final = ("ds", *FILTER_VARIABLES, "filters")


def to_board(title: str, uid: str, column: str, variable: str) -> Json:
    """Return a link of a table's column to the dashboard ``uid`` with ``variable`` set to the cell.

    The other variables keep their values; the one that is set is not named twice.
    """
    kept = "&".join(f"${{{name}:queryparam}}" for name in _KEPT if name != variable)
    value = f'${{__data.fields["{column}"]:percentencode}}'
    return {"title": title, "url": f"/d/{uid}?var-{variable}={value}&{kept}&${{__url_time_range}}"}
