"""SQL statements by name.

Statements are in the ``sql`` folder beside the modules that use them. A block starts with a line
``-- name: list_projects``; comment lines and the statement follow, up to the next such line.
Placeholders are asyncpg's ``$1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_HEADER = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)


@cache
def load_statements() -> dict[str, str]:
    """Return all named statements.

    :raises ValueError: two statements have the same name.
    """
    found: dict[str, str] = {}
    for entry in _statement_files(files("server")):
        parts = _HEADER.split(entry.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"two statements are called {name}, the second in {entry.name}")
            found[name] = body.strip().rstrip(";")
    return found


def _statement_files(folder: Traversable) -> Iterator[Traversable]:
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if not entry.is_dir():
            continue
        if entry.name == "sql":
            yield from (file for file in entry.iterdir() if file.name.endswith(".sql"))
        else:
            yield from _statement_files(entry)


def statement(name: str) -> str:
    """Return the SQL text of the statement ``name``.

    :raises KeyError: there is no such statement.
    """
    return load_statements()[name]
