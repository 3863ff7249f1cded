"""The tables of the Grafana pages, from the catalogue of targets and the dashboards' definitions."""

from __future__ import annotations

from dashboards.build import BOARDS
from datasource.panel_catalog import TARGETS
from datasource.payload_fields import MEASURED, ROWS, PayloadField

_COMMON = {item.name for item in (*ROWS, *MEASURED)}


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")


def targets() -> str:
    """Return every target with what it answers and what it takes beyond the common keys."""
    rows = ["| Target | Answers | Form | Panels | Unit | Scope |", "|---|---|---|---|---|---|"]
    rows += [
        f"| `{item.name}` | {_cell(item.sentence)} Asks the {item.core}. | {item.shape.value} | "
        f"{', '.join(item.panels)} | {item.unit} | `{item.permission}` |"
        for item in TARGETS.values()
    ]
    return "\n".join(rows)


def own_keys() -> str:
    """Return the keys that only some targets take."""
    rows = ["| Target | Key | Values | Default | Meaning |", "|---|---|---|---|---|"]
    rows += [
        f"| `{target.name}` | {_key(item)} |"
        for target in TARGETS.values()
        for item in target.fields
        if item.name not in _COMMON or (item.name == "tag" and not item.filter_field)
    ]
    return "\n".join(rows)


def common_keys() -> str:
    """Return the keys that narrow the rows, the same everywhere."""
    rows = ["| Key | Values | Default | Meaning |", "|---|---|---|---|"]
    rows += [f"| {_key(item)} |" for item in ROWS]
    return "\n".join(rows)


def _key(item: PayloadField) -> str:
    values = ", ".join(f"`{value}`" for value, _ in item.options)
    if not values:
        values = f"{item.least} to {item.most}" if item.most else item.kind.value
    default = "" if item.default is None else f"`{str(item.default).lower()}`"
    return f"`{item.name}` | {values} | {default} | {_cell(item.sentence)}"


def dashboards() -> str:
    """Return every dashboard with its panels, row by row."""
    parts = []
    for board in BOARDS:
        lines = [f"### {board.title} (`{board.uid}`)", "", board.description, ""]
        for row in board.rows:
            titles = "; ".join(f"{panel['title']} ({panel['type']})" for panel in row.panels)
            lines.append(f"- **{row.title or 'At a glance'}**: {titles}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
