"""SQL statements by name.

Statements stand in ``server/queries/sql/*.sql``. A block starts with a line ``-- name: list_projects``;
comment lines and the statement follow, up to the next such line. Placeholders are asyncpg's ``$1``.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_HEADER = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)


@cache
def load_statements() -> dict[str, str]:
    """All named statements. Raises ValueError when a name stands twice."""
    found: dict[str, str] = {}
    folder = files("server.queries").joinpath("sql")
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if not entry.name.endswith(".sql"):
            continue
        parts = _HEADER.split(entry.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"statement {name} stands twice (again in {entry.name})")
            found[name] = body.strip().rstrip(";")
    return found


def statement(name: str) -> str:
    """The SQL text of the statement ``name``. Raises KeyError for an unknown one."""
    return load_statements()[name]
