"""SQL statements by name.

Statements are in the ``sql`` folder beside the modules that use them. A block starts with a line
``-- name: list_projects``; comment lines and the statement follow, up to the next such line.
Placeholders are asyncpg's ``$1``.

A list of columns that several statements share is a block of its own, ``-- columns: span_key``. Where a
statement says ``$columns(span_key)`` it gets the list, and with a pattern, ``$columns(span_key, old.* AS old_*)``,
the pattern for each column, with the column in place of ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

_HEADER: Final = re.compile(r"^-- (name|columns): *([a-z][a-z0-9_]*) *$", re.MULTILINE)
_COLUMNS: Final = re.compile(r"\$columns\(([a-z_]+)(?:, ([^)]+))?\)")
_COMMENT: Final = re.compile(r"^--.*$", re.MULTILINE)


@cache
def load_statements() -> dict[str, str]:
    """Return all named statements, with their lists of columns filled in.

    :raises ValueError: two blocks have the same name.
    :raises KeyError: a statement names a list of columns that there is not.
    """
    lists = {name: _columns(body) for name, body in _blocks("columns").items()}

    def expand(match: re.Match[str]) -> str:
        pattern = match[2] or "*"
        return ", ".join(pattern.replace("*", column) for column in lists[match[1]])

    return {name: _COLUMNS.sub(expand, body) for name, body in _blocks("name").items()}


def statement(name: str) -> str:
    """Return the SQL text of the statement ``name``.

    :raises KeyError: there is no such statement.
    """
    return load_statements()[name]


@cache
def fragment(name: str) -> str:
    """Return the named piece of SQL without its comment lines, for use inside a statement."""
    return "\n".join(line for line in statement(name).splitlines() if not line.startswith("--"))


def _columns(body: str) -> tuple[str, ...]:
    return tuple(column.strip() for column in _COMMENT.sub("", body).split(","))


@cache
def _blocks(kind: str) -> dict[str, str]:
    """Return the blocks of a kind (name or columns), by name."""
    found: dict[str, str] = {}
    for entry in _statement_files(files("server")):
        _, *parts = _HEADER.split(entry.read_text(encoding="utf-8"))
        for kind_found, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            if kind_found != kind:
                continue
            if name in found:
                raise ValueError(f"two blocks are called {name}, the second in {entry.name}")
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
