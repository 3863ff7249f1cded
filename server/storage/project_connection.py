"""Statements of a transaction on a cluster.

A transaction of one project sends each statement to the node of that project alone. A statement that compares the
projects of two tables, ``s.project_id = c.project_id``, is planned for every shard. And one that hands what it changed
to an INSERT sends that to every node, whether or not it holds any of it, so that nobody could write while one node is
away. Both are known from the text, so :func:`steps_of` puts such statements into another form, whose effect is the same
in a transaction of one project.

Citus keeps the plan of a statement that changes several tables only if it has no arguments; it takes longer to make
than to follow. One whose arguments choose among rows of TEMP tables alone gets them as settings of the transaction,
which stay on the coordinator (docs/decisions/0300-plans-that-citus-keeps.md).

A node that was started again has ended the connections that the coordinator keeps to it, and the coordinator does not
notice that for every kind of statement. The first statement of a transaction is then run again: nothing was done yet.

There is nothing to do on one PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

import asyncpg

from server.storage.node_errors import error_of_node

_T = TypeVar("_T")

_COMMENT: Final = re.compile(r"^\s*--[^\n]*\n", re.MULTILINE)
EQUAL_PROJECTS: Final = re.compile(r"\b([a-z_]+\.project_id) = ([a-z_]+\.project_id)\b")
_PLACE: Final = re.compile(r"\$(\d+)")
_PROJECT_GIVEN: Final = re.compile(r"\bproject_id = \$\d")
_SETTING: Final = "app.argument_{}"
_HANDED_ON: Final = re.compile(
    r"(?P<changes>WITH .*\n\))\n"
    r"INSERT INTO (?P<table>[a-z_.]+)(?P<alias>(?: AS [a-z]+)?) \((?P<columns>[^()]*)\)\n"
    r"(?P<rows>SELECT\b.*?)"
    r"(?P<rest>\n(?:ON CONFLICT .*)?\n?RETURNING .*)",
    re.DOTALL,
)
_CTE: Final = re.compile(r"^(?:WITH )?([a-z]+) AS (?:MATERIALIZED )?\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Steps:
    """A statement in the form for one project."""

    text: str
    takes_project: bool
    """Whether the project is one more argument, the last."""
    then: str | None = None
    """A second statement, which inserts what the first returns as one JSON text; it decides what is returned."""
    settings: str | None = None
    """The statement that makes settings of the arguments, as texts; then ``text`` has none."""


@lru_cache(maxsize=256)
def steps_of(query: str) -> Steps:
    """Return the form of ``query`` for a transaction of one project."""
    text, then = _COMMENT.sub("", query), None
    # Without TEMP tables the node of the project runs a statement as a whole.
    handed_on = _HANDED_ON.fullmatch(text) if "pg_temp" in text else None
    if handed_on and any(re.search(rf"\b{name}\b", handed_on["rows"]) for name in _CTE.findall(handed_on["changes"])):
        table, columns = handed_on["table"], handed_on["columns"]
        text = (
            f"{handed_on['changes']}\nSELECT jsonb_agg(to_jsonb(noted))::text "
            f"FROM (\n{handed_on['rows']}\n) AS noted ({columns})"
        )
        then = (
            f"INSERT INTO {table}{handed_on['alias']} ({columns})\n"
            f"SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1::text::jsonb){handed_on['rest']}"
        )
    last = max(map(int, _PLACE.findall(text)), default=0)
    text, found = EQUAL_PROJECTS.subn(rf"(\1 = ${last + 1}::text AND \2 = ${last + 1}::text)", text)
    if then is None or not last or found or _PROJECT_GIVEN.search(text):
        return Steps(text, bool(found), then)
    noted = ", ".join(f"set_config('{_SETTING.format(place)}', ${place}, true)" for place in range(1, last + 1))
    named = _PLACE.sub(lambda place: f"current_setting('{_SETTING.format(place[1])}')", text)
    return Steps(named, False, then, f"SELECT {noted}")


class NodeConnection:
    """A connection in a transaction that names its projects; else like the connection itself."""

    def __init__(
        self, connection: asyncpg.Connection, project: str | None, begin_again: Callable[[], Awaitable[None]]
    ) -> None:
        """``project``: where the transaction is of one alone. ``begin_again`` ends the transaction and opens another
        one; it raises :class:`DatabaseUnavailable` if a node does not answer.
        """
        self._connection = connection
        self._project = project
        self._begin_again = begin_again
        self._is_untouched = True

    def __getattr__(self, name: str) -> Any:
        self._is_untouched = False
        return getattr(self._connection, name)

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Return the rows of ``query``."""
        if self._project is None:
            return await self._fetch(query, *args)
        steps = steps_of(query)
        taken = (*args, self._project) if steps.takes_project else args
        if steps.settings is not None:
            await self._fetch(steps.settings, *map(str, args))
            taken = ()
        rows = await self._fetch(steps.text, *taken)
        if steps.then is None:
            return rows
        noted = rows[0][0]
        return await self._connection.fetch(steps.then, noted) if noted is not None else []

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """Return the first row of ``query``."""
        rows = await self.fetch(query, *args)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first value of the first row of ``query``."""
        row = await self.fetchrow(query, *args)
        return row[0] if row else None

    async def execute(self, query: str, *args: Any) -> str:
        """Run ``query``; return its status."""
        if self._project is not None:
            steps = steps_of(query)
            if steps.then is not None or steps.takes_project:
                await self.fetch(query, *args)
                return ""
        return await self._first(self._connection.execute, query, *args)

    async def _fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        return await self._first(self._connection.fetch, query, *args)

    async def _first(self, run: Callable[..., Awaitable[_T]], query: str, *args: Any) -> _T:
        """Return what ``run`` returns; once more if it is the first and its node had ended the connection."""
        was_untouched, self._is_untouched = self._is_untouched, False
        if not was_untouched:
            return await run(query, *args)
        try:
            return await run(query, *args)
        except asyncpg.PostgresError as error:
            lost = isinstance(error_of_node(error), asyncpg.PostgresConnectionError)
            if not lost or self._connection.is_closed():
                raise
            await self._begin_again()
        return await run(query, *args)
