"""The errors by which the coordinator of a cluster reports an error of a node."""

from __future__ import annotations

import asyncpg
import pytest

from server.storage.node_errors import error_of_node


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        ("INSERT INTO noted VALUES (1, 2, ''), (1, 3, '')", asyncpg.UniqueViolationError),
        ("INSERT INTO noted VALUES (1, -1, '')", asyncpg.CheckViolationError),
        ("INSERT INTO noted VALUES (NULL, 2, '')", asyncpg.NotNullViolationError),
        (
            "INSERT INTO noted SELECT 1, 2, string_agg(md5(n::text), '') FROM generate_series(1, 900) AS n",
            asyncpg.ProgramLimitExceededError,
        ),
        ("SET statement_timeout = 10; SELECT pg_sleep(5)", asyncpg.QueryCanceledError),
    ],
    ids=["key", "check", "null", "length", "time"],
)
async def test_an_error_that_a_node_had_in_a_copy_is_known_by_its_text(
    owner: asyncpg.Connection, refused: str, kind: type[asyncpg.PostgresError]
) -> None:
    """The coordinator hands on the text alone."""
    await owner.execute("CREATE TEMP TABLE noted (a integer PRIMARY KEY, b integer CHECK (b > 0), c text UNIQUE)")
    with pytest.raises(kind) as told:
        await owner.execute(refused)
    known = error_of_node(asyncpg.InternalServerError(str(told.value)))
    assert isinstance(known, kind)
    assert known.sqlstate == told.value.sqlstate
    other = asyncpg.InternalServerError("something else")
    assert error_of_node(other) is other


async def test_a_connection_that_a_node_ended_is_known_by_its_text(owner: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as told:
        await owner.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert isinstance(error_of_node(asyncpg.InternalServerError(str(told.value))), asyncpg.PostgresConnectionError)
    lost = "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally"
    assert isinstance(error_of_node(asyncpg.InternalServerError(lost)), asyncpg.PostgresConnectionError)
